"""Which dtypes have values that arithmetic can be done on. Imports no numpy: a plan needs only this."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from coral_git.types import DType

if TYPE_CHECKING:
    import numpy.typing as npt

Values: TypeAlias = "npt.NDArray[Any]"
"""Values of a tensor, shape (values,), float32 or float64."""

BLOCK_VALUES = 1 << 18
"""How many values are looked at together; fewer at the end of a tensor."""

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
