"""Casts between floats. Imports numpy, so whoever may do without imports it late.

Float32 and the 16-bit floats are cast by integer arithmetic: every machine gets the same bits.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from coral_git.types import Buffer, Element

_Units = npt.NDArray[np.uint32]

_BIAS_STEP = 112 << 23  # exponents of float32 start at -127, those of float16 at -15
_F16_OVERFLOW = 0x47800000
_F16_NORMAL = 0x38800000
_INFINITY = 0x7F800000

_PLAIN = {
    Element.F32: "<f4",
    Element.F64: "<f8",
    Element.INT8: "i1",
    Element.INT16: "<i2",
    Element.INT32: "<i4",
    Element.INT64: "<i8",
}


def narrow(base: Buffer, element: Element) -> Buffer:
    """Units of float32 as BF16 or F16; bytes after the last whole unit are left out."""
    units = np.frombuffer(memoryview(base)[: len(base) // 4 * 4], "<u4")
    halves = _to_bf16(units) if element == Element.BF16 else _to_f16(units)
    return halves.astype("<u2").tobytes()


def widen(base: Buffer, base_element: Element) -> Buffer:
    """Units of BF16 or F16 as float32; bytes after the last whole unit are left out."""
    units = np.frombuffer(memoryview(base)[: len(base) // 2 * 2], "<u2").astype(np.uint32)
    words = units << np.uint32(16) if base_element == Element.BF16 else _all_f16()[units]
    return words.astype("<u4", copy=False).tobytes()


def quiet(values: npt.NDArray[np.float32]) -> bytes:
    """The bytes of the values with NaNs that stay NaNs when their lower bits are cut off."""
    words = values.view("<u4")
    return np.where(np.isnan(values), words & 0xFF800000 | 0x00400000, words).astype("<u4").tobytes()


def to_float32(data: Buffer, element: Element) -> npt.NDArray[np.float32]:
    """The values of whole units as float32, shape (units,); NaN and infinities are 0.

    The many 8-bit floats differ in where the exponent begins. They become numbers in the order of the
    values, which is enough to compare a tensor with another of its kind.

    Args:
        data: the units; bytes after the last whole one are left out.
        element: how they are seen; not ``BYTES``.
    """
    whole = memoryview(data)[: len(data) // element.width * element.width]
    if element in (Element.BF16, Element.F16):
        values = np.frombuffer(widen(whole, element), "<f4")
    elif element == Element.F8:
        units = np.frombuffer(whole, np.uint8)
        values = np.where(units & 0x80, -1.0, 1.0) * (units & 0x7F)
    else:
        values = np.frombuffer(whole, _PLAIN[element])
    with np.errstate(over="ignore", invalid="ignore"):
        floats = values.astype(np.float32)
    floats[~np.isfinite(floats)] = 0
    return floats


def _to_bf16(units: _Units) -> _Units:
    """Rounded to even, modulo 2^32: what overflows is a NaN that nobody needs."""
    odd = (units >> np.uint32(16)) & np.uint32(1)
    return (units + np.uint32(0x7FFF) + odd) >> np.uint32(16)


def _to_f16(units: _Units) -> _Units:
    """Rounded to even; NaNs keep the upper bits of their payload."""
    sign = (units >> np.uint32(16)) & np.uint32(0x8000)
    size = units & np.uint32(0x7FFFFFFF)
    odd = (size >> np.uint32(13)) & np.uint32(1)
    normal = (size - np.uint32(_BIAS_STEP) + np.uint32(0xFFF) + odd) >> np.uint32(13)
    small = np.minimum(size, np.uint32(_F16_NORMAL)).view(np.float32) * np.float32(2**24)
    subnormal = np.rint(small).astype(np.uint32)
    special = np.uint32(0x7C00) | np.where(
        size > np.uint32(_INFINITY), (size >> np.uint32(13)) & np.uint32(0x3FF), np.uint32(0)
    )
    half = np.where(size < np.uint32(_F16_NORMAL), subnormal, normal)
    return sign | np.where(size >= np.uint32(_F16_OVERFLOW), special, half).astype(np.uint32)


@cache
def _all_f16() -> _Units:
    """Every float16 as float32; to look them up is ten times as fast as to compute them."""
    return _from_f16(np.arange(1 << 16, dtype=np.uint32))


def _from_f16(units: _Units) -> _Units:
    """Exact; NaNs keep their payload."""
    sign = (units & np.uint32(0x8000)) << np.uint32(16)
    size = units & np.uint32(0x7FFF)
    normal = (size << np.uint32(13)) + np.uint32(_BIAS_STEP)
    subnormal = (size.astype(np.float32) * np.float32(2**-24)).view(np.uint32)
    special = (size << np.uint32(13)) | np.uint32(_INFINITY)
    word = np.where(size < np.uint32(0x400), subnormal, normal)
    return sign | np.where(size >= np.uint32(0x7C00), special, word).astype(np.uint32)
