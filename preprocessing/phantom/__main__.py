"""`python -m preprocessing.phantom`: DICOM and reports of beating hearts that never existed."""

import csv
import functools
import pathlib

from absl import flags

from cmr_jax import cli
from cmr_jax.errors import InputError
from preprocessing import parallel
from preprocessing.phantom import dicom, study, visits
from preprocessing.phantom.sketch import stack as sketches

_OUT = flags.DEFINE_string("out", None, "Folder to write dicom/, reports.csv and truth.csv to; must be empty or new.")
_STUDIES = flags.DEFINE_integer("studies", None, "Number of studies.", lower_bound=1, upper_bound=1_000_000)
_SEED = flags.DEFINE_integer("seed", 0, "The same seed writes the same files.", lower_bound=0)
_TWO = flags.DEFINE_float(
    "patients_with_two_studies", 0.25, "Part of the patients who come back.", lower_bound=0.0, upper_bound=1.0
)
_VENDOR = flags.DEFINE_enum("vendor", "mixed", [*dicom.VENDORS, "mixed"], "Whose habits the files follow.")
_ENHANCED = flags.DEFINE_bool("enhanced", False, "Enhanced multi-frame MR instead of one file a frame.")
_SLICES = flags.DEFINE_integer(
    "slices", None, "Short-axis slices, base to apex; default 8, of the clinical variety as many as the heart needs.",
    lower_bound=3, upper_bound=40,
)  # fmt: skip
_PHASES = flags.DEFINE_integer(
    "phases", None, "Frames of a cine; default 20, of the clinical variety what the vendor's scanners do (20 to 30).",
    lower_bound=4, upper_bound=100,
)  # fmt: skip
_MATRIX = flags.DEFINE_integer("matrix", 128, "Rows and columns of a picture.", lower_bound=32, upper_bound=512)
_VARIETY = flags.DEFINE_enum(
    "variety",
    visits.VARIETIES[0],
    list(visits.VARIETIES),
    "plain: whole bodies of a population, four views. sketch: short-axis stacks alone, of shapes, greys and scanners "
    "drawn wider than life, for models that are to measure real hearts; --slices is then the most a stack has. "
    "clinical: whole exams (cines of four views, late enhancement, T1 and T2 maps) of twelve diseases as often as a "
    "referral centre meets them, with arrhythmia and failed breath-holds; --slices is again the most.",
)
_WITHOUT = flags.DEFINE_multi_enum(
    "without",
    [],
    list(sketches.PARTS),
    "A part of the sketches to leave out, to learn what it is good for; may be repeated. "
    + "; ".join(f"{name}: {what}" for name, what in sketches.PARTS.items()),
)
_WORKERS = flags.DEFINE_integer(
    "num_workers", None, "Processes; default: one a core. The files do not depend on it.", lower_bound=0
)


def _settings() -> tuple[pathlib.Path, visits.Settings]:
    if not _OUT.value or _STUDIES.value is None:
        raise InputError("--out and --studies are needed: a folder to write to and how many studies")
    out = pathlib.Path(_OUT.value)
    if out.exists() and not out.is_dir():
        raise InputError("--out is a file: give a folder that is empty or does not exist yet")
    if out.is_dir() and any(out.iterdir()):
        raise InputError("--out is not empty: give a folder that is empty or does not exist yet")
    if _WITHOUT.value and _VARIETY.value != "sketch":
        raise InputError("--without goes with --variety sketch: the others are drawn whole")
    clinical = _VARIETY.value == "clinical"
    return out, visits.Settings(
        studies=_STUDIES.value,
        seed=_SEED.value,
        patients_with_two_studies=_TWO.value,
        vendor=_VENDOR.value,
        enhanced=_ENHANCED.value,
        slices=_SLICES.value or (visits.HABIT if clinical else 8),
        phases=_PHASES.value or (visits.HABIT if clinical else 20),
        matrix=_MATRIX.value,
        variety=_VARIETY.value,
        without=tuple(_WITHOUT.value),
    )


def _write(path: pathlib.Path, rows: list[dict[str, object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def generate(out: pathlib.Path, settings: visits.Settings, workers: int = 0) -> None:
    """Writes the whole set; the tables come last, so a folder without them is unfinished."""
    out.mkdir(parents=True, exist_ok=True)
    todo = visits.visits(settings)
    one = functools.partial(study.make, settings, out=out)
    with parallel.Workers(workers) as pool:
        rows = list(parallel.progress(pool.map(one, todo, chunk=4), len(todo), "phantom"))
    _write(out / "reports.csv", [report for report, _ in rows])
    _write(out / "truth.csv", [truth for _, truth in rows])


def _main() -> None:
    out, settings = _settings()
    workers = parallel.available_cores() if _WORKERS.value is None else _WORKERS.value
    try:
        generate(out, settings, workers)
    except OSError as error:
        raise InputError(f"cannot write to --out: {error.strerror}") from error
    print(f"{settings.studies} studies in {out}")


def main() -> None:
    cli.run(_main)


if __name__ == "__main__":
    main()
