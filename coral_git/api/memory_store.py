"""Tensors by key, in memory."""

from __future__ import annotations

import threading
from typing import Any

from coral_git.api.arrays import read_all
from coral_git.api.weight_store import WeightStore, as_weight, storage_info, weight_key
from coral_git.api.weights import WeightMetadata, WeightTensor


class MemoryStore(WeightStore):
    """Keeps copies of tensors in memory, for tests and for programs that store later.

    Several threads may use it.

    Example:
        >>> import numpy as np
        >>> store = MemoryStore()
        >>> keys = store.store_batch({"a": np.ones(3, np.float32), "b": np.ones(3, np.float32)})
        >>> keys["a"] == keys["b"], store.get_storage_info()["total_bytes"]
        (True, 12)
    """

    def __init__(self) -> None:
        self._weights: dict[str, WeightTensor] = {}
        self._lock = threading.Lock()

    def store(self, weight: Any, hash_key: str | None = None) -> str:
        """As ``WeightStore.store``; the values are copied."""
        given = as_weight(weight)
        data = memoryview(read_all(given.source)).toreadonly()
        copy = given.source._replace(read=lambda start, length: data[start : start + length])
        kept = WeightTensor(stored=copy, metadata=given.metadata)
        key = weight_key(kept) if hash_key is None else hash_key
        with self._lock:
            if hash_key is None:
                self._weights.setdefault(key, kept)
            else:
                self._weights[key] = kept
        return key

    def load(self, hash_key: str) -> WeightTensor | None:
        """As ``WeightStore.load``; each call gives a tensor of its own."""
        found = self._weights.get(hash_key)
        return None if found is None else WeightTensor(stored=found.source, metadata=found.metadata)

    def exists(self, hash_key: str) -> bool:
        """Whether a tensor is kept by a key."""
        return hash_key in self._weights

    def delete(self, hash_key: str) -> bool:
        """Keep a tensor no longer; whether there was one."""
        with self._lock:
            return self._weights.pop(hash_key, None) is not None

    def list_weights(self) -> list[str]:
        """The keys, sorted."""
        with self._lock:
            return sorted(self._weights)

    def get_metadata(self, hash_key: str) -> WeightMetadata | None:
        """What is known of a tensor besides its values; None where there is none of that key."""
        found = self._weights.get(hash_key)
        return None if found is None else found.metadata

    def get_storage_info(self) -> dict[str, Any]:
        """As ``WeightStore.get_storage_info``; nothing is compressed here."""
        with self._lock:
            sizes = [one.nbytes for one in self._weights.values()]
        return storage_info(len(sizes), sum(sizes), sum(sizes))
