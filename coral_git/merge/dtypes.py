"""Which dtypes have values that can be merged by arithmetic. Imports no numpy: a plan needs only this."""

from __future__ import annotations

from coral_git.types import DType

_FLOATS = frozenset(
    (
        *("F16", "BF16", "F32", "F64", "C64", "C128"),
        *("F16_BE", "F32_BE", "F64_BE", "C64_BE", "C128_BE"),
        *("F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ"),
    )
)


def is_float(dtype: DType) -> bool:
    """Whether values of a dtype are floats, or complex numbers of floats, each with bits of its own."""
    return dtype.name in _FLOATS
