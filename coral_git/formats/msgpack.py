"""MessagePack as Flax writes it: maps of names, and arrays as extension type 1.

https://github.com/msgpack/msgpack/blob/master/spec.md, and ``flax/serialization.py`` for the arrays: such an
extension is itself MessagePack, an array of shape, name of the dtype in NumPy, and bytes. Arrays above 1 GiB
are there in pieces, one tensor each. Scalars of NumPy (extension type 3) are opaque.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from coral_git.formats.base import Layout, NotThisFormat
from coral_git.formats.page import Page
from coral_git.formats.segments import Segments
from coral_git.limits import Limits
from coral_git.types import ByteSource

NDARRAY = 1
"""The extension type of arrays."""

DTYPE_NAMES = {
    **{f"float{bits}": f"F{bits}" for bits in (16, 32, 64)},
    **{f"int{bits}": f"I{bits}" for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": f"U{bits}" for bits in (8, 16, 32, 64)},
    **{f"complex{bits}": f"C{bits}" for bits in (64, 128)},
    "bool": "BOOL",
    "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "float8_e8m0fnu": "F8_E8M0",
    "float8_e4m3fnuz": "F8_E4M3FNUZ",
    "float8_e5m2fnuz": "F8_E5M2FNUZ",
    "int2": "I8",
    "int4": "I8",
    "uint2": "U8",
    "uint4": "U8",
}
"""Names of dtypes in NumPy and ml_dtypes, and how manifests call them. Theirs of 2 and 4 bits take a byte."""

_MAP, _ARRAY, _TEXT, _BINARY, _EXTENSION, _SCALAR = range(6)
_LONG = {
    0xC4: (_BINARY, 1),
    0xC5: (_BINARY, 2),
    0xC6: (_BINARY, 4),
    0xC7: (_EXTENSION, 1),
    0xC8: (_EXTENSION, 2),
    0xC9: (_EXTENSION, 4),
    0xD9: (_TEXT, 1),
    0xDA: (_TEXT, 2),
    0xDB: (_TEXT, 4),
    0xDC: (_ARRAY, 2),
    0xDD: (_ARRAY, 4),
    0xDE: (_MAP, 2),
    0xDF: (_MAP, 4),
}
"""First bytes that a length of so many bytes follows."""

_UNSIGNED = 0xCC
_FIXED = {
    **dict.fromkeys((*range(128), *range(224, 256)), (_SCALAR, 0)),
    **{0x80 + pairs: (_MAP, pairs) for pairs in range(16)},
    **{0x90 + items: (_ARRAY, items) for items in range(16)},
    **{0xA0 + length: (_TEXT, length) for length in range(32)},
    0xC0: (_SCALAR, 0),
    0xC2: (_SCALAR, 0),
    0xC3: (_SCALAR, 0),
    0xCA: (_SCALAR, 4),
    0xCB: (_SCALAR, 8),
    **{_UNSIGNED + power: (_SCALAR, 1 << power) for power in range(4)},
    **{0xD0 + power: (_SCALAR, 1 << power) for power in range(4)},
    **{0xD4 + power: (_EXTENSION, 1 << power) for power in range(5)},
}
"""The other first bytes; they say the length themselves."""


class _Value(NamedTuple):
    """The beginning of a value.

    Attributes:
        kind: what it is.
        size: items of an array, pairs of a map, bytes of everything else.
        start: the byte behind its length; for an extension, behind the type.
        extension: the type of an extension; 0 for everything else.
    """

    kind: int
    size: int
    start: int
    extension: int = 0


class MsgpackReader:
    """The reader of ``.msgpack`` files of Flax, whatever they are called."""

    name = "msgpack"
    version = 1

    def sniff(self, head: bytes, size: int) -> bool:
        """Whether the file begins with a map that is not empty."""
        return head[:1] in (b"\xde", b"\xdf") or b"\x80" < head[:1] <= b"\x8f"

    def layout(self, source: ByteSource, limits: Limits) -> Layout:
        """The arrays, in the order of their bytes.

        Raises:
            NotThisFormat: the file is not one such map, or has no arrays.
        """
        file = _Msgpack(source, limits)
        segments = Segments(limits)
        for name, value in _leaves(file, limits):
            if value.extension == NDARRAY:
                dtype, shape, data = file.array(value, limits.rank)
                segments.add(name, DTYPE_NAMES.get(dtype), shape, data.start, data.size)
        return Layout(f"{self.name}/{self.version}", segments.in_file_order())


class _Open:
    """A map or an array that the walk is in.

    Args:
        value: where it begins.
        prefix: what the names of its items begin with.
    """

    def __init__(self, value: _Value, prefix: str) -> None:
        self.is_map = value.kind == _MAP
        self.count = value.size
        self.prefix = prefix
        self.done = 0


def _leaves(file: _Msgpack, limits: Limits) -> Iterator[tuple[str, _Value]]:
    """Every value that is no map and no array, with the way to it, joined by dots."""
    value = file.value(0)
    if value.kind != _MAP:
        raise NotThisFormat("the file is no map")
    position = value.start
    stack = [_Open(value, "")]
    while stack:
        here = stack[-1]
        if here.done == here.count:
            stack.pop()
            continue
        name = f"{here.prefix}{here.done}"
        here.done += 1
        if here.is_map:
            key = file.expect(_TEXT, position)
            position = key.start + key.size
            name = here.prefix + file.text(key.start, key.size)
        value = file.value(position)
        position = value.start
        if value.kind not in (_MAP, _ARRAY):
            position += value.size
            yield name, value
        elif len(stack) == limits.json_depth:
            raise NotThisFormat("maps are nested too deep")
        else:
            stack.append(_Open(value, f"{name[: limits.name_bytes]}."))
    if position != file.size:
        raise NotThisFormat("something follows the map")


class _Msgpack(Page):
    """A file of MessagePack."""

    def value(self, position: int) -> _Value:
        """The value that begins at a byte.

        Raises:
            NotThisFormat: there is none, it exceeds the file, or there were too many.
        """
        self.count()
        first = self.take(position, 1)[0]
        position += 1
        if first in _LONG:
            kind, width = _LONG[first]
            count = int.from_bytes(self.take(position, width), "big")
            position += width
        elif first in _FIXED:
            kind, count = _FIXED[first]
        else:
            raise NotThisFormat("a value is of no type")
        extension = 0
        if kind == _EXTENSION:
            extension = self.take(position, 1)[0]
            position += 1
        if kind not in (_MAP, _ARRAY) and position + count > self.size:
            raise NotThisFormat("a value exceeds the file")
        return _Value(kind, count, position, extension)

    def expect(self, kind: int, position: int) -> _Value:
        """The same, of a certain kind.

        Raises:
            NotThisFormat: it is of another one.
        """
        value = self.value(position)
        if value.kind != kind:
            raise NotThisFormat("a value is of another type")
        return value

    def array(self, extension: _Value, most: int) -> tuple[str, tuple[int, ...], _Value]:
        """The name of the dtype, the shape and the bytes of an array of at most so many dimensions.

        Raises:
            NotThisFormat: the extension is no such array.
        """
        fields = self.expect(_ARRAY, extension.start)
        dimensions = self.expect(_ARRAY, fields.start)
        if fields.size != 3 or dimensions.size > most:
            raise NotThisFormat("an array does not have three fields, or too many dimensions")
        position = dimensions.start
        shape = []
        for _ in range(dimensions.size):
            value = self.expect(_SCALAR, position)
            shape.append(self._unsigned(position, value))
            position = value.start + value.size
        dtype = self.expect(_TEXT, position)
        data = self.expect(_BINARY, dtype.start + dtype.size)
        if data.start + data.size != extension.start + extension.size:
            raise NotThisFormat("the bytes of an array do not fill it")
        return self.text(dtype.start, dtype.size), tuple(shape), data

    def _unsigned(self, position: int, value: _Value) -> int:
        """A scalar as a number that is not negative."""
        first = self.take(position, 1)[0]
        if first < 0x80:
            return first
        if not _UNSIGNED <= first < _UNSIGNED + 4:
            raise NotThisFormat("a dimension is no number")
        return int.from_bytes(self.take(value.start, value.size), "big")
