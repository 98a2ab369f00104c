"""Frame order, on frames that know their true slice and phase (field/faults.md rows 5 and 6)."""

import dataclasses
import itertools
import math
import random

import numpy as np
import pytest

from preprocessing import assemble
from preprocessing.study import NAN, TIME_KEYS, Frame, Vector
from tests.preprocessing.tiny_dicom import SAX, orthonormal

S, T = 4, 8
RIGHT, DOWN = orthonormal(SAX)


def vector(values: np.ndarray) -> Vector:
    x, y, z = map(float, values)
    return x, y, z


def frame(s: int, p: int, *, place: float | None = None, **changes) -> Frame:
    """Frame (s, p) of a stack; its truth stands in the file name."""
    position = np.cross(RIGHT, DOWN) * (-10.0 * s if place is None else place)
    times = {"TriggerTime": 40.0 * p + s, "InstanceNumber": float(s * T + p + 1)} | changes.pop("times", {})
    base = Frame(
        file=f"{s}/{p}",
        index=0,
        sop_uid=f"1.{s}.{p}",
        series_uid="1.9",
        series_number=1,
        acquisition=1,
        description="",
        rows=8,
        cols=8,
        position=vector(position),
        right=vector(RIGHT),
        down=vector(DOWN),
        spacing=(1.5, 1.5),
        echo=1.5,
        kind=("ORIGINAL", "M"),
        times=tuple(times.get(key, NAN) for key in TIME_KEYS),
    )
    return dataclasses.replace(base, **changes)


def grid(**changes) -> list[Frame]:
    return [frame(s, p, **changes) for s, p in itertools.product(range(S), range(T))]


def truth(series) -> list[list[str]]:
    return [[f.file for f in one_slice] for one_slice in series.frames]


EXPECTED = [[f"{s}/{p}" for p in range(T)] for s in range(S)]
NO_TIMES = {"TriggerTime": NAN}


def a_series_per_slice():
    return [dataclasses.replace(f, series_uid=f"1.{f.file[0]}", series_number=int(f.file[0])) for f in grid()]


def instance_numbers_only():
    return grid(times=NO_TIMES)


def constant_trigger_time():
    return grid(times={"TriggerTime": 0.0})


def bogus_trigger_time():
    rng = random.Random(0)
    return [frame(s, p, times={"TriggerTime": rng.random() * 900}) for s, p in itertools.product(range(S), range(T))]


def slice_numbered_within_phase():
    return [
        frame(s, p, times={**NO_TIMES, "InstanceNumber": float(p * S + s + 1)})
        for s, p in itertools.product(range(S), range(T))
    ]


def duplicate_instance_numbers():
    return [frame(s, p, times={"InstanceNumber": float(p // 2)}) for s, p in itertools.product(range(S), range(T))]


def temporal_index_against_instance_number():
    return [
        frame(s, p, times={"TemporalPositionIndex": float(p), "InstanceNumber": float(99 - p)})
        for s, p in itertools.product(range(S), range(T))
    ]


@pytest.mark.parametrize(
    "layout",
    [
        grid,
        a_series_per_slice,
        instance_numbers_only,
        constant_trigger_time,
        bogus_trigger_time,
        slice_numbered_within_phase,
        duplicate_instance_numbers,
        temporal_index_against_instance_number,
    ],
)
def test_every_frame_in_its_place_whatever_the_listing(layout):
    frames = layout()
    for seed in range(3):
        random.Random(seed).shuffle(frames)
        (series,), drops = assemble.assemble(frames)
        assemble.place(series, (False, False, False))
        assert truth(series) == EXPECTED
        assert drops == []
    np.testing.assert_allclose(series.slice_position_mm, [0, 10, 20, 30], atol=1e-3)
    assert series.slice_gap_mm == pytest.approx(10, abs=1e-3)


CLOCK = [900.0 * p + 70 * math.sin(7 * p) for p in range(30)]  # milliseconds: a picture a beat
SKIPPED = [t + 900.0 * (p > 12) for p, t in enumerate(CLOCK)]
AFTER_R_WAVE = {
    "constant": lambda p, clock: 50.0,
    "jitter with doubles": lambda p, clock: 50 + (37 * p) % 21 / 4,
    "jitter": lambda p, clock: 50 + (7 * p) % 31 / 9,
    "through the beats": lambda p, clock: round(clock[p] - clock[0]),
}


@pytest.mark.parametrize("clock", [CLOCK, SKIPPED], ids=["every beat", "a beat skipped"])
@pytest.mark.parametrize("habit", AFTER_R_WAVE)
def test_perfusion_has_a_picture_a_beat_and_none_is_made_up(habit, clock):
    """Pictures of one moment of the heart: their times after the R wave say nothing of their order, and a time that
    grows from beat to beat has a hole where the scanner skipped one."""
    frames = []
    for s, p in itertools.product(range(3), range(30)):
        seconds = 36000 + (0 if habit == "through the beats" else (clock[p] + 100 * s) / 1000)
        times = {"TriggerTime": AFTER_R_WAVE[habit](p, clock) + 100 * s, "AcquisitionTime": seconds}
        frames.append(frame(s, p, acquisition=p + 1, times={**times, "InstanceNumber": float(p * 3 + s)}))
    random.Random(4).shuffle(frames)
    (series,), drops = assemble.assemble(frames)
    assemble.place(series, (False, False, False))
    assert truth(series) == [[f"{s}/{p}" for p in range(30)] for s in range(3)]
    assert drops == [] and not series.interpolated.any()


@pytest.mark.parametrize(
    "names",
    [
        ("perf stress", "perf rest"),
        ("MOLLI T1 map native", "MOLLI T1 map post"),
        ("LGE sax MAG", "LGE sax PSIR"),
        ("cine sax", "cine sax stress"),
    ],
)
def test_two_conditions_of_one_plane_are_no_repeats(names):
    frames = [
        dataclasses.replace(f, description=name, series_uid=name, series_number=number, sop_uid=f"{number}.{f.sop_uid}")
        for number, name in enumerate(names)
        for f in grid()
    ]
    series, drops = assemble.assemble(frames)
    assert sorted(sorted({f.description for f in one.flat()}) for one in series) == sorted([name] for name in names)
    assert [(one.slices, one.phases) for one in series] == [(S, T)] * 2 and drops == []


def everything(series, drops):
    return sorted([f.sop_uid for one in series for f in one.flat()] + [d.frame.sop_uid for d in drops])


def test_magnitude_and_phase_become_two_series():
    phase = [dataclasses.replace(f, kind=("ORIGINAL", "P"), sop_uid="2" + f.sop_uid) for f in grid()]
    series, drops = assemble.assemble(grid() + phase)
    assert [truth(one) for one in series] == [EXPECTED[::-1]] * 2  # along the normal: apex first
    assert len({one.first.kind for one in series}) == 2
    assert drops == []


def test_orientations_that_straddle_a_rounding_edge_stay_together():
    tilted = [dataclasses.replace(f, right=tuple(v + 1e-4 for v in f.right)) for f in grid()[::2]]
    (series,), _ = assemble.assemble(grid()[1::2] + tilted)
    assert (series.slices, series.phases) == (S, T)


@pytest.mark.parametrize("by", ["series", "acquisition", "trigger time"])
def test_of_two_acquisitions_the_last_complete_one_is_used(by):
    change = {"series": {"series_uid": "1.10", "series_number": 2}, "acquisition": {"acquisition": 2}}.get(by, {})
    later = []
    for f in grid():
        times = list(f.times)
        times[TIME_KEYS.index("InstanceNumber")] += 1000
        if by == "acquisition":  # another heart rate: no time key says that these are repeats
            times[TIME_KEYS.index("TriggerTime")] += 7.0
        later.append(dataclasses.replace(f, sop_uid="2" + f.sop_uid, times=tuple(times), **change))
    series, drops = assemble.assemble(grid() + later)
    assert [one.sop_uid[0] for one in series[0].flat()] == ["2"] * (S * T)
    assert truth(series[0]) == EXPECTED[::-1]
    assert {d.reason for d in drops} == {"repeated acquisition, a later or more complete one is used"}
    assert len(drops) == S * T


def test_an_incomplete_later_acquisition_does_not_win():
    later = [
        dataclasses.replace(f, sop_uid="2" + f.sop_uid, series_uid="1.10", series_number=2)
        for f in grid()
        if f.file[-1] in "012"
    ]
    (series,), drops = assemble.assemble(grid() + later)
    assert truth(series) == EXPECTED[::-1]
    assert {d.frame.sop_uid[0] for d in drops} == {"2"}


def test_copies_are_told_from_repeats_by_their_pixels():
    twin = dataclasses.replace(frame(1, 3), sop_uid="copy", file="1/3 again")
    frames = [*grid(), twin]
    for pixel_hash, reason in ((lambda f: b"same", "copy"), (lambda f: f.sop_uid.encode(), "repeated")):
        (series,), drops = assemble.assemble(frames, pixel_hash)
        assert (series.slices, series.phases, len(drops)) == (S, T, 1)
        assert drops[0].reason.startswith(reason)


@pytest.mark.parametrize("keys", [{}, NO_TIMES])
def test_the_same_object_twice_is_used_once(keys):
    twin = dataclasses.replace(frame(1, 3, times=keys), file="elsewhere")
    (series,), drops = assemble.assemble([*grid(times=keys), twin])
    assert truth(series) == EXPECTED[::-1]
    assert [(d.frame.file, d.reason) for d in drops] == [("elsewhere", "copy of another frame")]


def test_a_slice_that_lacks_phases_is_dropped_and_said():
    """Two of eight are too many to make up, and a counter does not say which one is missing."""
    for gone, keys in ((("2/3", "2/5"), {}), (("2/5",), NO_TIMES)):
        frames = [f for f in grid(times=keys) if f.file not in gone]
        (series,), drops = assemble.assemble(frames)
        assert truth(series) == [EXPECTED[3], EXPECTED[1], EXPECTED[0]]
        assert {d.frame.file[0] for d in drops} == {"2"}
        assert len(drops) == T - len(gone)
        assert series.notes == ("slices with other phases left out",)


def test_one_missing_phase_is_stood_in_for_and_said():
    frames = [f for f in grid() if f.file != "2/5"]
    (series,), drops = assemble.assemble(frames)
    assert drops == []
    assert series.slices == S and series.phases == T
    assert series.notes == ("1 missing phases interpolated in time",)
    (stand_in,) = [f for f in series.flat() if f.missing]
    assert stand_in.file == "2/4"
    assert stand_in.trigger_ms == pytest.approx(40.0 * 5 + 2)
    assert series.interpolated.sum() == 1


def test_slices_that_each_lack_another_phase_are_not_aligned_by_index():
    frames = [f for f in grid() if f.file not in ("0/2", "1/3", "2/4", "3/5")]
    (series,), drops = assemble.assemble(frames)
    assert drops == []
    assert [[f.missing for f in row].index(True) for row in series.frames] == [5, 4, 3, 2]
    for row in series.frames:
        assert [round(f.trigger_ms / 40.0) for f in row] == list(range(T))


def test_extra_phases_are_left_out_with_their_slice():
    frames = [*grid(), frame(0, T), frame(0, T + 1)]
    (series,), drops = assemble.assemble(frames)
    assert series.slices == S - 1
    assert {d.reason for d in drops} == {"slice has extra phases"}
    assert len(drops) == T + 2


@pytest.mark.parametrize("seed", range(6))
def test_no_frame_is_lost_or_doubled_whatever_is_missing(seed):
    rng = random.Random(seed)
    frames = [f for f in grid() if rng.random() > rng.choice([0.05, 0.5])]
    series, drops = assemble.assemble(frames)
    measured = [
        dataclasses.replace(one, frames=[[f for f in row if not f.missing] for row in one.frames]) for one in series
    ]
    assert everything(measured, drops) == sorted(f.sop_uid for f in frames)
    for one in series:
        assert {len(one_slice) for one_slice in one.frames} == {one.phases}
        for one_slice in one.frames:
            phases = [int(f.file[-1]) + f.missing for f in one_slice]
            assert phases == sorted(phases)


def test_a_scout_in_the_geometry_of_the_cine_is_its_own_series():
    scout = [frame(9, 0, place=55.0 + 5 * n, series_uid="1.77", sop_uid=f"3.{n}") for n in range(2)]
    series, drops = assemble.assemble([*grid(), *scout])
    assert sorted((one.slices, one.phases) for one in series) == [(2, 1), (S, T)]
    assert drops == []


def test_stills_of_one_place_are_repeats_and_not_a_cine():
    repeats = [
        frame(0, 0, times={**NO_TIMES, "InstanceNumber": float(n)}, acquisition=n, sop_uid=f"4.{n}") for n in (2, 17)
    ]
    (series,), drops = assemble.assemble(repeats)
    assert (series.slices, series.phases, series.first.acquisition) == (1, 1, 17)
    assert len(drops) == 1


def test_frame_times_are_the_trigger_times():
    (series,), _ = assemble.assemble(grid())
    assemble.place(series, (False, False, False))
    np.testing.assert_allclose(assemble.times_ms(series)[:T], 40.0 * np.arange(T))
    assert math.isnan(assemble.times_ms(assemble.assemble(grid(times=NO_TIMES))[0][0])[0])


@pytest.mark.parametrize(("gone", "made"), [((10, 11, 12), 0), ((10, 11, 20), 3)])
def test_a_long_hole_is_not_made_up(gone, made):
    frames = [frame(s, p) for s in range(2) for p in range(40) if not (s == 1 and p in gone)]
    (series,), _ = assemble.assemble(frames)
    assert (series.slices, series.interpolated.sum()) == (2 if made else 1, made)
