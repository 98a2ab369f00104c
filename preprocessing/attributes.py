"""Values of DICOM attributes as plain Python, whatever a header holds: absent, damaged or of another kind.

pydicom's own way to a value takes half of a whole header scan, and validates what nobody asked for.
"""

import functools
import math
from typing import Any

from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from preprocessing import quick_header
from preprocessing.study import NAN

_tag = functools.cache(Tag)


def get(dataset: Any, keyword: str) -> Any:
    """The value of an attribute, None where it is absent; pydicom's own way takes half of the whole scan.

    Plain ASCII stays text (a list of texts where there are several), numbers included: nothing is validated.
    """
    if isinstance(dataset, quick_header.Header):
        return dataset.get(keyword)
    raw = dataset.get_item(_tag(keyword))
    if raw is None:
        return None
    value = raw.value
    if isinstance(raw, RawDataElement) and isinstance(value, bytes):
        plain = quick_header.plain_value(raw.VR or "", value, raw.is_little_endian)
        if plain is not None:
            return plain
    return dataset[_tag(keyword)].value


def has(dataset: Any, keyword: str) -> bool:
    if isinstance(dataset, quick_header.Header):
        return dataset.has(keyword)
    return dataset.get_item(_tag(keyword)) is not None


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
    value = get(dataset, keyword)
    if value is None:  # as are most of those asked for: an exception would cost four times as much
        return NAN
    try:
        value = float(value)
    except (TypeError, ValueError, OverflowError):
        return NAN
    return value if math.isfinite(value) else NAN


def integer(dataset: Any, keyword: str, default: int = 0) -> int:
    value = number(dataset, keyword)
    return default if math.isnan(value) else int(value)
