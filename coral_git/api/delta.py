"""Tensors as differences to other tensors, in memory: the codecs of the store for programs.

The names are those of the original Coral. What is lossless here is so for every bit pattern; the quantized
strategies say what they lose by what they give back.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, overload

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from coral_git.api.weights import WeightTensor
from coral_git.codecs.base import Codec
from coral_git.codecs.choose import PROFILES, Read, sample
from coral_git.codecs.quantize import quantize
from coral_git.codecs.registry import codec_by_id
from coral_git.codecs.strategies import Strategy
from coral_git.config import parse_delta_type
from coral_git.errors import IntegrityError, UsageError
from coral_git.limits import DEFAULT_LIMITS
from coral_git.types import DeltaType, Element

Array = NDArray[Any]

_ELEMENTS = {
    "float16": Element.F16,
    "bfloat16": Element.BF16,
    "float32": Element.F32,
    "complex64": Element.F32,
    "float64": Element.F64,
    "complex128": Element.F64,
    "bool": Element.INT8,
    "int8": Element.INT8,
    "uint8": Element.INT8,
    "int16": Element.INT16,
    "uint16": Element.INT16,
    "int32": Element.INT32,
    "uint32": Element.INT32,
    "int64": Element.INT64,
    "uint64": Element.INT64,
}
_OF_THE_ORIGINAL = frozenset(
    {"sparse_threshold", "quantization_bits", "compression_level", "min_compression_ratio"}
)


@dataclass(frozen=True)
class DeltaConfig:
    """How tensors are turned into differences.

    Attributes:
        delta_type: the strategy.
        profile: how much time ``AUTO`` may spend on size: ``"fast"``, ``"balanced"`` or ``"best"``.
        similarity_threshold: the least cosine of a tensor and a reference that was not named, 0 to 1.
        max_delta_ratio: a difference larger than this share of the tensor is no gain.
        min_weight_size: tensors with fewer elements are not worth a difference.

    Example:
        >>> DeltaConfig(delta_type=DeltaType.SPARSE).to_dict()["delta_type"]
        'sparse'
    """

    delta_type: DeltaType = DeltaType.AUTO
    profile: str = "fast"
    similarity_threshold: float = 0.98
    max_delta_ratio: float = 1.0
    min_weight_size: int = 512

    def __post_init__(self) -> None:
        object.__setattr__(self, "delta_type", parse_delta_type(str(self.delta_type), "delta_type"))
        if self.profile not in PROFILES:
            raise UsageError(f"unknown profile {self.profile!a}", hint=f"it is one of: {', '.join(PROFILES)}")
        if not 0 <= self.similarity_threshold <= 1:
            raise UsageError(f"bad similarity_threshold {self.similarity_threshold!r}: it is 0 to 1")

    def to_dict(self) -> dict[str, Any]:
        """The fields, for JSON."""
        return {**asdict(self), "delta_type": str(self.delta_type)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> DeltaConfig:
        """A configuration from its fields; what the original Coral had beyond them means nothing here.

        Raises:
            UsageError: a field is unknown or has a value that it cannot have.
        """
        known = {one.name for one in fields(cls)}
        unknown = set(data) - known - _OF_THE_ORIGINAL
        if unknown:
            raise UsageError(f"a DeltaConfig has no {', '.join(sorted(map(ascii, unknown)))}")
        return cls(**{name: value for name, value in data.items() if name in known})


@dataclass(frozen=True)
class Delta:
    """A tensor as a difference to a reference.

    Attributes:
        delta_type: the strategy that made it.
        codec: id of the codec of its blocks.
        element: how the codec saw the values.
        shape: the shape of the tensor.
        dtype: its data type.
        digest: BLAKE3-256 of the bytes it decodes to.
        reference_digest: BLAKE3-256 of the bytes of the reference.
        block_size: raw bytes of every block but the last.
        blocks: the encoded blocks.

    Example:
        >>> base = np.zeros(1000, np.float32)
        >>> delta = DeltaEncoder().encode_delta(base + np.float32(1), base)
        >>> delta.shape, delta.raw_bytes, delta.nbytes < 100
        ((1000,), 4000, True)
    """

    delta_type: DeltaType
    codec: int
    element: Element
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    digest: bytes
    reference_digest: bytes
    block_size: int
    blocks: tuple[bytes, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of the encoded blocks."""
        return sum(map(len, self.blocks))

    @property
    def raw_bytes(self) -> int:
        """Bytes of the tensor."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def compression_ratio(self) -> float:
        """The share of the bytes of the tensor that the blocks take; 1.0 of an empty one."""
        return self.nbytes / self.raw_bytes if self.raw_bytes else 1.0

    @property
    def reference_hash(self) -> str:
        """BLAKE3-256 of the bytes of the reference in hexadecimal, as ``WeightTensor.compute_hash``."""
        return self.reference_digest.hex()


class DeltaEncoder:
    """Makes differences, and tensors of them again.

    Args:
        config: the strategy and its bounds.

    Example:
        >>> base = np.linspace(-1, 1, 4096, dtype=np.float32)
        >>> tuned = base * np.float32(1.0001)
        >>> encoder = DeltaEncoder()
        >>> delta = encoder.encode_delta(tuned, base)
        >>> bool((encoder.decode_delta(delta, base) == tuned).all()), delta.nbytes < base.nbytes
        (True, True)
    """

    def __init__(self, config: DeltaConfig | None = None) -> None:
        self.config = config or DeltaConfig()
        self._strategy = Strategy(self.config.delta_type, self.config.profile)

    def can_encode_as_delta(self, weight: Array | WeightTensor, reference: Array | WeightTensor) -> bool:
        """Whether a tensor may be a difference to a reference, and is one that is worth it.

        Args:
            weight: an array or a ``WeightTensor`` of any shape and dtype.
            reference: of the same shape and dtype.
        """
        weight, reference = _array(weight), _array(reference)
        is_alike = weight.shape == reference.shape and weight.dtype == reference.dtype
        if not is_alike or weight.size < self.config.min_weight_size:
            return False
        return self.estimate_delta_size(weight, reference) <= self.config.max_delta_ratio * weight.nbytes

    def estimate_delta_size(self, weight: Array | WeightTensor, reference: Array | WeightTensor) -> int:
        """The bytes of the encoded blocks, by making them."""
        return self.encode_delta(weight, reference).nbytes

    def encode_delta(self, weight: Array | WeightTensor, reference: Array | WeightTensor) -> Delta:
        """A tensor as a difference to a reference; the quantized strategies lose precision here.

        Args:
            weight: an array or a ``WeightTensor`` of any shape and dtype.
            reference: of the same shape and dtype.

        Raises:
            UsageError: shape or dtype differ.
            IntegrityError: a block does not decode to what it was made of; nothing is given out then.
        """
        weight, reference = _array(weight), _array(reference)
        if weight.shape != reference.shape or weight.dtype != reference.dtype:
            raise UsageError(
                f"a tensor of {weight.dtype} {weight.shape} is no difference to one of "
                f"{reference.dtype} {reference.shape}"
            )
        element = element_of(weight.dtype)
        base = reference.tobytes()
        raw = self._lossy(weight, reference) if element is Element.F32 else weight.tobytes()
        codec = self._codec(element, raw, base)
        size = codec.block_size(element, DEFAULT_LIMITS)
        blocks = tuple(
            _encode(codec, element, raw[start : start + size], _window(codec, base, start, size))
            for start in range(0, len(raw), size)
        )
        return Delta(
            self.config.delta_type,
            codec.codec_id,
            element,
            weight.shape,
            weight.dtype,
            blake3(raw).digest(),
            blake3(base).digest(),
            size,
            blocks,
        )

    @overload
    def decode_delta(self, delta: Delta, reference: Array) -> Array: ...

    @overload
    def decode_delta(self, delta: Delta, reference: WeightTensor) -> WeightTensor: ...

    def decode_delta(self, delta: Delta, reference: Array | WeightTensor) -> Array | WeightTensor:
        """The tensor that a difference stands for.

        Args:
            delta: what ``encode_delta`` gave, of any strategy.
            reference: the very tensor that it was made against.

        Returns:
            A tensor of the shape and dtype of ``delta``: an array for an array, a ``WeightTensor`` of the
            name of the reference for a ``WeightTensor``.

        Raises:
            IntegrityError: the reference is another one, or the difference is damaged.
        """
        base = _array(reference).tobytes()
        if blake3(base).digest() != delta.reference_digest:
            raise IntegrityError("the difference was made against another reference")
        codec, element = codec_by_id(delta.codec), delta.element
        length = delta.raw_bytes
        pieces = []
        for number, block in enumerate(delta.blocks):
            start = number * delta.block_size
            size = min(delta.block_size, length - start)
            pieces.append(codec.decode_block(block, size, _window(codec, base, start, size), element))
        raw = b"".join(pieces)
        if blake3(raw).digest() != delta.digest:
            raise IntegrityError("the difference is damaged")
        found: Array = np.frombuffer(bytearray(raw), delta.dtype).reshape(delta.shape)
        return WeightTensor(found, reference.name) if isinstance(reference, WeightTensor) else found

    def _codec(self, element: Element, raw: bytes, base: bytes) -> Codec:
        if self._strategy.uses_bases(element):
            own, faced = (sample(_reader(data), len(raw), element) for data in (raw, base))
            return self._strategy.delta(element, len(raw) // element.width, own, faced)
        return self._strategy.standalone(element)

    def _lossy(self, weight: Array, reference: Array) -> bytes:
        """The bytes that are encoded: those of the tensor, unless the strategy quantizes it."""
        bits = self.config.delta_type.bits
        if not bits or weight.dtype != np.float32:
            return weight.tobytes()
        return quantize(np.ravel(weight), np.ravel(reference), bits).tobytes()


def _array(value: Array | WeightTensor) -> Array:
    return value.data if isinstance(value, WeightTensor) else value


def element_of(dtype: np.dtype[Any]) -> Element:
    """How codecs see the values of an array; the bytes themselves where its dtype is none they know."""
    if dtype.name.startswith("float8"):
        return Element.F8
    is_little = dtype.newbyteorder("<") == dtype
    return _ELEMENTS.get(dtype.name, Element.BYTES) if is_little else Element.BYTES


def _reader(data: bytes) -> Read:
    return lambda start, length: data[start : start + length]


def _window(codec: Codec, base: bytes, start: int, length: int) -> bytes:
    first, size = codec.base_window(start, length)
    return base[max(first, 0) : first + size]


def _encode(codec: Codec, element: Element, raw: bytes, base: bytes) -> bytes:
    payload = codec.encode_block(raw, base, element)
    if not codec.decodes_to(payload, raw, base, element):
        raise IntegrityError(f"codec '{codec.name}' does not decode to what it encoded")
    return b"".join(payload)
