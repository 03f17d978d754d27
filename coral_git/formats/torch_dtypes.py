"""The data types of torch, by the names that its files have for them, and what coral-git calls them.

The names of storage classes are those of ``torch.storage`` and of TorchScript's pickler, which builds them
from ``toString(ScalarType)``. Quantized values are integers here. Two types have no name of their own: the
halves of a complex32 are seen as float16 values, and four-bit floats, of which torch counts pairs, one by one
as in safetensors.
"""

from __future__ import annotations

from typing import NamedTuple

from coral_git.types import DTYPES, DType


class TorchDType(NamedTuple):
    """A data type of torch.

    Attributes:
        dtype: how coral-git sees its values.
        values: how many of those make one element of torch.
    """

    dtype: DType
    values: int = 1

    @property
    def width(self) -> int:
        """Bytes of one element of torch."""
        return self.dtype.bits * self.values // 8


_TYPED = (
    ("float64", "F64", "Double"),
    ("float32", "F32", "Float"),
    ("float16", "F16", "Half"),
    ("bfloat16", "BF16", "BFloat16"),
    ("int64", "I64", "Long"),
    ("int32", "I32", "Int"),
    ("int16", "I16", "Short"),
    ("int8", "I8", "Char"),
    ("uint8", "U8", "Byte"),
    ("bool", "BOOL", "Bool"),
    ("complex128", "C128", "ComplexDouble"),
    ("complex64", "C64", "ComplexFloat"),
)
"""Attribute of ``torch``, name in manifests, and storage class without its last word."""

_UNTYPED = (
    ("uint64", "U64", "UInt64"),
    ("uint32", "U32", "UInt32"),
    ("uint16", "U16", "UInt16"),
    ("float8_e4m3fn", "F8_E4M3", "Float8_e4m3fn"),
    ("float8_e5m2", "F8_E5M2", "Float8_e5m2"),
    ("float8_e4m3fnuz", "F8_E4M3FNUZ", "Float8_e4m3fnuz"),
    ("float8_e5m2fnuz", "F8_E5M2FNUZ", "Float8_e5m2fnuz"),
    ("float8_e8m0fnu", "F8_E8M0", "Float8_e8m0fnu"),
)
"""The same for dtypes whose storage classes only TorchScript knows; ``torch.save`` has untyped bytes."""

_ODD = (
    ("qint8", "I8", "QInt8"),
    ("qint32", "I32", "QInt32"),
    ("quint8", "U8", "QUInt8"),
    ("quint4x2", "U8", "QUInt4x2"),
    ("quint2x4", "U8", "QUInt2x4"),
    ("bits8", "U8", "Bits8"),
    ("bits16", "U16", "Bits16"),
    ("bits1x8", "U8", "Bits1x8"),
    ("bits2x4", "U8", "Bits2x4"),
    ("bits4x2", "U8", "Bits4x2"),
)
"""The same for dtypes that share a name in manifests with another one; they are read, not written."""

_HALF_PAIR = TorchDType(DTYPES["F16"], 2)
_FLOAT4_PAIR = TorchDType(DTYPES["F4"], 2)

BY_ATTRIBUTE = {
    **{attribute: TorchDType(DTYPES[name]) for attribute, name, _ in (*_TYPED, *_UNTYPED, *_ODD)},
    **{f"int{bits}": TorchDType(DTYPES["I8"]) for bits in range(1, 8)},
    **{f"uint{bits}": TorchDType(DTYPES["U8"]) for bits in range(1, 8)},
    "complex32": _HALF_PAIR,
    "float4_e2m1fn_x2": _FLOAT4_PAIR,
}
"""Attribute of ``torch`` → data type."""

BY_STORAGE = {
    **{f"{storage}Storage": TorchDType(DTYPES[name]) for _, name, storage in (*_TYPED, *_UNTYPED, *_ODD)},
    "ComplexHalfStorage": _HALF_PAIR,
    "Float4_e2m1fn_x2Storage": _FLOAT4_PAIR,
    "UntypedStorage": TorchDType(DTYPES["U8"]),
}
"""Name of a storage class, without its module → data type."""

STORAGE_OF = {attribute: f"{storage}Storage" for attribute, _, storage in _TYPED}
"""Attribute of ``torch`` → storage class, for the dtypes that have one in ``torch.save``."""

ATTRIBUTE_OF = {name: attribute for attribute, name, _ in (*_TYPED, *_UNTYPED)}
"""Name in manifests → attribute of ``torch``."""


def in_byte_order(dtype: DType, big_endian: bool) -> DType:
    """The data type of the same values in that byte order.

    Big-endian bfloat16 values have no name and are seen as integers.
    """
    if not big_endian or dtype.bits <= 8:
        return dtype
    return DTYPES.get(f"{dtype.name}_BE") or DTYPES[f"U{dtype.bits}_BE"]
