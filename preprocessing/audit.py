"""Whether the splits are apart: no patient, no patient's report and no pixels may stand on two sides.

Patients are assigned whole, so what is found here tells of one person under two patient ids (or of a damaged table).
"""

import hashlib
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from cmr_jax.data import schema

# Two normal reports often say the same words. One with this many different measurements (or words) is one exam's.
_DISTINCT_NUMBERS = 6
_DISTINCT_WORDS = 120
_REMEDY = (
    "give both studies one patient_id in --reports, or name one of them in removed.csv of the dataset (kind,id as in"
    " study,0123456789abcdef)"
)


class Audit:
    """Takes the records one by one and collects what stands on two sides, in words with pseudonyms only."""

    def __init__(self) -> None:
        self._first: dict[bytes, tuple[str, str, str]] = {}
        self._told: set[tuple[str, str, str]] = set()
        self.findings: list[str] = []

    def add(self, split: str, example: dict[str, Any]) -> None:
        """`example` is a record (decoded, or as it will be written) of `split`."""
        here = (split, example["study_id"], example["patient_id"])
        for kind, value in _traces(example):
            mark = hashlib.blake2b(repr((kind, value)).encode(), digest_size=16).digest()  # small: there are millions
            there = self._first.setdefault(mark, here)
            if there[0] != split and (kind, there[1], here[1]) not in self._told:
                self._told.add((kind, there[1], here[1]))
                self.findings.append(
                    f"{kind} of study {here[1]} (patient {here[2]}, {split}) and of study {there[1]} (patient"
                    f" {there[2]}, {there[0]})"
                )

    def complaint(self) -> str:
        """One line on all findings, "" without any."""
        if not self.findings:
            return ""
        more = f", and {len(self.findings) - 1} more like it" if len(self.findings) > 1 else ""
        return f"the splits are not apart: {self.findings[0]}{more}; {_REMEDY}"


def _traces(example: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    yield "the same patient", example["patient_id"]
    if _is_one_exams(example):
        yield "the same report", (example["report_hash"], example["sex"], example["age"])
    for frames_STHW in schema.split_series(example):
        if frames_STHW.size and frames_STHW.min() != frames_STHW.max():  # a blank series is nobody's
            digest = hashlib.sha256(np.ascontiguousarray(frames_STHW).data).digest()[:16]
            yield "the same pixels", (frames_STHW.shape, digest)


def _is_one_exams(example: dict[str, Any]) -> bool:
    """Whether two patients' reports would hardly say the very words of this one."""
    text = f"{example['section/findings']}\n{example['section/impression']}"
    numbers = set(re.findall(r"\d+[.,]\d+|\d{2,}", text))
    return len(numbers) >= _DISTINCT_NUMBERS or len(text.split()) >= _DISTINCT_WORDS
