"""Which of many tensors are equal, and which are alike: in memory, for programs that ask before they store.

A repository needs none of this: its store keeps equal tensors once and similar ones as differences by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from coral_git.api.delta import Delta, DeltaConfig, DeltaEncoder
from coral_git.api.weights import WeightTensor
from coral_git.diff.numbers import has_numbers
from coral_git.errors import UsageError

_SAMPLE = 4096


@dataclass(frozen=True)
class DeduplicationStats:
    """What was found.

    Attributes:
        total_weights: tensors that were added.
        unique_weights: those that were like no other one before.
        duplicate_weights: those whose bytes, dtype and shape were there already.
        similar_weights: those that are kept as differences.
        original_bytes: bytes of all of them.
        stored_bytes: bytes of what is kept.
    """

    total_weights: int = 0
    unique_weights: int = 0
    duplicate_weights: int = 0
    similar_weights: int = 0
    original_bytes: int = 0
    stored_bytes: int = 0

    @property
    def bytes_saved(self) -> int:
        """Bytes that are not kept."""
        return self.original_bytes - self.stored_bytes

    @property
    def compression_ratio(self) -> float:
        """The share of the bytes that is kept; 1.0 of nothing."""
        return self.stored_bytes / self.original_bytes if self.original_bytes else 1.0


@dataclass
class WeightGroup:
    """A tensor, and those that are equal or similar to it.

    Attributes:
        reference_hash: BLAKE3-256 of its bytes in hexadecimal.
        reference_weight: the tensor.
        duplicates: names of equal tensors, the first one's own included.
        similar: names of similar ones, each with what it is kept as.
    """

    reference_hash: str
    reference_weight: WeightTensor
    duplicates: list[str] = field(default_factory=list)
    similar: dict[str, Delta] = field(default_factory=dict)

    @property
    def total_count(self) -> int:
        """How many tensors are in the group."""
        return len(self.duplicates) + len(self.similar)

    @property
    def deltas(self) -> dict[str, Delta]:
        """What similar tensors are kept as, by name."""
        return self.similar

    @property
    def bytes_saved(self) -> int:
        """Bytes of its tensors that are not kept."""
        own = self.reference_weight.nbytes
        return own * (self.total_count - 1) - sum(delta.nbytes for delta in self.similar.values())


class Deduplicator:
    """Groups tensors as they come.

    Args:
        similarity_threshold: the least cosine of tensors that are called similar.
        delta_config: how differences are made.
        enable_delta_encoding: whether similar tensors are looked for at all.

    Example:
        >>> base = np.linspace(-1, 1, 4096, dtype=np.float32)
        >>> found = Deduplicator()
        >>> first = found.add_weight(WeightTensor(base, "a"))
        >>> found.add_weight(WeightTensor(base.copy(), "b")) == first
        True
        >>> found.add_weight(WeightTensor(base * np.float32(1.0001), "c")) == first
        True
        >>> stats = found.compute_stats()
        >>> stats.unique_weights, stats.duplicate_weights, stats.similar_weights
        (1, 1, 1)
    """

    def __init__(
        self,
        similarity_threshold: float = 0.98,
        delta_config: DeltaConfig | None = None,
        enable_delta_encoding: bool = True,
    ) -> None:
        if not 0 <= similarity_threshold <= 1:
            raise UsageError(f"bad similarity_threshold {similarity_threshold!r}: it is 0 to 1")
        self._threshold = similarity_threshold
        self._encoder = DeltaEncoder(delta_config)
        self._looks_for_similar = enable_delta_encoding
        self._groups: dict[tuple[str, str, tuple[int, ...]], WeightGroup] = {}
        self._by_name: dict[str, WeightGroup] = {}
        self._by_kind: dict[tuple[str, tuple[int, ...]], list[WeightGroup]] = {}
        self._bytes: dict[str, int] = {}

    def add_weight(self, weight: Any, name: str | None = None) -> str:
        """Take in a tensor; gives the hash of the tensor that it is kept by.

        Args:
            weight: a ``WeightTensor``, an array of numpy or a tensor of torch; it must not change later.
            name: its name, instead of its own.

        Raises:
            UsageError: there is a tensor of that name already, or no file of weights has such a dtype.
        """
        if not isinstance(weight, WeightTensor):
            weight = WeightTensor(weight, name or "")
        name = weight.name if name is None else name
        if name in self._by_name:
            raise UsageError(f"there is a tensor {name!a} already")
        digest, kind = weight.compute_hash(), (weight.metadata.dtype, weight.shape)
        group = self._groups.get((digest, *kind))
        if group is not None:
            group.duplicates.append(name)
        else:
            found = self._similar(weight) if self._looks_for_similar else None
            if found is not None:
                group, delta = found
                group.similar[name] = delta
            else:
                group = WeightGroup(digest, weight, [name])
                self._groups[digest, *kind] = group
                self._by_kind.setdefault(kind, []).append(group)
        self._by_name[name] = group
        self._bytes[name] = weight.nbytes
        return group.reference_hash

    def get_weight_by_name(self, name: str) -> WeightTensor | None:
        """A tensor, the same bytes as were added; None where there is none of that name."""
        group = self._by_name.get(name)
        if group is None:
            return None
        delta = group.similar.get(name)
        if delta is None:
            return WeightTensor(stored=group.reference_weight.source._replace(name=name), name=name)
        return WeightTensor(self._encoder.decode_delta(delta, group.reference_weight).data, name)

    def get_weight_group(self, name: str) -> WeightGroup | None:
        """The group that a tensor is in."""
        return self._by_name.get(name)

    def get_delta_by_name(self, name: str) -> Delta | None:
        """The difference that a tensor is kept as; None where it is kept whole, or not there."""
        group = self._by_name.get(name)
        return None if group is None else group.similar.get(name)

    def is_delta_encoded(self, name: str) -> bool:
        """Whether a tensor is kept as a difference."""
        return self.get_delta_by_name(name) is not None

    def compute_stats(self) -> DeduplicationStats:
        """What was found so far."""
        groups = list(self._groups.values())
        similar = [delta for group in groups for delta in group.similar.values()]
        kept = sum(group.reference_weight.nbytes for group in groups) + sum(one.nbytes for one in similar)
        return DeduplicationStats(
            total_weights=len(self._by_name),
            unique_weights=len(groups),
            duplicate_weights=sum(len(group.duplicates) - 1 for group in groups),
            similar_weights=len(similar),
            original_bytes=sum(self._bytes.values()),
            stored_bytes=kept,
        )

    def get_compression_stats(self) -> dict[str, Any]:
        """The numbers of ``compute_stats``, and under ``delta_stats`` those of the differences, for JSON.

        A ``compression_ratio`` is the share of the bytes that is kept; 1.0 of nothing.
        """
        stats = self.compute_stats()
        deltas = [delta for group in self._groups.values() for delta in group.similar.values()]
        raw = sum(delta.raw_bytes for delta in deltas)
        kept = sum(delta.nbytes for delta in deltas)
        return {
            **vars(stats),
            "bytes_saved": stats.bytes_saved,
            "compression_ratio": stats.compression_ratio,
            "delta_stats": {
                "total_deltas": len(deltas),
                "total_delta_size": kept,
                "original_delta_size": raw,
                "delta_compression_ratio": kept / raw if raw else 1.0,
            },
        }

    def get_deduplication_report(self) -> dict[str, Any]:
        """The numbers, and every group with more than one tensor, for JSON."""
        return {
            **self.get_compression_stats(),
            "groups": [
                {
                    "reference": group.duplicates[0],
                    "reference_hash": group.reference_hash,
                    "duplicates": group.duplicates[1:],
                    "similar": {name: delta.nbytes for name, delta in group.similar.items()},
                }
                for group in self._groups.values()
                if group.total_count > 1
            ],
        }

    def clear(self) -> None:
        """Forget everything."""
        for known in (self._groups, self._by_name, self._by_kind, self._bytes):
            known.clear()

    def _similar(self, weight: WeightTensor) -> tuple[WeightGroup, Delta] | None:
        """A group that a tensor is similar to, with the difference, where that is worth it."""
        for group in self._candidates(weight):
            reference = group.reference_weight
            if weight.is_similar_to(reference, self._threshold):
                if weight.size < self._encoder.config.min_weight_size:
                    return None
                delta = self._encoder.encode_delta(weight, reference)
                if delta.nbytes <= self._encoder.config.max_delta_ratio * weight.nbytes:
                    return group, delta
        return None

    def _candidates(self, weight: WeightTensor) -> Iterator[WeightGroup]:
        """Groups of the same kind whose reference is similar on a sample."""
        if not has_numbers(weight.source.dtype):
            return
        own = _sample(weight)
        for group in self._by_kind.get((weight.metadata.dtype, weight.shape), ()):
            other = _sample(group.reference_weight)
            norm = float(np.linalg.norm(own) * np.linalg.norm(other))
            if not norm or float(own @ other) >= (self._threshold - 0.05) * norm:
                yield group


def _sample(weight: WeightTensor) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Values from all over a tensor; what is not finite counts as zero."""
    flat = weight.data.reshape(-1)
    values = flat[:: max(flat.size // _SAMPLE, 1)][:_SAMPLE]
    return np.nan_to_num(np.real(values).astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
