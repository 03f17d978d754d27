"""The words every layer shares: ids, dtypes, elements, byte sources.

An *object* is the bytes of one part of a file and is named by its BLAKE3-256; a *pack* is named by its
SHA-256; a *file* by the SHA-256 that ``sha256sum`` prints. The three never mix: each has its own type.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum
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


class DeltaType(StrEnum):
    """How tensors are stored, by the names of the strategies; the names of the original Coral.

    All but the quantized ones are exact for every dtype and every bit pattern. Those two change the weights
    first, which only an act of the user does, never a filter.

    Example:
        >>> DeltaType("sparse").is_lossless, DeltaType.INT8_QUANTIZED.bits
        (True, 8)
    """

    AUTO = "auto"
    FLOAT32_RAW = "float32_raw"
    COMPRESSED = "compressed"
    XOR_FLOAT32 = "xor_float32"
    XOR_BFLOAT16 = "xor_bfloat16"
    EXPONENT_MANTISSA = "exponent_mantissa"
    INT16_QUANTIZED = "int16_quantized"
    INT8_QUANTIZED = "int8_quantized"
    SPARSE = "sparse"

    @property
    def is_lossless(self) -> bool:
        """Whether tensors keep every bit."""
        return self.bits == 0

    @property
    def bits(self) -> int:
        """Bits that a weight is quantized to; 0 for the strategies that are exact."""
        return {DeltaType.INT8_QUANTIZED: 8, DeltaType.INT16_QUANTIZED: 16}.get(self, 0)


class DType(NamedTuple):
    """A data type as manifests name it (the names of safetensors, and of ggml for its blocks).

    Attributes:
        name: the name in manifests, e.g. ``"BF16"``.
        bits: bits of one block; values of sub-byte types are packed.
        element: how codecs see the bytes.
        values: values of a block: 1 but for types whose values share a scale.
    """

    name: str
    bits: int
    element: Element
    values: int = 1


_PLAIN = (
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
    DType("C128", 128, Element.F64),
)
"""The dtypes of safetensors, and the one that others have beyond them."""

_BIG_ENDIAN = {"16": Element.INT16, "32": Element.INT32, "64": Element.INT64, "128": Element.INT64}
"""Digits of a dtype → how its big-endian values are seen, whose order as numbers is lost."""

_GGML_BLOCKS = (
    ("Q4_0", 32, 18),
    ("Q4_1", 32, 20),
    ("Q5_0", 32, 22),
    ("Q5_1", 32, 24),
    ("Q8_0", 32, 34),
    ("Q8_1", 32, 36),
    ("Q2_K", 256, 84),
    ("Q3_K", 256, 110),
    ("Q4_K", 256, 144),
    ("Q5_K", 256, 176),
    ("Q6_K", 256, 210),
    ("Q8_K", 256, 292),
    ("IQ2_XXS", 256, 66),
    ("IQ2_XS", 256, 74),
    ("IQ3_XXS", 256, 98),
    ("IQ1_S", 256, 50),
    ("IQ4_NL", 32, 18),
    ("IQ3_S", 256, 110),
    ("IQ2_S", 256, 82),
    ("IQ4_XS", 256, 136),
    ("IQ1_M", 256, 56),
    ("TQ1_0", 256, 54),
    ("TQ2_0", 256, 66),
    ("MXFP4", 32, 17),
    ("NVFP4", 64, 36),
    ("Q1_0", 128, 18),
)
"""Name, values and bytes of a block (ggml, ``ggml-common.h``)."""

DTYPES = {
    dtype.name: dtype
    for dtype in (
        *_PLAIN,
        *(
            DType(f"{dtype.name}_BE", dtype.bits, element)
            for dtype in _PLAIN
            for digits, element in _BIG_ENDIAN.items()
            if dtype.name.lstrip("UIFC") == digits
        ),
        *(DType(name, 8 * length, Element.INT8, values) for name, values, length in _GGML_BLOCKS),
    )
}
"""Every dtype a manifest may name. Part of the format: entries are added, never changed."""


def tensor_bytes(dtype: DType, shape: tuple[int, ...]) -> int | None:
    """Length in bytes of a tensor, or None where its values do not fill whole blocks and bytes."""
    values = 1
    for dimension in shape:
        values *= dimension
    blocks, rest = divmod(values, dtype.values)
    bits = blocks * dtype.bits
    return None if rest or bits % 8 else bits // 8


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
