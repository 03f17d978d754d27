"""The values of any dtype that has numbers, for statistics."""

from __future__ import annotations

from typing import Any

import numpy as np

from coral_git.pipeline.float_dtypes import Values, is_float
from coral_git.pipeline.values import decode, value_width
from coral_git.types import Buffer, DType

_INTEGERS = {
    "BOOL": "u1", "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "U32": "<u4", "I32": "<i4",
    "U64": "<u8", "I64": "<i8", "U16_BE": ">u2", "I16_BE": ">i2", "U32_BE": ">u4", "I32_BE": ">i4",
    "U64_BE": ">u8", "I64_BE": ">i8",
}  # fmt: skip


def has_numbers(dtype: DType) -> bool:
    """Whether each unit of a dtype is a number by itself; quantized blocks are not."""
    return is_float(dtype) or dtype.name in _INTEGERS


def width_of(dtype: DType) -> int:
    """Bytes of a number."""
    return value_width(dtype) if is_float(dtype) else np.dtype(_INTEGERS[dtype.name]).itemsize


def numbers(data: Buffer, dtype: DType) -> Values:
    """The numbers as float64, shape (values,)."""
    if is_float(dtype):
        return decode(data, dtype).astype(np.float64)
    values: Values = np.frombuffer(data, _INTEGERS[dtype.name]).astype(np.float64)
    return values


def exact_numbers(data: Buffer, dtype: DType) -> list[int] | list[float]:
    """The numbers as Python has them; none is rounded."""
    values = decode(data, dtype) if is_float(dtype) else np.frombuffer(data, _INTEGERS[dtype.name])
    found: list[int] | list[float] = values.tolist()
    return found


def count_unlike(old: Buffer, new: Buffer, width: int) -> int:
    """How many units of a width in bytes have not the same bits."""
    kind: Any = {1: "u1", 2: "u2", 4: "u4", 8: "u8"}.get(width)
    if kind is None:
        pieces = (np.frombuffer(one, "u1").reshape(-1, width) for one in (old, new))
        return int(np.count_nonzero(np.not_equal(*pieces).any(axis=1)))
    return int(np.count_nonzero(np.frombuffer(old, kind) != np.frombuffer(new, kind)))
