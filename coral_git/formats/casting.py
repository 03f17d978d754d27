"""Tensors in another precision: what is read is cast piece by piece. Imports numpy when it is used."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from coral_git.errors import UsageError
from coral_git.formats.base import TensorData
from coral_git.types import DTYPES, Buffer, DType, Element

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_NAMES = {
    "f64": "F64",
    "fp64": "F64",
    "float64": "F64",
    "f32": "F32",
    "fp32": "F32",
    "float32": "F32",
    "f16": "F16",
    "fp16": "F16",
    "float16": "F16",
    "half": "F16",
    "bf16": "BF16",
    "bfloat16": "BF16",
}
_FLOATS = frozenset(_NAMES.values())


def parse_float(name: str) -> DType:
    """A float dtype by one of its usual names.

    Raises:
        UsageError: there is none, or values cannot be cast to it.
    """
    found = _NAMES.get(name.lower())
    if found is None:
        raise UsageError(f"cannot cast to {name!a}", hint=f"it is one of: {', '.join(sorted(_FLOATS))}")
    return DTYPES[found]


def as_dtype(tensor: TensorData, dtype: DType) -> TensorData:
    """A tensor with its values cast to another float, rounded to the nearest, half to even.

    Integers, booleans, 8-bit floats, complex and quantized values stay as they are.

    Args:
        tensor: with any dtype.
        dtype: F64, F32, F16 or BF16.
    """
    if tensor.dtype.name not in _FLOATS or tensor.dtype.name == dtype.name:
        return tensor
    return tensor._replace(dtype=dtype, read=partial(_read, tensor, dtype))


def _read(tensor: TensorData, dtype: DType, start: int, length: int) -> Buffer:
    own, other = tensor.dtype.element.width, dtype.element.width
    first, last = start // other, -(-(start + length) // other)
    data = _cast(tensor.read(first * own, (last - first) * own), tensor.dtype.element, dtype.element)
    skipped = start - first * other
    return data if not skipped and len(data) == length else data[skipped : skipped + length]


def _cast(data: Buffer, element: Element, wanted: Element) -> Buffer:
    """Units in another element; what goes through float32 on the way is rounded once all the same."""
    import numpy as np

    from coral_git import floats

    if element is Element.F64:
        values = np.frombuffer(data, "<f8")
        with np.errstate(over="ignore"):
            single = values.astype("<f4") if wanted is Element.F32 else _round_to_odd(values)
    elif element is Element.F32:
        single = np.frombuffer(data, "<f4")
    else:
        single = np.frombuffer(floats.widen(data, element), "<f4")
    if wanted is Element.F64:
        return single.astype("<f8").tobytes()
    return single.tobytes() if wanted is Element.F32 else floats.narrow(floats.quiet(single), wanted)


def _round_to_odd(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Float32 with the last bit set where something was lost: rounding that again is rounding once.

    After Boldo and Melquiond, "Emulation of FMA and correctly rounded sums" (2008).
    """
    import numpy as np

    with np.errstate(over="ignore", invalid="ignore"):
        nearest = values.astype("<f4")
        lost = (nearest != values) & ~np.isnan(values)
        words = nearest.view("<u4") - (np.abs(nearest.astype(np.float64)) > np.abs(values))
        odd: npt.NDArray[np.float32] = (words | lost).astype("<u4").view("<f4")
    return odd
