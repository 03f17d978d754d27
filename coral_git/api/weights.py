"""A tensor with a name, whose values are read when they are first needed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from coral_git.api.arrays import array_of, dtype_name, numpy_dtype, read_all, tensor_data, torch_of
from coral_git.diff.numbers import has_numbers, numbers, width_of
from coral_git.errors import UsageError
from coral_git.formats.base import TensorData
from coral_git.pipeline.float_dtypes import BLOCK_VALUES, Values
from coral_git.types import DTYPES, Buffer

if TYPE_CHECKING:
    import torch

_HASH_LENGTH = 64


@dataclass(frozen=True)
class WeightMetadata:
    """What is known about a tensor besides its values.

    Attributes:
        name: its name.
        shape: its dimensions.
        dtype: its data type by the name that manifests use, e.g. ``"F32"`` or ``"BF16"``; a dtype of numpy or
            torch is taken as well, and turned into that name.
        layer_type: e.g. ``"Linear"``; for people only.
        model_name: the model it belongs to; for people only.
        compression_info: whatever a program wants to keep with it.
        hash: BLAKE3-256 of its bytes in hexadecimal, where it is known.

    Raises:
        UsageError: no file of weights has that dtype.

    Example:
        >>> WeightMetadata("layer1", (2, 3), np.float16).dtype
        'F16'
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    layer_type: str | None = None
    model_name: str | None = None
    compression_info: Mapping[str, Any] = field(default_factory=dict)
    hash: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(map(int, self.shape)))
        object.__setattr__(self, "dtype", dtype_name(self.dtype))


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
        self._is_stored = stored is not None
        self._hash: str | None = None

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
        """The values as an array of numpy of the shape of the tensor; ml_dtypes has the small floats.

        A stored tensor is read at the first time and compared with its ids. What was given as an array or as
        a tensor of torch on the CPU is not copied. Other values may be assigned, of any shape and dtype.

        Raises:
            UsageError: numpy has no such dtype, or the values are not here.
            IntegrityError: an object is damaged.
        """
        if self._data is None:
            source = self._source
            data = read_all(source) if self._is_stored else source.read(0, source.length)
            self._data = array_of(data, source.dtype, source.shape)
        return self._data

    @data.setter
    def data(self, value: Any) -> None:
        found = WeightTensor(value, self.name)
        self._source, self._data, self._is_stored, self._hash = found.source, found._data, False, None
        kind = found.metadata
        self._metadata = replace(self._metadata, shape=kind.shape, dtype=kind.dtype, hash=None)

    def numpy(self) -> NDArray[Any]:
        """The values as an array of numpy, as ``data``."""
        return self.data

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

    def compute_hash(self, force: bool = False) -> str:
        """BLAKE3-256 of its bytes in hexadecimal: equal for equal bytes, whatever dtype and shape are.

        It is the id of the object that a tensor of one part is stored as.

        Args:
            force: whether a stored tensor is read again for it; one in memory, which may change, always is.

        Raises:
            UsageError: the values are not here.
        """
        if self._hash is None or force or not self._is_stored:
            digest = blake3()
            for piece in self._source.pieces():
                digest.update(piece)
            self._hash = digest.hexdigest()
        return self._hash

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
        """What is known besides the values, for JSON; ``from_dict`` reads it."""
        return {**asdict(self._metadata), "shape": list(self.shape), "hash": self.compute_hash()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], weight_data: Any = None) -> Self:
        """A tensor from what ``to_dict`` gave, here or in the original Coral.

        Args:
            data: what is known.
            weight_data: the values; without them everything else is known, and reading them is an error.

        Raises:
            UsageError: this is no tensor, or the values are of another shape or dtype.
        """
        metadata = read_metadata(data)
        if weight_data is not None:
            return cls(weight_data, metadata=metadata)

        def read(_start: int, _length: int) -> Buffer:
            raise UsageError(f"the values of tensor {metadata.name!a} are not here", hint="give weight_data")

        found = cls(
            stored=TensorData(metadata.name, DTYPES[metadata.dtype], metadata.shape, read), metadata=metadata
        )
        found._hash = metadata.hash
        return found

    def __repr__(self) -> str:
        return f"WeightTensor({self.name!r}, {self._source.dtype.name}, {self.shape})"


def read_metadata(data: Mapping[str, Any]) -> WeightMetadata:
    """What is known of a tensor, out of JSON; the shorter hash of the original Coral is left out.

    Raises:
        UsageError: this is no tensor.
    """
    try:
        known = dict(data.get("metadata", data))
        digest = known.get("hash")
        return WeightMetadata(
            str(known["name"]),
            tuple(known["shape"]),
            known["dtype"],
            known.get("layer_type"),
            known.get("model_name"),
            dict(known.get("compression_info") or {}),
            digest if isinstance(digest, str) and len(digest) == _HASH_LENGTH else None,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError("this is no tensor: it needs a name, a shape and a dtype") from error


def _values(source: TensorData, start: int, count: int) -> Values:
    width = width_of(source.dtype)
    return numbers(source.read(start * width, count * width), source.dtype)
