"""A tensor with a name, whose values are read when they are first needed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from coral_git.api.arrays import array_of, numpy_dtype, read_all, tensor_data, torch_of
from coral_git.diff.numbers import has_numbers, numbers, width_of
from coral_git.errors import UsageError
from coral_git.formats.base import TensorData
from coral_git.pipeline.float_dtypes import BLOCK_VALUES, Values

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class WeightMetadata:
    """What is known about a tensor besides its values.

    Attributes:
        name: its name.
        shape: its dimensions.
        dtype: its data type by the name that manifests use, e.g. ``"F32"`` or ``"BF16"``.
        layer_type: e.g. ``"Linear"``; for people only.
        model_name: the model it belongs to; for people only.
        compression_info: whatever a program wants to keep with it.
        hash: BLAKE3-256 of its bytes in hexadecimal, where it is known.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    layer_type: str | None = None
    model_name: str | None = None
    compression_info: Mapping[str, Any] = field(default_factory=dict)
    hash: str | None = None


class WeightTensor:
    """A tensor: an array of numpy, a tensor of torch, or a stored one that is read when it is needed.

    Args:
        data: the values; not copied.
        name: its name.
        metadata: instead of a name, all that is known.
        stored: instead of values, a tensor of a store.

    Example:
        >>> weight = WeightTensor(np.eye(2, dtype=np.float32), name="layer1")
        >>> weight.shape, weight.dtype == np.float32, weight.nbytes
        ((2, 2), True, 16)
        >>> weight.is_similar_to(WeightTensor(2 * np.eye(2, dtype=np.float32), name="other"))
        True
    """

    def __init__(
        self,
        data: Any = None,
        name: str = "",
        *,
        metadata: WeightMetadata | None = None,
        stored: TensorData | None = None,
    ) -> None:
        if (data is None) == (stored is None):
            raise UsageError("a WeightTensor has either data or a stored tensor")
        name = metadata.name if metadata is not None else name
        self._source = stored if stored is not None else tensor_data(name, data)
        if metadata is not None and (metadata.shape, metadata.dtype) != (
            self._source.shape,
            self._source.dtype.name,
        ):
            raise UsageError(f"the metadata of tensor {name!a} is not about its values")
        self._metadata = metadata or WeightMetadata(name, self._source.shape, self._source.dtype.name)
        self._data: NDArray[Any] | None = data if isinstance(data, np.ndarray) else None

    @property
    def source(self) -> TensorData:
        """The tensor as writers see it."""
        return self._source

    @property
    def name(self) -> str:
        """Its name."""
        return self._metadata.name

    @property
    def metadata(self) -> WeightMetadata:
        """What is known besides its values."""
        return self._metadata

    @property
    def data(self) -> NDArray[Any]:
        """The values as an array of numpy of the shape of the tensor.

        A stored tensor is read at the first time and compared with its ids.

        Raises:
            UsageError: numpy has no such dtype.
            IntegrityError: an object is damaged.
        """
        if self._data is None:
            self._data = array_of(read_all(self._source), self._source.dtype, self._source.shape)
        return self._data

    @property
    def shape(self) -> tuple[int, ...]:
        """Its dimensions."""
        return self._source.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Its data type in numpy.

        Raises:
            UsageError: numpy has none.
        """
        return numpy_dtype(self._source.dtype)

    @property
    def size(self) -> int:
        """How many values it has."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Its bytes."""
        return self._source.length

    def torch(self) -> torch.Tensor:
        """The values as a tensor of torch on the CPU, which owns them; every dtype that torch has.

        Raises:
            UsageError: torch is not installed, or has no such dtype.
        """
        return torch_of(read_all(self._source), self._source.dtype, self._source.shape)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        found = self.data if dtype is None else self.data.astype(dtype)
        return found.copy() if copy else found

    def compute_hash(self) -> str:
        """BLAKE3-256 of its bytes in hexadecimal: equal for equal bytes, whatever dtype and shape are.

        It is the id of the object that a tensor of one part is stored as.
        """
        digest = blake3()
        for piece in self._source.pieces():
            digest.update(piece)
        return digest.hexdigest()

    def is_similar_to(self, other: WeightTensor, threshold: float = 0.98) -> bool:
        """Whether the cosine of the angle between the values is at least a threshold.

        Tensors of different shapes, or of dtypes whose units are no numbers, are similar only if they are
        equal.
        """
        mine, theirs = self._source, other._source
        comparable = self.shape == other.shape and has_numbers(mine.dtype) and has_numbers(theirs.dtype)
        if not comparable:
            return (mine.dtype, self.shape, self.compute_hash()) == (
                theirs.dtype,
                other.shape,
                other.compute_hash(),
            )
        product = squares = other_squares = 0.0
        for start in range(0, self.size, BLOCK_VALUES):
            count = min(BLOCK_VALUES, self.size - start)
            one, two = (_values(source, start, count) for source in (mine, theirs))
            product += float(one @ two)
            squares += float(one @ one)
            other_squares += float(two @ two)
        if not squares or not other_squares:
            return squares == other_squares
        return product / math.sqrt(squares * other_squares) >= threshold

    def renamed(self, name: str) -> WeightTensor:
        """The same tensor under another name."""
        return WeightTensor(
            stored=self._source._replace(name=name), metadata=replace(self._metadata, name=name)
        )

    def to_dict(self) -> dict[str, Any]:
        """What is known besides the values, for JSON."""
        return {**asdict(self._metadata), "shape": list(self.shape), "hash": self.compute_hash()}

    def __repr__(self) -> str:
        return f"WeightTensor({self.name!r}, {self._source.dtype.name}, {self.shape})"


def _values(source: TensorData, start: int, count: int) -> Values:
    width = width_of(source.dtype)
    return numbers(source.read(start * width, count * width), source.dtype)
