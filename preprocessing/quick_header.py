"""The common header, read ten times faster than pydicom does: a walk over the elements that keeps only what is wanted.

Anything out of the ordinary (big endian, deflated, most Enhanced, other scripts than ASCII, elements out of order, a
length that leads out of what was read) is answered with None, and pydicom reads the file from the start: PS3.5 7.1.
"""

import functools
import struct
from collections.abc import Collection
from typing import BinaryIO

from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.tag import BaseTag, Tag

_READ_BYTES = 1 << 18
_IMPLICIT, _EXPLICIT = b"1.2.840.10008.1.2", b"1.2.840.10008.1.2.1"
_COMPRESSED = (b"1.2.840.10008.1.2.4.", b"1.2.840.10008.1.2.5")
_TRANSFER_SYNTAX, _META_LENGTH = 0x00020010, 0x00020000
_FIRST_PIXEL_TAG, _PIXEL_DATA = 0x7FE00000, 0x7FE00010
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_UNDEFINED = 0xFFFFFFFF
_DEEPEST = 8
_SHORT = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
_LONG = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_TEXT = ("LO", "SH", "PN", "UC", "LT", "ST", "UT")

_Element = tuple[int, bytes, int, int]  # tag, representation (empty where implicit), start of the value, its length


class _Unusual(Exception):
    """Not for this reader."""


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


def _meta(data: bytes) -> tuple[dict[BaseTag, RawDataElement], int]:
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
        found[BaseTag(tag)] = _raw(data, tag, kind.decode(), at, length, False)
        at += length
    return found, end


def _raw(data: bytes, tag: int, kind: str, at: int, length: int, implicit: bool) -> RawDataElement:
    return RawDataElement(BaseTag(tag), kind, length, data[at : at + length], at, implicit, True)


@functools.cache
def _kinds(keywords: tuple[str, ...]) -> dict[int, str]:
    return {int(Tag(keyword)): dictionary_VR(Tag(keyword)) for keyword in keywords}


def read(file: BinaryIO, keywords: Collection[str]) -> tuple[Dataset, int] | None:
    """The wanted elements of a file and the place of its pixel element; None where pydicom should read it.

    `file` stands at its start and is left anywhere.
    """
    data = file.read(_READ_BYTES)
    try:
        meta, at = _meta(data)
        syntax = meta[BaseTag(_TRANSFER_SYNTAX)].value.strip(b"\0 ")  # pyright: ignore[reportOptionalMemberAccess]
        if syntax not in (_IMPLICIT, _EXPLICIT) and not syntax.startswith(_COMPRESSED):
            return None
        found, at = _wanted(data, at, syntax == _IMPLICIT, _kinds(tuple(keywords)))
    except (_Unusual, struct.error, KeyError, AttributeError):
        return None
    header = Dataset(found)  # pyright: ignore[reportArgumentType]
    header.file_meta = FileMetaDataset(meta)  # pyright: ignore[reportArgumentType]
    return header, at


def _wanted(data: bytes, at: int, implicit: bool, kinds: dict[int, str]) -> tuple[dict[BaseTag, RawDataElement], int]:
    found: dict[BaseTag, RawDataElement] = {}
    last = 0
    while True:
        tag, kind, start, length = _element(data, at, implicit)
        if tag >= _FIRST_PIXEL_TAG:
            if tag == _PIXEL_DATA:
                return found, at
            raise _Unusual
        if tag <= last:
            raise _Unusual
        last = tag
        if length == _UNDEFINED:
            if tag in kinds or kind not in (b"SQ", b""):
                raise _Unusual
            at = _behind_sequence(data, start, implicit)
            continue
        at = start + length
        if at > len(data):
            raise _Unusual
        if tag in kinds:
            representation = kinds[tag]
            if not implicit and kind.decode() != representation:
                raise _Unusual
            found[BaseTag(tag)] = raw = _raw(data, tag, representation, start, length, implicit)
            if representation in _TEXT and not _plain(raw.value or b""):
                raise _Unusual


def _plain(value: bytes) -> bool:
    return value.isascii() and b"\x1b" not in value
