"""Symmetric quantization of float32 by groups, and finding it again in nothing but the result.

A group is 4096 units. Its residuals, the differences to a base or the values themselves, are rounded to whole
multiples of a *scale*: ``result = base + scale * step``, two float32 operations, each rounded to the nearest,
half to even. The scale is a bfloat16, so the product of its 8 bits with the 16 bits of a step is exact: only
the addition rounds. Only float32 is quantized: a sum rounded to 16 bits would not tell which step it had.

The scale is the smallest bfloat16 with which the largest residual takes at most 127 or 32767 steps. So it
takes 126 or 127 (32513 to 32767) of them, and the largest residual of the result leaves a few neighbouring
bfloat16 as the only scales to try. Nothing about that is remembered beside the numbers, and what is found is
compared bit by bit. Imports numpy, so whoever may do without imports it late.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Codes = npt.NDArray[np.int64]
Steps = npt.NDArray[np.int16]
_Doubles = npt.NDArray[np.float64]
_Flags = npt.NDArray[np.bool_]
_Unit = TypeVar("_Unit", bound=np.generic)

GROUP = 4096
"""Units that share a scale."""

MOST_STEPS = {8: 127, 16: 32767}
"""Bits of a step → the largest one."""

SCALE_MIN, SCALE_MAX = 0x0080, 0x7F7F
"""The bfloat16 codes of the smallest and the largest scale: positive, finite, not denormal."""

_SLAB = 64 * GROUP
_SAMPLE_STRIDE = 64
# Likeliest first. Rounding in the additions moves the largest residual a little, hence the last two.
_NEIGHBOURS = (1, 2, 0, 3, -1)


class Grid(NamedTuple):
    """The scale and steps of each group.

    Attributes:
        bits: of a step: 8 or 16; 0 for a group that has no scale, shape (groups,).
        codes: the scale as bfloat16 code; 0 where there is none, shape (groups,).
        steps: 0 where there is no scale, shape (groups, 4096).
    """

    bits: npt.NDArray[np.uint8]
    codes: Codes
    steps: Steps


def quantize(values: Floats, base: Floats | None, bits: int) -> Floats:
    """The values with their residuals rounded to whole steps.

    With the scale s of a group, r its largest absolute residual and n = 127 or 32767,

        s <= r / n * (1 + 2^-7) and |result - value| <= s / 2

    without a base, and half a unit in the last place of the result more with one. (With a base, the residual
    is rounded to float64 first; what that adds is below 2^-36 s.)

    A group stays just as it is where it is such a result already (so doing it twice changes nothing), where a
    unit of it or of its base is not finite, where the scale would be zero, denormal or not finite, or where
    ``recover`` would not find its steps.

    Args:
        values: shape (units,).
        base: what the residuals are counted from, shape (units,); None for zero.
        bits: 8 or 16.

    Returns:
        A new array, shape (units,).
    """
    results = np.empty(values.shape, np.float32)
    for start in range(0, values.size, _SLAB):
        part = slice(start, start + _SLAB)
        groups = to_groups(values[part])
        bases = np.zeros_like(groups) if base is None else to_groups(base[part])
        results[part] = from_groups(_quantize_groups(groups, bases, bits), values[part].size)
    return results


def recover(results: Floats, bases: Floats, widths: Sequence[int] = (8, 16)) -> Grid:
    """The scale and steps of each group that has any, such that ``dequantize`` gives just its bits.

    Args:
        results: shape (groups, 4096).
        bases: shape (groups, 4096).
        widths: the bits of a step to look for, the fewest first.
    """
    count = len(results)
    grid = Grid(np.zeros(count, np.uint8), np.zeros(count, np.int64), np.zeros(results.shape, np.int16))
    with np.errstate(all="ignore"):
        residuals = results.astype(np.float64) - bases
        peaks = np.abs(residuals).max(axis=1)
        for bits in widths:
            first = _scale_codes(peaks, bits)
            for neighbour in _NEIGHBOURS:
                codes = first + neighbour
                rows = np.flatnonzero((grid.bits == 0) & np.isfinite(peaks) & is_scale(codes))
                for stride in (_SAMPLE_STRIDE, 1):
                    columns = slice(None, None, stride)
                    steps = _to_steps(residuals[rows, columns], codes[rows], bits)
                    made = dequantize(steps, codes[rows], bases[rows, columns])
                    fits = _equal_bits(made, results[rows, columns])
                    rows, steps = rows[fits], steps[fits]
                grid.bits[rows], grid.codes[rows], grid.steps[rows] = bits, codes[rows], steps
    return grid


def dequantize(steps: Steps, codes: Codes, bases: Floats) -> Floats:
    """``base + scale * step`` of each unit; overflow gives infinities.

    Args:
        steps: shape (groups, units).
        codes: the scales as bfloat16 codes, shape (groups,).
        bases: shape (groups, units).
    """
    scales = (codes.astype(np.uint32) << np.uint32(16)).view(np.float32)
    with np.errstate(all="ignore"):
        scaled = steps.astype(np.float32)
        scaled *= scales[:, None]
        scaled += bases
    return scaled


def is_scale(codes: Codes) -> _Flags:
    """Whether bfloat16 codes are scales."""
    return (codes >= SCALE_MIN) & (codes <= SCALE_MAX)


def to_groups(values: npt.NDArray[_Unit]) -> npt.NDArray[_Unit]:
    """Units in rows of a group, the last filled up with zeros; a view where nothing is missing."""
    missing = -values.size % GROUP
    whole = np.concatenate([values, np.zeros(missing, values.dtype)]) if missing else values
    return whole.reshape(-1, GROUP)


def from_groups(groups: Floats, units: int) -> Floats:
    """The first units of rows, as ``to_groups`` got them."""
    return groups.reshape(-1)[:units]


def _quantize_groups(values: Floats, bases: Floats, bits: int) -> Floats:
    widths = [width for width in MOST_STEPS if width <= bits]
    done = recover(values, bases, widths).bits > 0
    with np.errstate(all="ignore"):
        residuals = values.astype(np.float64) - bases
        codes = _scale_codes(np.abs(residuals).max(axis=1), bits)
        changes = ~done & is_scale(codes)
        codes[~changes] = SCALE_MAX
        residuals[~changes] = 0
        made = dequantize(_to_steps(residuals, codes, bits), codes, bases)
    changes &= recover(made, bases, widths).bits > 0
    return np.where(changes[:, None], made, values)


def _scale_codes(peaks: _Doubles, bits: int) -> Codes:
    """The code of the smallest bfloat16 that is no less than ``peak / most`` as float32.

    What is infinite or no number gives a code above ``SCALE_MAX``.
    """
    words = (peaks / MOST_STEPS[bits]).astype(np.float32).view(np.uint32).astype(np.int64)
    return (words + 0xFFFF) >> 16


def _to_steps(residuals: _Doubles, codes: Codes, bits: int) -> Steps:
    scales = (codes.astype(np.uint32) << np.uint32(16)).view(np.float32)
    steps = residuals / scales[:, None]
    np.rint(steps, out=steps)
    np.clip(steps, -MOST_STEPS[bits], MOST_STEPS[bits], out=steps)
    return steps.astype(np.int16)


def _equal_bits(made: Floats, results: Floats) -> _Flags:
    """Which rows are the same bits."""
    flags: _Flags = (made.view(np.uint32) == results.view(np.uint32)).all(axis=1)
    return flags
