"""Parts of a stored tensor, cut as numpy cuts arrays; only the rows that they lie in are read."""

from __future__ import annotations

import math
import operator
from types import EllipsisType
from typing import Any, NamedTuple, SupportsIndex

from numpy.typing import NDArray

from coral_git.api.arrays import array_of, numpy_dtype
from coral_git.errors import UsageError
from coral_git.formats.base import TensorData

Index = SupportsIndex | slice | EllipsisType
"""What may stand for a dimension; an ellipsis for several."""


class TensorSlice:
    """A stored tensor of which parts are read: blocks in which nothing of a part lies stay where they are.

    Args:
        source: the tensor.

    Example:
        >>> import numpy as np
        >>> from coral_git import WeightTensor
        >>> part = TensorSlice(WeightTensor(np.arange(24).reshape(2, 3, 4)).source)
        >>> part.get_shape(), part[1, :2, -1].tolist(), part[..., 0].tolist()
        ((2, 3, 4), [15, 19], [[0, 4, 8], [12, 16, 20]])
    """

    def __init__(self, source: TensorData) -> None:
        self._source = source

    def get_shape(self) -> tuple[int, ...]:
        """The shape of the whole tensor."""
        return self._source.shape

    def get_dtype(self) -> str:
        """The data type, by the name that manifests use."""
        return self._source.dtype.name

    def __getitem__(self, index: Index | tuple[Index, ...]) -> NDArray[Any]:
        """What numpy would give: integers and slices of any dimension, and an ellipsis.

        What is read lies between the first and the last value of the part, with whole rows of the first
        dimension that is not an integer.

        Raises:
            IndexError: an integer is out of range, or there are more indices than dimensions.
            UsageError: an index is something else, or numpy has no such dtype.
        """
        source = self._source
        width = numpy_dtype(source.dtype).itemsize
        window = _window(index, source.shape)
        start, count = window.start * width, math.prod(window.shape) * width
        data = bytearray(source.read(start, count)) if count else bytearray()
        found: NDArray[Any] = array_of(data, source.dtype, window.shape)[window.rest]
        return found


class _Window(NamedTuple):
    """What is read of a tensor: the values from ``start`` on, their shape, and what is cut out of them."""

    start: int
    shape: tuple[int, ...]
    rest: tuple[int | slice, ...]


def _window(index: Index | tuple[Index, ...], shape: tuple[int, ...]) -> _Window:
    indices = _complete(index if isinstance(index, tuple) else (index,), len(shape))
    start = 0
    for axis, (one, size) in enumerate(zip(indices, shape, strict=True)):
        row = math.prod(shape[axis + 1 :])
        if isinstance(one, slice):
            chosen = range(*one.indices(size))
            if not chosen:
                return _Window(0, (0, *shape[axis + 1 :]), (slice(None), *indices[axis + 1 :]))
            low, high = min(chosen[0], chosen[-1]), max(chosen[0], chosen[-1])
            first = 0 if chosen.step > 0 else None
            cut = slice(first, None, chosen.step)
            return _Window(
                start + low * row, (high - low + 1, *shape[axis + 1 :]), (cut, *indices[axis + 1 :])
            )
        start += _position(one, axis, size) * row
    return _Window(start, (), ())


def _position(index: int, axis: int, size: int) -> int:
    if not -size <= index < size:
        raise IndexError(f"index {index} is out of range for dimension {axis} of {size}")
    return index % size


def _complete(given: tuple[Index, ...], dimensions: int) -> list[int | slice]:
    """One integer or slice for each dimension."""
    places = [number for number, one in enumerate(given) if one is Ellipsis]
    if len(places) > 1:
        raise IndexError("an index has one ellipsis at most")
    if len(given) - len(places) > dimensions:
        raise IndexError(f"{len(given) - len(places)} indices for {dimensions} dimensions")
    place = places[0] if places else len(given)
    missing = [slice(None)] * (dimensions - len(given) + len(places))
    return [*map(_one, given[:place]), *missing, *map(_one, given[place + 1 :])]


def _one(index: object) -> int | slice:
    if isinstance(index, slice):
        return index
    if not isinstance(index, bool):
        try:
            return operator.index(index)  # type: ignore[arg-type]
        except TypeError:
            pass
    raise UsageError(
        f"a part of a tensor is cut by integers and slices, not by {type(index).__name__}",
        hint="read it, then index the array",
    )
