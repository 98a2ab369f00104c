"""What passes between the stations of the preprocessing: a frame, a file seen, a series, a report.

Everything here lives in memory. Fields marked *private* identify a patient and never reach a file, a table or a log.
Letters: S slices of a series, T phases of a slice, H W pixels.
"""

import dataclasses
import math

import numpy as np

Vector = tuple[float, float, float]
NAN = math.nan
# In place of a transfer syntax: the file is a NIfTI image of a public benchmark.
NIFTI = "nifti"

# The order is the order of trust (field notes, rule 4). The last two also move between repeats of one measurement.
TIME_KEYS = (
    "TemporalPositionIndex",
    "NominalCardiacTriggerDelayTime",
    "TriggerTime",
    "NominalPercentageOfCardiacPhase",
    "AcquisitionTime",
    "InstanceNumber",
)
WEAK_TIME_KEYS = ("AcquisitionTime", "InstanceNumber")


@dataclasses.dataclass(frozen=True, slots=True)
class Frame:
    """One image of a file: where it lies, when it was taken, and what tells measurements apart."""

    file: str  # private: path below the DICOM folder
    index: int  # frame number within the file, from 0
    sop_uid: str  # private
    series_uid: str  # private
    series_number: int
    acquisition: int
    description: str  # private: free text, read by the view rules only
    rows: int
    cols: int
    position: Vector  # centre of the first pixel, millimetres, patient coordinates (left, posterior, head)
    right: Vector  # direction of growing column number
    down: Vector  # direction of growing row number
    spacing: tuple[float, float]  # millimetres between rows, between columns
    echo: float  # effective echo time, ms
    kind: tuple[str, ...]  # image type, complex component, sequence: frames of one series agree in all of it
    times: tuple[float, ...]  # one for each of TIME_KEYS; NaN where absent or not a finite number
    slope: float = 1.0  # physical value = slope * stored value + intercept
    intercept: float = 0.0
    unit: str = ""  # of the physical value, as the source writes it
    missing: bool = False  # stands for a frame that was not measured: its pixels are made of its neighbours in time

    def time(self, key: str) -> float:
        return self.times[TIME_KEYS.index(key)]

    @property
    def trigger_ms(self) -> float:
        """Milliseconds after the R wave; NaN where the source does not say."""
        nominal = self.time("NominalCardiacTriggerDelayTime")
        return self.time("TriggerTime") if math.isnan(nominal) else nominal


@dataclasses.dataclass(frozen=True, slots=True)
class PixelLayout:
    """Where little-endian or compressed pixels lie in a file, so that they are read without parsing it again."""

    offset: int  # of the first pixel, or of the offset table before compressed frames
    dtype: str  # as the header tells it
    syntax: str = ""  # transfer syntax of compressed pixels; "" for plain ones


@dataclasses.dataclass(frozen=True, slots=True)
class FileScan:
    """The verdict on one file after its header was read. `status` is "" while the file is still a candidate."""

    path: str  # private: below the DICOM folder
    size: int
    mtime_ns: int
    status: str = ""  # "ignored", "rejected" or ""
    reason: str = ""
    study_uid: str = ""  # private
    accession: str = ""  # private
    patient_id: str = ""  # private
    sex: str = ""
    age: str = ""
    vendor: str = ""
    study_date: str = ""  # private: YYYYMMDD; "" where the header does not say
    institution: str = ""  # private
    bits_stored: int = 0
    inverted: bool = False  # MONOCHROME1
    layout: PixelLayout | None = None  # None: left to pydicom (big endian, deflated)
    frames: tuple[Frame, ...] = ()


@dataclasses.dataclass(frozen=True)
class Drop:
    """A frame that was understood and yet is not used, and why."""

    frame: Frame
    reason: str


@dataclasses.dataclass
class Series:
    """S slices x T phases of one measurement. `frames[s][t]`; slices run from the far side to the viewer."""

    frames: list[list[Frame]]
    phase_key: str  # which of TIME_KEYS ordered the phases; "" for a single phase
    notes: tuple[str, ...] = ()
    view: str = "unknown"
    view_rule: str = "none"
    orientation: tuple[bool, bool, bool] = (False, False, False)  # transpose, then flip rows, then flip columns
    slice_position_mm: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.float32))
    contrast: str = ""  # one of schema.CONTRASTS
    levels: tuple[str, ...] = ()  # of each slice, one of schema.LEVELS

    @property
    def slices(self) -> int:
        return len(self.frames)

    @property
    def phases(self) -> int:
        return len(self.frames[0])

    @property
    def first(self) -> Frame:
        return self.frames[0][0]

    @property
    def slice_gap_mm(self) -> float:
        """Median distance of neighbouring slices; 0 for a single slice."""
        return float(np.median(np.diff(self.slice_position_mm))) if self.slices > 1 else 0.0

    @property
    def interpolated(self) -> np.ndarray:
        """`S*T` int64, 1 for every frame that was not measured."""
        return np.array([frame.missing for frame in self.flat()], np.int64)

    def flat(self) -> list[Frame]:
        """All frames, slice after slice, phase after phase."""
        return [frame for one_slice in self.frames for frame in one_slice]


@dataclasses.dataclass(frozen=True)
class Report:
    """A report row of the user's table; `text`, `patient_id` and `site` are private until scrubbed."""

    text: str
    patient_id: str
    labels: tuple[tuple[str, str], ...]
    site: str = ""
    names: tuple[str, ...] = ()  # private: persons that the report itself names, for the scrubber
