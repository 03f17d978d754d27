"""The words every layer shares: ids, dtypes, elements, byte sources.

An *object* is the bytes of one part of a file and is named by its BLAKE3-256; a *pack* is named by its
SHA-256; a *file* by the SHA-256 that ``sha256sum`` prints. The three never mix: each has its own type.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple, NewType, Protocol

ObjectId = NewType("ObjectId", bytes)
"""BLAKE3-256 of the raw bytes of an object (32 bytes)."""

PackId = NewType("PackId", bytes)
"""SHA-256 of the bytes of a pack (32 bytes)."""

FileDigest = NewType("FileDigest", bytes)
"""SHA-256 of a whole file (32 bytes)."""

Buffer = bytes | bytearray | memoryview
"""Contiguous bytes."""

ID_LENGTH = 32
_HEX = frozenset("0123456789abcdef")


def parse_id(text: str) -> bytes | None:
    """The 32 bytes that 64 lower-case hexadecimal digits stand for, or None for any other text."""
    if len(text) != 2 * ID_LENGTH or not _HEX.issuperset(text):
        return None
    return bytes.fromhex(text)


class Element(IntEnum):
    """How a codec sees the units of an object. The numbers are written to disk and never reused."""

    BYTES = 0
    F16 = 1
    BF16 = 2
    F32 = 3
    F64 = 4
    F8 = 5
    INT8 = 6
    INT16 = 7
    INT32 = 8
    INT64 = 9

    @property
    def width(self) -> int:
        """Bytes of one unit."""
        return _WIDTH[self]

    @property
    def is_float(self) -> bool:
        """Whether the units are sign-magnitude floats, so that order-preserving integers exist."""
        return Element.F16 <= self <= Element.F8

    @property
    def rotates(self) -> bool:
        """Whether a rotation by one bit puts the exponent on a byte boundary (the sign goes last)."""
        return self in (Element.BF16, Element.F32, Element.F64)


_WIDTH = (1, 2, 2, 4, 8, 1, 1, 2, 4, 8)


class DType(NamedTuple):
    """A data type as manifests name it (the names of safetensors).

    Attributes:
        name: the name in manifests, e.g. ``"BF16"``.
        bits: bits of one value; sub-byte types are packed.
        element: how codecs see the bytes.
    """

    name: str
    bits: int
    element: Element


DTYPES = {
    dtype.name: dtype
    for dtype in (
        DType("BOOL", 8, Element.INT8),
        DType("U8", 8, Element.INT8),
        DType("I8", 8, Element.INT8),
        DType("U16", 16, Element.INT16),
        DType("I16", 16, Element.INT16),
        DType("U32", 32, Element.INT32),
        DType("I32", 32, Element.INT32),
        DType("U64", 64, Element.INT64),
        DType("I64", 64, Element.INT64),
        DType("F4", 4, Element.BYTES),
        DType("F6_E2M3", 6, Element.BYTES),
        DType("F6_E3M2", 6, Element.BYTES),
        DType("F8_E4M3", 8, Element.F8),
        DType("F8_E5M2", 8, Element.F8),
        DType("F8_E8M0", 8, Element.INT8),
        DType("F8_E4M3FNUZ", 8, Element.F8),
        DType("F8_E5M2FNUZ", 8, Element.F8),
        DType("F16", 16, Element.F16),
        DType("BF16", 16, Element.BF16),
        DType("F32", 32, Element.F32),
        DType("F64", 64, Element.F64),
        DType("C64", 64, Element.F32),
    )
}
"""Every dtype a manifest may name. Part of the format: entries are added, never changed."""


def tensor_bytes(dtype: DType, shape: tuple[int, ...]) -> int | None:
    """Length in bytes of a tensor, or None where the bits do not fill whole bytes."""
    bits = dtype.bits
    for dimension in shape:
        bits *= dimension
    return None if bits % 8 else bits // 8


class ByteSource(Protocol):
    """Random access to the bytes of a file, without its path."""

    @property
    def size(self) -> int:
        """Length in bytes."""

    def read_at(self, offset: int, length: int) -> bytes:
        """The bytes from ``offset``; fewer than ``length`` only at the end."""


class BytesSource(NamedTuple):
    """A byte source over bytes in memory."""

    data: bytes

    @property
    def size(self) -> int:
        """Length in bytes."""
        return len(self.data)

    def read_at(self, offset: int, length: int) -> bytes:
        """The bytes from ``offset``; fewer than ``length`` only at the end."""
        return self.data[offset : offset + length]
