"""The six public benchmarks as their publishers lay them out: which files are a case, its split and its labels.

Every function takes the folder that unpacking gives (or the one around it) and returns the cases with their official
split. What a publisher keeps back (labels of a test set) stays "".

  acdc        Bernard et al., IEEE Transactions on Medical Imaging 37:2514, 2018. `training/patient001/…`,
              `testing/patient101/…`; each `Info.cfg`, `patientNNN_4d.nii.gz`, `patientNNN_frameFF_gt.nii.gz`
  mnms        Campello et al., IEEE Transactions on Medical Imaging 40:3543, 2021. `*M&Ms_Dataset_information*.csv`,
              `Training/{Labeled,Unlabeled}/CODE/CODE_sa.nii.gz`, `Validation/…`, `Testing/…`
  mnms2       Martín-Isla et al., IEEE Journal of Biomedical and Health Informatics 27:3302, 2023.
              `dataset_information.csv`, `dataset/001/001_{SA,LA}_CINE.nii.gz`; 1-160 train, 161-200 val, 201-360 test
  emidec      Lalande et al., Data 5:89, 2020. `Case_N006/Images/Case_N006.nii.gz`, `Case N006.txt`; N normal, P
              pathological, E the test set, whose class is kept back
  kaggle      Second Annual Data Science Bowl, 2016. `{train,validate,test}/ID/study/{sax_5,2ch_21,4ch_15}/*.dcm`,
              `train.csv`, `validate.csv`, `solution.csv`
  sunnybrook  Radau et al., The MIDAS Journal, 2009. `SCD0000101/CINESAX_300/*.dcm`, `scd_patientdata.csv`; training,
              validation and online sets of the 2009 challenge
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from cmr_jax.errors import InputError
from preprocessing.public import nifti
from preprocessing.public.cases import (
    CINE_2CH,
    CINE_4CH,
    CINE_SAX,
    LGE_SAX,
    Case,
    Image,
    find,
    folders,
    number,
    sex,
    some,
    table,
    volumes,
    years,
)

# The left ventricle's blood pool in the segmentations.
_ACDC_LV, _MNMS_LV = 3, 1
_MNMS2_LAST = {"train": 160, "val": 200, "test": 360}
_KAGGLE_VIEWS = {"sax": CINE_SAX, "2ch": CINE_2CH, "4ch": CINE_4CH}
# The training set and the validation set of the 2009 challenge; the others are its online set.
_SUNNYBROOK_SETS = {
    "train": "HF-I-1 HF-I-2 HF-I-4 HF-I-40 HF-NI-3 HF-NI-4 HF-NI-34 HF-NI-36 HYP-1 HYP-3 HYP-38 HYP-40 N-2 N-3 N-40",
    "val": "HF-I-5 HF-I-6 HF-I-7 HF-I-8 HF-NI-7 HF-NI-11 HF-NI-31 HF-NI-33 HYP-6 HYP-7 HYP-8 HYP-37 N-5 N-6 N-7",
}


def acdc(root: Path) -> list[Case]:
    """Labels `group` (NOR, MINF, DCM, HCM, RV) and the volumes that the segmentations give."""
    place = find(root, "training").parent

    def cases() -> Iterator[Case]:
        for split, name in (("train", "training"), ("test", "testing")):
            for folder in folders(place / name):
                info = _colon_lines(folder / "Info.cfg")
                ed, es = (
                    nifti.volume_ml(_nii(folder / f"{folder.name}_frame{int(number(info[key])):02d}_gt"), _ACDC_LV)
                    if number(info.get(key, "")) >= 0
                    else number("")
                    for key in ("ED", "ES")
                )
                image = Image(_nii(folder / f"{folder.name}_4d"), CINE_SAX)
                yield Case(folder.name, split, (image,), {"group": info.get("Group", ""), **volumes(ed, es)})

    return some(cases(), "training/patientNNN")


def mnms(root: Path) -> list[Case]:
    """Labels `group` (the pathology), `centre`, and the volumes of the segmented cases."""
    information = find(root, "*M&Ms_Dataset_[iI]nformation*.csv")
    rows = {row["External code"]: row for row in table(information, "External code", "Vendor", "Centre", "ED", "ES")}
    places = {"Training/Labeled": "train", "Training/Unlabeled": "train", "Validation": "val", "Testing": "test"}

    def cases() -> Iterator[Case]:
        for place, split in places.items():
            for folder in folders(information.parent / place):
                row = rows.get(folder.name, {})
                mask = _nii(folder / f"{folder.name}_sa_gt")
                known = place != "Training/Unlabeled" and number(row.get("ED", "")) >= 0
                ed, es = (
                    nifti.volume_ml(mask, _MNMS_LV, int(number(row[key]))) if known else number("")
                    for key in ("ED", "ES")
                )
                yield Case(
                    folder.name,
                    split,
                    (Image(_nii(folder / f"{folder.name}_sa"), CINE_SAX),),
                    {"group": row.get("Pathology", ""), "centre": row.get("Centre", ""), **volumes(ed, es)},
                    sex=sex(row.get("Sex", "")),
                    age=years(row.get("Age", "")),
                    vendor=row.get("VendorName", ""),
                    site=row.get("Centre", ""),
                )

    return some(cases(), "Training, Validation or Testing with cases")


def mnms2(root: Path) -> list[Case]:
    """Labels `group` (the disease), `scanner`, `field_strength_t`, and the volumes that the segmentations give."""
    information = find(root, "dataset_information.csv")
    rows = table(information, "SUBJECT_CODE", "DISEASE", "VENDOR", "SCANNER", "FIELD")

    def cases() -> Iterator[Case]:
        for row in rows:
            if not (code := number(row["SUBJECT_CODE"])) > 0:
                continue
            name = f"{int(code):03d}"
            folder = information.parent / "dataset" / name
            split = next((each for each, last in _MNMS2_LAST.items() if code <= last), "")
            if not split:
                raise InputError(f"--root: dataset_information.csv names subject {name}, beyond the 360 of M&Ms-2")
            masks = [nifti.volume_ml(_nii(folder / f"{name}_SA_{phase}_gt"), _MNMS_LV) for phase in ("ED", "ES")]
            yield Case(
                name,
                split,
                tuple(
                    Image(_nii(folder / f"{name}_{kind}_CINE"), shows)
                    for kind, shows in (("SA", CINE_SAX), ("LA", CINE_4CH))
                ),
                {
                    "group": row["DISEASE"],
                    "scanner": row["SCANNER"],
                    "field_strength_t": row["FIELD"],
                    **volumes(*masks),
                },
                vendor=row["VENDOR"],
            )

    return some(cases(), "subject in dataset_information.csv")


def emidec(root: Path) -> list[Case]:
    """Labels `pathological` (yes or no; "" in the test set) and `lvef_echo_percent`."""

    def cases() -> Iterator[Case]:
        for folder in sorted([*root.glob("Case_*"), *root.glob("*/Case_*")]):
            code = folder.name.removeprefix("Case_")
            told = _colon_lines(folder.parent / f"Case {code}.txt")
            images = (Image(_nii(folder / "Images" / folder.name), LGE_SAX),)
            labels = {
                "pathological": {"N": "no", "P": "yes"}.get(code[:1], ""),
                "lvef_echo_percent": told.get("FEVG", "") if number(told.get("FEVG", "")) > 0 else "",
            }
            split = "train" if code[:1] in ("N", "P") else "test"
            yield Case(code, split, images, labels, sex=sex(told.get("Sex", "")), age=years(told.get("Age", "")))

    return some(cases(), "Case_*")


def kaggle(root: Path) -> list[Case]:
    """Labels: the volumes of the tables and their ejection fraction."""
    place = find(root, "train.csv").parent
    told: dict[str, list[float]] = {}
    for name in ("train.csv", "validate.csv"):
        for row in table(place / name, "Id", "Systole", "Diastole") if (place / name).is_file() else ():
            told[row["Id"]] = [number(row["Diastole"]), number(row["Systole"])]
    if (place / "solution.csv").is_file():
        for row in table(place / "solution.csv", "Id", "Volume"):
            name, _, phase = row["Id"].partition("_")
            told.setdefault(name, [number(""), number("")])[phase == "Systole"] = number(row["Volume"])

    def cases() -> Iterator[Case]:
        for name, split in (("train", "train"), ("validate", "val"), ("test", "test")):
            inner = place / name / name if (place / name / name).is_dir() else place / name
            for folder in folders(inner):
                study = folder / "study" if (folder / "study").is_dir() else folder
                images = tuple(
                    Image(file, _KAGGLE_VIEWS.get(series.name.split("_")[0].lower(), ""))
                    for series in folders(study)
                    for file in sorted(series.glob("*.dcm"))
                )
                yield Case(folder.name, split, images, volumes(*told.get(folder.name, [number("")] * 2)))

    return some(cases(), "train, validate or test with studies")


def sunnybrook(root: Path) -> list[Case]:
    """Label `group`: HF-I and HF-NI (heart failure with and without infarct), HYP, N."""
    information = find(root, "scd_patientdata.csv")
    sets = {name: split for split, names in _SUNNYBROOK_SETS.items() for name in names.split()}
    places = {folder.name: folder for folder in root.rglob("SCD[0-9]*") if folder.is_dir()}

    def cases() -> Iterator[Case]:
        for row in table(information, "PatientID", "OriginalID", "Gender", "Age"):
            folder = places.get(row["PatientID"])
            match = re.fullmatch(r"SC-(HF-I|HF-NI|HYP|N)-0*(\d+)", row["OriginalID"])
            if folder is None or match is None:
                continue
            images = tuple(
                Image(file, CINE_SAX if "sax" in file.parent.name.lower() else "")
                for file in sorted(folder.rglob("*.dcm"))
            )
            split = sets.get(f"{match[1]}-{match[2]}", "test")
            labels = {"group": match[1]}
            yield Case(row["PatientID"], split, images, labels, sex=sex(row["Gender"]), age=years(row["Age"]))

    return some(cases(), "folder SCD… of a patient in scd_patientdata.csv")


LAYOUTS: dict[str, Callable[[Path], list[Case]]] = {
    "acdc": acdc,
    "mnms": mnms,
    "mnms2": mnms2,
    "emidec": emidec,
    "kaggle": kaggle,
    "sunnybrook": sunnybrook,
}


def _nii(stem: Path) -> Path:
    """The image `stem`, compressed or not."""
    plain = stem.with_name(f"{stem.name}.nii")
    return plain if plain.is_file() else stem.with_name(f"{stem.name}.nii.gz")


def _colon_lines(path: Path) -> dict[str, str]:
    """`name: value` lines of a text file, marks after the name left out; nothing where there is no file."""
    if not path.is_file():
        return {}
    pairs = (line.partition(":") for line in path.read_text(encoding="utf-8", errors="replace").splitlines())
    return {re.sub(r"[^\w ()+]+", "", name).strip(): value.strip() for name, colon, value in pairs if colon}
