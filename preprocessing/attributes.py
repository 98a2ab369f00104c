"""Values of DICOM attributes as plain Python, whatever a header holds: absent, damaged or of another kind.

pydicom's own way to a value takes half of a whole header scan, and validates what nobody asked for.
"""

import functools
import math
from typing import Any

from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from preprocessing.study import NAN

_PLAIN_TEXT = ("AS", "CS", "DA", "DS", "DT", "IS", "LO", "SH", "TM", "UI")

tag = functools.cache(Tag)


def get(dataset: Any, keyword: str) -> Any:
    """The value of an attribute, None where it is absent; pydicom's own way takes half of the whole scan.

    Plain ASCII stays text (a list of texts where there are several), numbers included: nothing is validated.
    """
    raw = dataset.get_item(tag(keyword))
    if raw is None:
        return None
    value = raw.value
    if isinstance(raw, RawDataElement) and isinstance(value, bytes):
        if raw.VR in _PLAIN_TEXT and value.isascii() and b"\x1b" not in value:
            parts = [part.strip("\0 ") for part in value.decode("ascii").split("\\")]
            return parts if len(parts) > 1 else parts[0]
        if raw.VR == "US" and len(value) == 2:
            return int.from_bytes(value, "little" if raw.is_little_endian else "big")
    return dataset[tag(keyword)].value


def text(dataset: Any, keyword: str) -> str:
    value = get(dataset, keyword)
    return "" if value is None else str(value).strip("\0 ")


def texts(dataset: Any, keyword: str) -> tuple[str, ...]:
    value = get(dataset, keyword)
    if value is None or value == "":
        return ()
    return tuple(str(v) for v in value) if not isinstance(value, str) else (value,)


def number(dataset: Any, keyword: str) -> float:
    """NaN where the attribute is absent or is not a finite number."""
    try:
        value = float(get(dataset, keyword))
    except (TypeError, ValueError, OverflowError):
        return NAN
    return value if math.isfinite(value) else NAN


def integer(dataset: Any, keyword: str, default: int = 0) -> int:
    value = number(dataset, keyword)
    return default if math.isnan(value) else int(value)
