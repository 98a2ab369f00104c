"""Frame order through files, by pixels that say where they belong: rows 5 and 6 of docs/faults.md."""

import pathlib

import numpy as np
import pytest

from preprocessing import assemble, physical, pixels, process, scan, views
from preprocessing.study import FileScan, Report, Series
from tests.preprocessing import layouts
from tests.preprocessing.layouts import LAYOUTS, VENDORS, S, T


def scans_of(folder: pathlib.Path) -> tuple[FileScan, ...]:
    scans = tuple(scan.scan_file(folder, path) for path in scan.list_files(folder))
    assert {one.status for one in scans} == {""}
    return scans


def assembled(folder: pathlib.Path) -> tuple[list[Series], dict[str, np.ndarray], list[assemble.Drop]]:
    scans = scans_of(folder)
    values = {one.path: pixels.read(folder, one) for one in scans}
    frames = [frame for one in scans for frame in one.frames]
    series, drops = assemble.assemble(frames, lambda f: pixels.content_hash(values[f.file][f.index]))
    views.label(series)
    return series, values, drops


def told(image: np.ndarray) -> tuple[int, int, int]:
    """(slice, phase, mark) that a picture says it is."""
    low, high = sorted(set(image[image > 0].ravel().tolist()))
    assert (low - 100) % 20 == (high - 500) % 30
    return (low - 100) // 20, (high - 500) // 30, (low - 100) % 20


def told_by(series: Series, values: dict[str, np.ndarray]) -> np.ndarray:
    """`S T 3`: what every frame of the series says it is, in the order of the series."""
    return np.array([[told(values[f.file][f.index]) for f in row] for row in series.frames])


TRUTH = np.stack(np.meshgrid(range(S), range(T), indexing="ij"), -1)


@pytest.mark.parametrize("vendor", VENDORS, ids=lambda v: v.__name__)
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda v: v.__name__)
def test_every_frame_in_its_place(layout, vendor, tmp_path):
    shots = layout(vendor)
    if layout is layouts.enhanced_shuffled:
        layouts.write_enhanced(tmp_path, shots, vendor)
    else:
        layouts.write(tmp_path, shots)
    series, values, drops = assembled(tmp_path)
    marks = []
    for one in series:
        found = told_by(one, values)
        np.testing.assert_array_equal(found[..., :2], TRUTH)
        (mark,) = set(found[..., 2].ravel().tolist())
        marks.append(mark)
    twice = layout is layouts.two_acquisitions_interleaved
    assert sorted(marks) == ([2] if twice else [0, 1] if layout is layouts.mixed_magnitude_phase else [0])
    assert len(drops) == (S * T if twice else 0)
    assert {one.view for one in series} <= {"cine_sax", "flow"} and "cine_sax" in {one.view for one in series}


# Instead of a part: every slice lacks one phase, each another one.
EACH = -1.0


def missing(part: float, seed: int = 0) -> set[tuple[int, int]]:
    """That part of all frames, at random but for the first slice, which is whole."""
    if part == EACH:
        return {(s, 3 + s) for s in range(S)}
    places = [(s, p) for s in range(1, S) for p in range(T)]
    chosen = np.random.default_rng(seed).permutation(len(places))[: round(part * S * T) or 1]
    return {places[n] for n in chosen}


def lacking(vendor, gone: set[tuple[int, int]], keys: str) -> list[layouts.Shot]:
    shots = [shot for shot in layouts.one_series(vendor) if (shot.s, shot.p) not in gone]
    if keys == "count":
        for shot in shots:
            shot.attributes.pop("TriggerTime")
            shot.attributes.pop("TemporalPositionIdentifier", None)
    if keys == "bogus times":
        dice = np.random.default_rng(3)
        for shot in shots:
            shot.attributes["TriggerTime"] = round(float(dice.uniform(0, 900)), 2)
    return shots


def extra(vendor, gone, keys) -> list[layouts.Shot]:
    """One slice has three phases more than the others."""
    return [*layouts.one_series(vendor), *[layouts.Shot(1, p, vendor(1, p)) for p in range(T, T + 3)]]


def ragged(vendor, gone, keys) -> list[layouts.Shot]:
    """Each slice ends at another phase, but two."""
    return [shot for shot in layouts.one_series(vendor) if shot.p < T - max(0, shot.s - 1)]


def cut_at_both_ends(vendor, gone, keys) -> list[layouts.Shot]:
    """All slices have as many phases, but one has lost its first and the others their last."""
    return [shot for shot in layouts.one_series(vendor) if shot.p != (0 if shot.s == 2 else T - 1)]


CASES = [
    *[(lacking, part, keys) for part in (0.01, 0.05, 0.5) for keys in ("times", "count")],
    (lacking, 0.01, "bogus times"),
    (lacking, EACH, "times"),
    (lacking, EACH, "count"),
    (lacking, EACH, "bogus times"),
    (extra, 0.0, "times"),
    (ragged, 0.0, "times"),
    (cut_at_both_ends, 0.0, "times"),
]


@pytest.mark.parametrize("vendor", VENDORS, ids=lambda v: v.__name__)
@pytest.mark.parametrize(("make", "part", "keys"), CASES)
def test_missing_phases_are_never_copied_in_silence(make, part, keys, vendor, tmp_path):
    gone = missing(part) if part else set()
    shots = make(vendor, gone, keys)
    layouts.write(tmp_path, shots)
    series, values, drops = assembled(tmp_path)
    used = 0
    timed = keys == "times" or (keys == "bogus times" and vendor is layouts.philips)
    for one in series:
        assert one.notes
        filled = physical.values(np.stack([values[f.file][f.index] for f in one.flat()]), one)
        filled = filled.reshape(one.slices, one.phases, *filled.shape[1:])
        kept = sorted({told(values[row[0].file][row[0].index])[0] for row in one.frames})
        for s, row, images in zip(kept, one.frames, filled, strict=True):
            for p, (frame, image) in enumerate(zip(row, images, strict=True)):
                assert frame.missing == ((s, p) in gone)
                if frame.missing:  # halfway between its neighbours, whose phases the pixels tell on a straight line
                    assert image[8, 8] == pytest.approx(500 + 30 * p, abs=1)
                else:
                    assert told(image)[:2] == (s, p)
                    used += 1
    assert used + len(drops) == len(shots)
    assert all(drop.reason for drop in drops)
    if make is not lacking:
        assert {d.reason for d in drops} <= {
            "slice has extra phases",
            "slice lacks phases",
            "slice starts at another phase",
        }
        assert drops and sum(one.interpolated.sum() for one in series) == 0
    if part in (0.01, EACH):
        assert sum(one.interpolated.sum() for one in series) == (len(gone) if timed else 0)
        assert (len(drops) == 0) == timed


def test_the_record_says_which_frames_were_made(tmp_path):
    layouts.write(tmp_path / "in", lacking(layouts.siemens, {(2, 5)}, "times"))
    settings = process.Settings(
        root=tmp_path / "in", work_dir=tmp_path, key=b"0" * 32, image_size=16, spacing_mm=1.5, bits=16
    )
    result = process.build(settings, process.Task("1.2.840.55", scans_of(tmp_path / "in"), Report("Normal.", "", ())))
    assert result.example is not None
    assert result.example["series/n_interpolated"].tolist() == [1]
    assert np.flatnonzero(result.example["frame_interpolated"]).tolist() == [2 * T + 5]
    assert result.example["frames"].shape == (S * T, 16, 16) and result.example["frames"].dtype == np.uint16
    assert result.example["slice_level"] == ["base", "base", "mid", "apex"]
    assert {row["reason"] for row in result.series} == {"1 missing phases interpolated in time"}
    assert {status for _, status, _ in result.files} == {"used"}
