"""The common header, read ten times faster than pydicom does: a walk over the elements that keeps only what is wanted.

Anything out of the ordinary (big endian, deflated, most Enhanced, other scripts than ASCII, elements out of order, a
length that leads out of what was read) is answered with None, and pydicom reads the file from the start: PS3.5 7.1.
A value is made of its bytes when it is asked for, once, and of most kinds without pydicom.
"""

import functools
import struct
from collections.abc import Collection
from typing import Any, BinaryIO

from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag

# Most headers end within the first; the second holds the pixels of many files too, and costs more than it says.
FIRST_BYTES, _MORE_BYTES = 1 << 14, 1 << 18
_IMPLICIT, _EXPLICIT = b"1.2.840.10008.1.2", b"1.2.840.10008.1.2.1"
_COMPRESSED = (b"1.2.840.10008.1.2.4.", b"1.2.840.10008.1.2.5")
_TRANSFER_SYNTAX, _META_LENGTH = 0x00020010, 0x00020000
_FIRST_PIXEL_TAG, _PIXEL_DATA = 0x7FE00000, 0x7FE00010
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_UNDEFINED = 0xFFFFFFFF
_UNMADE = object()
_DEEPEST = 8
_SHORT = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
_LONG = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_TEXT = ("LO", "SH", "PN", "UC", "LT", "ST", "UT")
_PLAIN_TEXT = frozenset(("AS", "CS", "DA", "DS", "DT", "IS", "LO", "SH", "TM", "UI"))
_HEAD = struct.Struct("<HH2sH").unpack_from
_LONG_LENGTH = struct.Struct("<I").unpack_from
_FLOAT = struct.Struct("<d").unpack

_Element = tuple[int, bytes, int, int]  # tag, representation (empty where implicit), start of the value, its length


class _Unusual(Exception):
    """Not for this reader."""


class _Short(_Unusual):
    """The header goes on behind what was read."""


tag_of = functools.cache(lambda keyword: int(Tag(keyword)))


class Header:
    """The wanted elements of a file or of an item, and of the file its meta elements."""

    __slots__ = ("_elements", "_implicit", "_values", "file_meta")

    def __init__(self, elements: dict[int, tuple[str, bytes]], implicit: bool, file_meta: "Header | None" = None):
        self._elements, self._implicit, self.file_meta = elements, implicit, file_meta
        self._values: dict[str, Any] = {}

    def has(self, keyword: str) -> bool:
        return tag_of(keyword) in self._elements

    def get(self, keyword: str) -> Any:
        """As `attributes.get`."""
        value = self._values.get(keyword, _UNMADE)
        if value is _UNMADE:
            element = self._elements.get(tag := tag_of(keyword))
            value = self._values[keyword] = None if element is None else self._value(tag, *element)
        return value

    def _value(self, tag: int, kind: str, value: bytes) -> Any:
        plain = plain_value(kind, value)
        if plain is not None:
            return plain
        if kind == "SQ" and (count := _empty_items(value)):
            return [Header({}, self._implicit)] * count
        raw = RawDataElement(BaseTag(tag), kind, len(value), value, 0, self._implicit, True)
        return Dataset({BaseTag(tag): raw})[BaseTag(tag)].value


def plain_value(kind: str, value: bytes, little_endian: bool = True) -> Any:
    """The value of plain text (a list where there are several) or of one number; None: left to pydicom."""
    if kind in _PLAIN_TEXT and value.isascii() and b"\x1b" not in value:
        text = value.decode("ascii")
        if "\\" not in text:
            return text.strip("\0 ")
        return [part.strip("\0 ") for part in text.split("\\")]
    if kind == "US" and len(value) == 2:
        return int.from_bytes(value, "little" if little_endian else "big")
    if kind == "FD" and len(value) == 8 and little_endian:
        return _FLOAT(value)[0]
    return None


def _empty_items(value: bytes) -> int:
    """How many items a sequence has, where all of them are empty; else 0. Some vendors write such ones in each file."""
    count, rest = divmod(len(value), 8)
    return 0 if rest or value != b"\xfe\xff\x00\xe0\0\0\0\0" * count else count


def _element(data: bytes, at: int, implicit: bool) -> _Element:
    group, number = struct.unpack_from("<HH", data, at)
    tag = group << 16 | number
    if implicit or group == 0xFFFE:
        return tag, b"", at + 8, struct.unpack_from("<I", data, at + 4)[0]
    kind = data[at + 4 : at + 6]
    if kind in _SHORT:
        return tag, kind, at + 8, struct.unpack_from("<H", data, at + 6)[0]
    if kind in _LONG:
        return tag, kind, at + 12, struct.unpack_from("<I", data, at + 8)[0]
    raise _Unusual


def _behind_sequence(data: bytes, at: int, implicit: bool, depth: int = 0) -> int:
    """The place behind a sequence of undefined length whose first item starts `at`."""
    if depth > _DEEPEST:
        raise _Unusual
    while True:
        tag, _, at, length = _element(data, at, implicit)
        if tag == _SEQUENCE_END:
            return at
        if tag != _ITEM:
            raise _Unusual
        if length != _UNDEFINED:
            at += length
            continue
        while True:
            tag, kind, at, length = _element(data, at, implicit)
            if tag == _ITEM_END:
                break
            if length != _UNDEFINED:
                at += length
            elif kind in (b"SQ", b""):
                at = _behind_sequence(data, at, implicit, depth + 1)
            else:
                raise _Unusual


def _meta(data: bytes) -> tuple[dict[int, tuple[str, bytes]], int]:
    """The file's meta elements and the place behind them."""
    if data[128:132] != b"DICM":
        raise _Unusual
    tag, _, at, length = _element(data, 132, False)
    if tag != _META_LENGTH or length != 4:
        raise _Unusual
    end = at + 4 + struct.unpack_from("<I", data, at)[0]
    found = {}
    at += length
    while at < end:
        tag, kind, at, length = _element(data, at, False)
        if tag >> 16 != 2 or at + length > end:
            raise _Unusual
        found[tag] = (kind.decode(), data[at : at + length])
        at += length
    return found, end


@functools.cache
def _kinds(keywords: tuple[str, ...]) -> dict[int, tuple[bytes, str]]:
    kinds = {tag_of(keyword): dictionary_VR(Tag(keyword)) for keyword in keywords}
    return {tag: (kind.encode(), kind) for tag, kind in kinds.items()}


def read(file: BinaryIO, keywords: Collection[str]) -> tuple[Header, int] | None:
    """The wanted elements of a file and the place of its pixel element; None where pydicom should read it.

    `file` stands at its start and is left anywhere.
    """
    data = file.read(FIRST_BYTES)
    try:
        try:
            return _parse(data, keywords)
        except (_Short, struct.error):
            more = file.read(_MORE_BYTES - len(data))
            return _parse(data + more, keywords) if more else None
    except (_Unusual, struct.error, KeyError):
        return None


def _parse(data: bytes, keywords: Collection[str]) -> tuple[Header, int] | None:
    meta, at = _meta(data)
    syntax = meta[_TRANSFER_SYNTAX][1].strip(b"\0 ")
    if syntax not in (_IMPLICIT, _EXPLICIT) and not syntax.startswith(_COMPRESSED):
        return None
    implicit = syntax == _IMPLICIT
    found, at = _wanted(data, at, implicit, _kinds(tuple(keywords)))
    return Header(found, implicit, Header(meta, False)), at


def _wanted(
    data: bytes, at: int, implicit: bool, kinds: dict[int, tuple[bytes, str]]
) -> tuple[dict[int, tuple[str, bytes]], int]:
    found: dict[int, tuple[str, bytes]] = {}
    last, size = 0, len(data)
    while True:
        # What `_element` does, written out: a header has a hundred elements.
        group, number, kind, length = _HEAD(data, at)
        tag = group << 16 | number
        if tag >= _FIRST_PIXEL_TAG:
            if tag == _PIXEL_DATA and (implicit or kind in _SHORT or kind in _LONG):
                return found, at
            raise _Unusual
        if tag <= last:
            raise _Unusual
        last = tag
        if implicit:
            kind, start, length = b"", at + 8, _LONG_LENGTH(data, at + 4)[0]
        elif kind in _SHORT:
            start = at + 8
        elif kind in _LONG:
            start, length = at + 12, _LONG_LENGTH(data, at + 8)[0]
        else:
            raise _Unusual
        if length == _UNDEFINED:
            if tag in kinds or kind not in (b"SQ", b""):
                raise _Unusual
            at = _behind_sequence(data, start, implicit)
            continue
        at = start + length
        if at > size:
            raise _Short
        if tag in kinds:
            expected, representation = kinds[tag]
            if kind not in (b"", expected):
                raise _Unusual
            value = data[start:at]
            if representation in _TEXT and not _plain(value):
                raise _Unusual
            found[tag] = representation, value


def _plain(value: bytes) -> bool:
    return value.isascii() and b"\x1b" not in value
