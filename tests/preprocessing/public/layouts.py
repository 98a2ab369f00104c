"""Writes small copies of the public benchmarks' layouts, as their publishers unpack."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from tests.preprocessing.tiny_dicom import write_cine

SIZE, SLICES, PHASES = 16, 3, 6
# x to the left, y to the back, 10 mm from slice to slice: in NIfTI's coordinates both run against the axes.
AFFINE = np.diag([-1.5, -1.5, 10.0, 1.0])


def heart(case: int, slices: int = SLICES, phases: int = PHASES) -> np.ndarray:
    """`x y z t` int16: pixels that say where their frame belongs; brighter on the left half of x."""
    values = np.zeros((SIZE, SIZE, slices, phases), np.int16)
    for s in range(slices):
        for t in range(phases):
            values[2:6, 4:12, s, t] = 200 + 20 * s
            values[10:14, 4:6, s, t] = 500 + 30 * t
    values[0, :8] = 60 + 40 * case
    return values


def nii(path: Path, values: np.ndarray, affine: np.ndarray = AFFINE, step_s: float = 0.04) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(values, affine)
    if values.ndim == 4:
        image.header.set_zooms((*image.header.get_zooms()[:3], step_s))
    image.header.set_xyzt_units("mm", "sec")
    nibabel.save(image, path)


def mask(lv: int, value: int, slices: int = SLICES) -> np.ndarray:
    """A segmentation in which `lv` voxels of the first slice have `value`."""
    found = np.zeros((SIZE, SIZE, slices), np.uint8)
    found[:, :, 0].flat[:lv] = value
    return found


def table(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


def acdc(root: Path) -> None:
    for case, (place, number, group) in enumerate(
        [("training", 1, "DCM"), ("training", 2, "NOR"), ("testing", 101, "HCM")]
    ):
        name = f"patient{number:03d}"
        folder = root / place / name
        nii(folder / f"{name}_4d.nii.gz", heart(case))
        nii(folder / f"{name}_frame01.nii.gz", heart(case)[..., 0])
        nii(folder / f"{name}_frame01_gt.nii.gz", mask(100, 3))
        nii(folder / f"{name}_frame04_gt.nii.gz", mask(40, 3))
        info = f"ED: 1\nES: 4\nGroup: {group}\nHeight: 184.0\nNbFrame: {PHASES}\nWeight: 95.0\n"
        (folder / "Info.cfg").write_text(info)


def mnms(root: Path) -> None:
    header = ["", "External code", "VendorName", "Vendor", "Centre", "ED", "ES", "Age", "Sex", "Pathology"]
    rows = [
        [0, "A0S9V9", "Siemens", "A", 1, 0, 3, 51, "F", "HCM"],
        [1, "B1T2W3", "GE", "C", 4, 0, 3, 33, "M", "NOR"],
        [2, "C2U3X4", "Philips", "B", 2, 0, 3, 60, "M", "DCM"],
        [3, "D3V4Y5", "Canon", "D", 5, 0, 3, 95, "F", "NOR"],
    ]
    places = ["Training/Labeled", "Training/Unlabeled", "Validation", "Testing"]
    for case, (row, place) in enumerate(zip(rows, places, strict=True)):
        folder = root / place / str(row[1])
        nii(folder / f"{row[1]}_sa.nii.gz", heart(case).astype(np.float64))
        gt = np.zeros((SIZE, SIZE, SLICES, PHASES), np.uint8)
        gt[..., 0], gt[..., 3] = mask(100, 1), mask(40, 1)
        nii(folder / f"{row[1]}_sa_gt.nii.gz", gt)
    table(root / "211230_M&Ms_Dataset_information_diagnosis_opendataset.csv", header, rows)


def mnms2(root: Path) -> None:
    rows = [
        [1, "NOR", "SIEMENS", "SymphonyTim", 1.5],
        [161, "TRI", "GE MEDICAL SYSTEMS", "SignaExcite", 1.5],
        [201, "LV", "Philips Medical Systems", "Achieva", 3.0],
    ]
    for case, row in enumerate(rows):
        name = f"{row[0]:03d}"
        folder = root / "dataset" / name
        nii(folder / f"{name}_SA_CINE.nii.gz", heart(case))
        across = np.array([[-1.5, 0, 0, 0], [0, 0, 10.0, 0], [0, 1.5, 0, 0], [0, 0, 0, 1.0]])
        nii(folder / f"{name}_LA_CINE.nii.gz", heart(case, slices=1), affine=across)
        for phase, lv in (("ED", 100), ("ES", 40)):
            nii(folder / f"{name}_SA_{phase}.nii.gz", heart(case)[..., 0])
            nii(folder / f"{name}_SA_{phase}_gt.nii.gz", mask(lv, 1))
    table(root / "dataset_information.csv", ["SUBJECT_CODE", "DISEASE", "VENDOR", "SCANNER", "FIELD"], rows)


def emidec(root: Path) -> None:
    inner = root / "emidec-dataset-1.0.1"
    for case, (code, sex) in enumerate([("N006", "F"), ("P012", "M"), ("E101", "M")]):
        nii(inner / f"Case_{code}" / "Images" / f"Case_{code}.nii.gz", heart(case)[..., 0])
        nii(inner / f"Case_{code}" / "Contours" / f"Case_{code}.nii.gz", mask(50, 2))
        text = f"Case {code}\n\nGap between slices\u2020: 10 mm\nSex\u2020: {sex}\nAge : 70\nTobacco : 3\nFEVG : 60\n"
        (inner / f"Case {code}.txt").write_text(text, encoding="utf-8")


def _study(folder: Path, uid: str, patient: int, **attributes: Any) -> None:
    write_cine(
        folder, patient=patient, StudyInstanceUID=uid, SeriesInstanceUID=f"{uid}.{folder.name[-1]}", **attributes
    )


def kaggle(root: Path) -> None:
    for number, (place, name) in enumerate([("train", "1"), ("validate", "501"), ("test", "701")]):
        study, uid = root / place / place / name / "study", f"1.2.840.77.{number + 1}"
        _study(study / "sax_5", uid, number, SeriesDescription="sf", PatientSex="F", PatientAge="059Y")
        across = (0.1, 0.9, 0.0, 0.0, 0.0, -1.0)
        _study(study / "4ch_15", uid, number + 5, slices=1, cosines=across, SeriesDescription="sf")
    table(root / "train.csv", ["Id", "Systole", "Diastole"], [[1, 108.3, 246.7]])
    table(root / "validate.csv", ["Id", "Systole", "Diastole"], [[501, 50.0, 100.0]])
    table(root / "solution.csv", ["Id", "Volume"], [["701_Diastole", 90.0], ["701_Systole", 30.0]])


def sunnybrook(root: Path) -> None:
    rows = [
        ["SCD0000101", "SC-HF-I-1", "Male", 53, "Heart failure with infarct"],
        ["SCD0000301", "SC-HF-I-5", "Male", 60, "Heart failure with infarct"],
        ["SCD0000501", "SC-HF-I-9", "Female", 47, "Heart failure with infarct"],
        ["SCD0003401", "SC-N-02", "Female", 28, "Normal"],
    ]
    for number, row in enumerate(rows):
        folder = root / "SCD_IMAGES_01" / str(row[0]) / "CINESAX_300"
        _study(folder, f"1.2.840.88.{number + 1}", number, SeriesDescription="")
    table(root / "scd_patientdata.csv", ["PatientID", "OriginalID", "Gender", "Age", "Pathology"], rows)


WRITERS = {
    "acdc": acdc,
    "mnms": mnms,
    "mnms2": mnms2,
    "emidec": emidec,
    "kaggle": kaggle,
    "sunnybrook": sunnybrook,
}
