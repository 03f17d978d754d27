"""Values of float tensors: out of stored bytes, and rounded once back into them.

Floats of 64 bits are computed in float64, all others in float32. Big-endian floats, complex numbers (two
floats each) and the 8-bit floats are understood; integers, booleans and blocks of quantized values are not,
because arithmetic on them means nothing.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from coral_git import floats
from coral_git.pipeline.float_dtypes import Values
from coral_git.types import Buffer, DType, Element

_SINGLE, _DOUBLE = np.dtype(np.float32), np.dtype(np.float64)
_PLAIN: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "C64": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
    "C128": np.dtype("<f8"),
    "F16_BE": np.dtype(">f2"),
    "F32_BE": np.dtype(">f4"),
    "F64_BE": np.dtype(">f8"),
    "C64_BE": np.dtype(">f4"),
    "C128_BE": np.dtype(">f8"),
}
_HALVES = {"F16": Element.F16, "BF16": Element.BF16}


class _Float8(NamedTuple):
    """An 8-bit float: bits of the mantissa, bias of the exponent, and which patterns are no numbers."""

    mantissa: int
    bias: int
    has_infinity: bool
    nan: int


_FLOAT8 = {
    "F8_E4M3": _Float8(3, 7, False, 0x7F),
    "F8_E5M2": _Float8(2, 15, True, 0x7E),
    "F8_E4M3FNUZ": _Float8(3, 8, False, 0x80),
    "F8_E5M2FNUZ": _Float8(2, 16, False, 0x80),
}
"""After "FP8 Formats for Deep Learning" (arXiv 2209.05433), and its variants without negative zero."""

_OVERFLOW = {"F16": 65520.0, "F16_BE": 65520.0, "BF16": 3.3961775e38, "F8_E4M3": 464.0, "F8_E5M2": 61440.0}
_OVERFLOW |= {"F8_E4M3FNUZ": 248.0, "F8_E5M2FNUZ": 61440.0}
"""From where values are rounded to an infinity, or to what stands for one."""


def computed_in(dtype: DType) -> np.dtype[Any]:
    """The dtype of numpy that values of a float dtype are computed in."""
    plain = _PLAIN.get(dtype.name)
    return _DOUBLE if plain is not None and plain.itemsize == 8 else _SINGLE


def value_width(dtype: DType) -> int:
    """Bytes of a value; a complex number is two values."""
    plain = _PLAIN.get(dtype.name)
    return plain.itemsize if plain is not None else dtype.bits // 8


def is_within(values: Values, dtype: DType) -> bool:
    """Whether all values are certainly finite after they are rounded to a dtype; at least one value."""
    limit = _OVERFLOW.get(dtype.name, np.inf)
    return bool(np.max(values) < limit and np.min(values) > -limit)


def decode(data: Buffer, dtype: DType) -> Values:
    """The values of whole units of a float dtype, shape (values,)."""
    plain = _PLAIN.get(dtype.name)
    if plain is not None:
        values: Values = np.frombuffer(data, plain).astype(computed_in(dtype), copy=False)
        return values
    half = _HALVES.get(dtype.name)
    if half is not None:
        return np.frombuffer(floats.widen(data, half), "<f4")
    return _float8_values(dtype.name)[np.frombuffer(data, np.uint8)]


def encode(values: Values, dtype: DType) -> Buffer:
    """Values rounded to the nearest of a dtype, half to even.

    What is too large becomes an infinity, or not a number where the dtype has no infinity.

    Args:
        values: of ``computed_in(dtype)``, shape (values,).
        dtype: a float dtype.
    """
    plain = _PLAIN.get(dtype.name)
    if plain is not None:
        with np.errstate(over="ignore"):
            return np.ascontiguousarray(values.astype(plain, copy=False)).data.cast("B")
    half = _HALVES.get(dtype.name)
    if half is not None:
        return floats.narrow(floats.quiet(np.ascontiguousarray(values, "<f4")), half)
    return _encode_float8(values, dtype.name)


@cache
def _float8_values(name: str) -> npt.NDArray[np.float32]:
    """The 256 values of an 8-bit float."""
    kind = _FLOAT8[name]
    patterns = np.arange(256)
    exponent, mantissa = (patterns & 0x7F) >> kind.mantissa, patterns & ((1 << kind.mantissa) - 1)
    fraction = mantissa / (1 << kind.mantissa) + (exponent > 0)
    values = np.ldexp(fraction, np.maximum(exponent, 1) - kind.bias) * np.where(patterns & 0x80, -1, 1)
    if kind.has_infinity:
        top = (1 << (7 - kind.mantissa)) - 1
        values[exponent == top] = np.where(mantissa, np.nan, np.copysign(np.inf, values))[exponent == top]
    elif kind.nan == 0x80:
        values[0x80] = np.nan
    else:
        values[[0x7F, 0xFF]] = np.nan
    table: npt.NDArray[np.float32] = values.astype(np.float32)
    return table


def _encode_float8(values: Values, name: str) -> bytes:
    """By bisection between the finite values; a tie goes to the even pattern."""
    kind = _FLOAT8[name]
    table = _float8_values(name)[:0x80]
    finite = table[np.isfinite(table)].astype(np.float64)
    top = 2 * finite[-1] - finite[-2]  # the pattern above the largest number, as if it were one
    middles = (finite + np.append(finite[1:], top)) / 2
    with np.errstate(invalid="ignore"):
        size = np.abs(values.astype(np.float64))
    pattern = np.searchsorted(middles, size, side="left")
    ties = size == middles[np.minimum(pattern, len(middles) - 1)]
    pattern += ties & (pattern % 2 == 1)
    too_large = len(finite) if kind.has_infinity else kind.nan
    pattern = np.where(pattern == len(finite), too_large, pattern)
    pattern = np.where(np.isnan(size), kind.nan, pattern)
    unsigned = (kind.nan == 0x80) & ((pattern == 0) | (pattern == 0x80))  # there is no negative zero
    signed = np.signbit(values) & ~unsigned
    result: bytes = (pattern | np.where(signed, 0x80, 0)).astype(np.uint8).tobytes()
    return result
