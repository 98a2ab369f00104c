"""A tiny DICOM writer, and studies made of it."""

import csv
import pathlib
import subprocess
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

PROJECT = pathlib.Path(__file__).resolve().parents[2]
# Directions of a short-axis plane as Sunnybrook has it (row, then column), normal towards the base.
SAX = (0.77, 0.62, 0.16, -0.15, 0.41, -0.9)


def orthonormal(cosines: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    right = np.array(cosines[:3]) / np.linalg.norm(cosines[:3])
    down = np.array(cosines[3:]) - right * np.dot(right, cosines[3:])
    return right, down / np.linalg.norm(down)


def mr_dataset(
    values_HW: np.ndarray, *, cosines: Sequence[float] = SAX, place: float = 0.0, **attributes: Any
) -> Dataset:
    """A classic MR image; `place` is its distance along the plane's normal. Keyword attributes override everything."""
    right, down = orthonormal(cosines)
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID = MRImageStorage
    data.StudyInstanceUID, data.SeriesInstanceUID = "1.2.3", "1.2.3.4"
    data.Modality, data.Manufacturer, data.PatientID, data.PatientName = "MR", "GE", "MRN774411", "Quagmire^Glenda"
    data.SeriesNumber, data.InstanceNumber, data.ImageType = 1, 1, ["ORIGINAL", "PRIMARY", "OTHER"]
    data.Rows, data.Columns = values_HW.shape
    data.PixelSpacing = [1.5, 1.5]
    data.ImageOrientationPatient = [round(float(v), 8) for v in (*right, *down)]
    data.ImagePositionPatient = [round(float(v), 4) for v in np.cross(right, down) * place]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = values_HW.dtype.itemsize * 8
    data.HighBit = data.BitsStored - 1
    data.PixelRepresentation = int(values_HW.dtype.kind == "i")
    data.PixelData = values_HW.tobytes()
    for name, value in attributes.items():
        setattr(data, name, value)
    unique = [repr(sorted(attributes.items())), repr((cosines, place)), str(values_HW.sum())]
    data.SOPInstanceUID = attributes.get("SOPInstanceUID", generate_uid(entropy_srcs=unique))
    data.file_meta.MediaStorageSOPClassUID, data.file_meta.MediaStorageSOPInstanceUID = (
        data.SOPClassUID,
        data.SOPInstanceUID,
    )
    return data


def save(data: Dataset, path: pathlib.Path) -> pathlib.Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)
    return path


def coded(slice_number: int, phase: int, size: int = 16, patient: int = 0) -> np.ndarray:
    """Pixels that say where their frame belongs, and whose they are."""
    image = np.zeros((size, size), np.uint16)
    image[12:15, 1:4] = 40 * patient
    image[4:8, 4:8], image[8:12, 8:12] = 100 + 20 * slice_number, 500 + 30 * phase
    return image


def write_cine(folder: pathlib.Path, *, slices: int = 3, phases: int = 6, patient: int = 0, **attributes: Any) -> None:
    """A short-axis stack, one file a frame, 10 mm apart; slice 0 is at the base."""
    for s in range(slices):
        for p in range(phases):
            number = s * phases + p + 1
            data = mr_dataset(
                coded(s, p, patient=patient),
                place=-10.0 * s,
                TriggerTime=40.0 * p + s,
                InstanceNumber=number,
                **attributes,
            )
            save(data, folder / f"{number:03d}.dcm")


def write_reports(path: pathlib.Path, rows: Iterable[dict[str, str]]) -> pathlib.Path:
    rows = list(rows)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


class Cohort:
    """A DICOM folder of small studies with their table of reports, and a shell to run the binaries on them."""

    def __init__(self, root: pathlib.Path, patients: int = 6):
        self.root, self.dicom, self.key = root, root / "dicom", root / "secret.key"
        rows = []
        for n in range(patients):
            uid = f"1.2.840.99.{n + 1}"
            write_cine(
                self.dicom / f"MRN77{n:04d}",
                patient=n,
                StudyInstanceUID=uid,
                SeriesInstanceUID=f"{uid}.1",
                PatientID=f"MRN77{n:04d}",
                PatientName=f"Quagmire{n}^Glenda",
                StudyDescription="SECRET-GROUP",
                InstitutionName="Springfield General",
            )
            said = f"Mrs Quagmire{n} (MRN77{n:04d}) has an ejection fraction of {40 + n} percent."
            text = f"FINDINGS: {said}\nIMPRESSION: Case {n}."
            rows.append({"study_uid": uid, "report": text, "group": "odd" if n % 2 else "even"})
        self.reports = write_reports(root / "reports.csv", rows)

    def command(self, out: str, *more: str, module: str = "preprocessing.run") -> list[str]:
        arguments = [f"--data={self.root / out}"]
        if module == "preprocessing.run":
            arguments = [
                f"--dicom_dir={self.dicom}",
                f"--reports={self.reports}",
                f"--out={self.root / out}",
                f"--key_file={self.key}",
                "--label_columns=group",
                "--image_size=32",
                "--split_fractions=0.5,0.0,0.5",
                "--num_workers=0",
            ]
        return [sys.executable, "-m", module, *arguments, *more]

    def run(self, out: str, *more: str, module: str = "preprocessing.run") -> subprocess.CompletedProcess[str]:
        command = self.command(out, *more, module=module)
        return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=120)
