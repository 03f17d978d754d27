"""Places that keep single tensors by key, as the original Coral has them; the way in for every such place."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, Self

from blake3 import blake3

from coral_git.api.weights import WeightMetadata, WeightTensor


class WeightStore(ABC):
    """Keeps tensors by key. ``with`` closes it.

    The key of a tensor is by default what ``weight_key`` says, so equal tensors are kept once.

    Example:
        >>> import numpy as np
        >>> from coral_git import MemoryStore
        >>> with MemoryStore() as store:
        ...     key = store.store(WeightTensor(np.eye(2, dtype=np.float32), "layer1"))
        ...     store.load(key).data.tolist(), store.delete(key), store.load(key)
        ([[1.0, 0.0], [0.0, 1.0]], True, None)
    """

    @abstractmethod
    def store(self, weight: Any, hash_key: str | None = None) -> str:
        """Keep a tensor; gives its key.

        Args:
            weight: a ``WeightTensor``, an array of numpy or a tensor of torch.
            hash_key: its key, instead of the one that follows from it. A tensor that was kept by this key is
                replaced.

        Raises:
            UsageError: the dtype or the key cannot be kept.
            CoralError: it cannot be written; what was kept is as it was.
        """

    @abstractmethod
    def load(self, hash_key: str) -> WeightTensor | None:
        """The tensor of a key, its values read when they are needed; None where there is none.

        Raises:
            ObjectMissingError: the tensor is kept, and its values cannot be had.
        """

    @abstractmethod
    def exists(self, hash_key: str) -> bool:
        """Whether a tensor is kept by a key."""

    @abstractmethod
    def delete(self, hash_key: str) -> bool:
        """Keep a tensor no longer; whether there was one."""

    @abstractmethod
    def list_weights(self) -> list[str]:
        """The keys, sorted."""

    @abstractmethod
    def get_metadata(self, hash_key: str) -> WeightMetadata | None:
        """What is known of a tensor besides its values; None where there is none of that key."""

    @abstractmethod
    def get_storage_info(self) -> dict[str, Any]:
        """Numbers for people: ``total_weights``, ``total_bytes``, ``stored_bytes`` and ``compression_ratio``.

        ``stored_bytes`` is what is known to be taken, ``compression_ratio`` the share of ``total_bytes`` that
        this is; 1.0 of nothing.
        """

    def store_batch(self, weights: Mapping[str, Any]) -> dict[str, str]:
        """Keep several tensors; gives the key of each by its name.

        Args:
            weights: tensors by name; one that has a name of its own keeps it.

        Raises:
            UsageError: a dtype cannot be kept.
            CoralError: they cannot be written.
        """
        return {name: self.store(as_weight(value, name)) for name, value in weights.items()}

    def load_batch(self, hash_keys: Iterable[str]) -> dict[str, WeightTensor]:
        """The tensors of several keys, by key; those that there are."""
        found = ((key, self.load(key)) for key in dict.fromkeys(hash_keys))
        return {key: weight for key, weight in found if weight is not None}

    def close(self) -> None:  # noqa: B027 - some places have nothing to close
        """End child processes and close files."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __contains__(self, hash_key: str) -> bool:
        return self.exists(hash_key)

    def __len__(self) -> int:
        return len(self.list_weights())


def weight_key(weight: WeightTensor) -> str:
    """The key of a tensor: BLAKE3-256 in hexadecimal of its dtype, its shape and its bytes.

    The same bytes in another shape or dtype have another key. The name does not count.

    Example:
        >>> import numpy as np
        >>> one = weight_key(WeightTensor(np.zeros(4, np.float32)))
        >>> one == weight_key(WeightTensor(np.zeros((2, 2), np.float32)))
        False
    """
    source = weight.source
    digest = blake3(" ".join([source.dtype.name, *map(str, source.shape)]).encode() + b"\n")
    for piece in source.pieces():
        digest.update(piece)
    return digest.hexdigest()


def as_weight(value: Any, name: str = "") -> WeightTensor:
    """A tensor with a name: one that has none gets it.

    Raises:
        UsageError: the dtype cannot be stored.
    """
    if not isinstance(value, WeightTensor):
        return WeightTensor(value, name)
    return value if value.name or not name else value.renamed(name)


def storage_info(total: int, raw: int, stored: int) -> dict[str, Any]:
    """The numbers that all places give.

    Args:
        total: how many tensors there are.
        raw: their bytes.
        stored: the bytes they take.
    """
    return {
        "total_weights": total,
        "total_bytes": raw,
        "total_size": raw,
        "stored_bytes": stored,
        "compression_ratio": stored / raw if raw else 1.0,
    }
