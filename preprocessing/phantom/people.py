"""Invented people: names, numbers and dates for the headers.

Obviously invented, so that de-identification has something to take away and nobody is harmed if it does not.
"""

import datetime

import numpy as np

from preprocessing.phantom import dicom
from preprocessing.phantom.visits import Settings, Visit

_FAMILY = ("Mockridge", "Fakenham", "Testwell", "Shamley", "Phantomas", "Dummont", "Specimann", "Placeholm")
_GIVEN = {"M": ("Abel", "Bruno", "Carlo", "Dirk", "Emil"), "F": ("Ada", "Berta", "Clara", "Dora", "Edith")}
_PHYSICIANS = ("Sample^Iris", "Figment^Otto", "Nobody^Una", "Pretend^Max")


def name(rng: np.random.Generator, sex: str) -> str:
    return f"{_FAMILY[rng.integers(len(_FAMILY))]}^{_GIVEN[sex][rng.integers(5)]}"


def vendor(rng: np.random.Generator, settings: Settings) -> str:
    return dicom.VENDORS[rng.integers(3)] if settings.vendor == "mixed" else settings.vendor


def identity(
    settings: Settings, visit: Visit, day: np.random.Generator, *, patient_name: str, birth: datetime.date,
    date: datetime.date, sex: str, age: int, weight_kg: float, height_m: float, vendor: str,
) -> dicom.Identity:  # fmt: skip
    """The headers of a visit; `day` draws who referred and when the scan began."""
    key = ("cmr-phantom", settings.seed, visit.patient)
    number = int(dicom.file_name(*key)[:8], 16) % 10**7
    return dicom.Identity(
        patient_name=patient_name,
        patient_id=f"PHANTOM-{visit.patient:05d}-{number:07d}",
        birth_date=f"{birth:%Y%m%d}",
        sex=sex,
        age=age,
        weight_kg=weight_kg,
        height_m=height_m,
        accession=f"PH{(number * 7 + visit.visit * 1000003) % 10**10:010d}",
        physician=_PHYSICIANS[day.integers(len(_PHYSICIANS))],
        study_uid=dicom.uid(*key, visit.visit),
        study_date=f"{date:%Y%m%d}",
        study_time=f"{day.integers(7, 18):02d}{day.integers(60):02d}{day.integers(60):02d}",
        vendor=vendor,
    )
