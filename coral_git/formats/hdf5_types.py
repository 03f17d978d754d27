"""Dataspaces and datatypes of HDF5, as dimensions and dtypes."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from coral_git.formats.base import NotThisFormat
from coral_git.formats.hdf5_file import Fields
from coral_git.types import DTYPES, DType

_FIXED_POINT, _FLOATING_POINT, _COMPOUND, _ENUMERATED = 0, 1, 6, 8
_SIGNED = 0x08
_MAX_RANK = 32

_FLOATS: dict[tuple[int, tuple[int, ...]], str] = {
    # bytes, (sign location, exponent location, exponent size, mantissa location, mantissa size, bias)
    (8, (63, 52, 11, 0, 52, 1023)): "F64",
    (4, (31, 23, 8, 0, 23, 127)): "F32",
    (2, (15, 10, 5, 0, 10, 15)): "F16",
    (2, (15, 7, 8, 0, 7, 127)): "BF16",
    (1, (7, 3, 4, 0, 3, 7)): "F8_E4M3",
    (1, (7, 2, 5, 0, 2, 15)): "F8_E5M2",
}
_COMPLEX = {"F32": "C64", "F64": "C128", "F32_BE": "C64_BE", "F64_BE": "C128_BE"}
_BOOL_MEMBERS = (b"FALSE\0\0\0TRUE\0\0\0\0\0\1", b"FALSE\0TRUE\0\0\1")


class Dataspace(NamedTuple):
    """The dimensions of a dataset, and how far they may grow.

    Attributes:
        shape: the dimensions.
        can_grow: whether the largest dimensions are other ones.
    """

    shape: tuple[int, ...]
    can_grow: bool


def read_dataspace(fields: Fields) -> Dataspace | None:
    """The dimensions that a dataspace message says, or None for no values at all.

    Raises:
        NotThisFormat: it is of an unknown version, or has too many dimensions.
    """
    version = fields.expect(b"\x01", b"\x02")
    rank, flags, space = fields.integer(1), fields.integer(1), fields.integer(1)
    if rank > _MAX_RANK:
        raise NotThisFormat("a dataset has too many dimensions")
    if version == b"\x01":
        fields.take(4)
    elif space == 2:
        return None
    shape = tuple(fields.length() for _ in range(rank))
    largest = tuple(fields.length() for _ in range(rank)) if flags & 1 else shape
    return Dataspace(shape, largest != shape)


@lru_cache(maxsize=32)  # most files have one type many times
def read_dtype(data: bytes) -> DType | None:
    """The dtype that a datatype message says, or None where manifests have no name for it.

    Raises:
        NotThisFormat: the message is cut short.
    """
    fields = Fields(data, 0, 0)  # there are no addresses in it
    head = fields.integer(1)
    kind = head & 0x0F
    flags, size = fields.integer(3), fields.integer(4)
    if kind == _FIXED_POINT:
        name = _integer_name(fields, flags, size)
    elif kind == _FLOATING_POINT:
        name = _float_name(fields, flags, size)
    elif kind == _ENUMERATED:
        name = _enum_name(fields, flags, size)
    elif kind == _COMPOUND:
        return DTYPES.get(_complex_name(fields, head >> 4, flags, size))
    else:
        return None
    return DTYPES.get(name + ("" if kind == _ENUMERATED else _ending(flags, size)))


def _ending(flags: int, size: int) -> str:
    return "_BE" if flags & 1 and size > 1 else ""


def _integer_name(fields: Fields, flags: int, size: int) -> str:
    if (fields.integer(2), fields.integer(2)) != (0, 8 * size):
        return ""
    return f"{'I' if flags & _SIGNED else 'U'}{8 * size}"


def _float_name(fields: Fields, flags: int, size: int) -> str:
    """The name of a float with all its bits in use and a mantissa without its first one."""
    offset, precision = fields.integer(2), fields.integer(2)
    if (offset, precision) != (0, 8 * size) or flags & 0x40 or flags >> 4 & 3 != 2:
        return ""
    sign = flags >> 8 & 0xFF
    places = (sign, *(fields.integer(1) for _ in range(4)), fields.integer(4))
    return _FLOATS.get((size, places), "")


def _enum_name(fields: Fields, flags: int, size: int) -> str:
    """``BOOL`` for what h5py writes for one: a byte that is FALSE or TRUE."""
    if size != 1 or flags & 0xFFFF != 2 or fields.integer(1) & 0x0F != _FIXED_POINT:
        return ""
    fields.take(11)
    return "BOOL" if fields.take(fields.left).startswith(_BOOL_MEMBERS) else ""


def _complex_name(fields: Fields, version: int, flags: int, size: int) -> str:
    """The name of what h5py writes for complex numbers: a compound of two equal floats, r and i."""
    if flags & 0xFFFF != 2 or version not in (1, 3, 4, 5):
        return ""
    padding, place_width, more = (6, 4, 28) if version == 1 else (0, 1, 0)
    halves = set()
    for name, place in ((b"r", 0), (b"i", size // 2)):
        if fields.take(2 + padding).rstrip(b"\0") != name or fields.integer(place_width) != place:
            return ""
        fields.take(more)
        kind, half_flags, half_size = fields.integer(1) & 0x0F, fields.integer(3), fields.integer(4)
        if kind != _FLOATING_POINT or 2 * half_size != size:
            return ""
        halves.add(_float_name(fields, half_flags, half_size) + _ending(half_flags, half_size))
    return _COMPLEX.get(halves.pop(), "") if len(halves) == 1 else ""
