"""Versions of tensors in memory."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from blake3 import blake3

from coral_git.manifest.entries import Manifest, TensorEntry
from coral_git.types import DTYPES, FileDigest, ObjectId


class Array:
    """A tensor with its bytes; it reads as a version of a file does.

    Args:
        values: of any shape.
        dtype: the name of its dtype.
        name: its name.
    """

    def __init__(self, values: np.ndarray, dtype: str, name: str = "w") -> None:
        self.data = np.ascontiguousarray(values).tobytes()
        objects = (ObjectId(blake3(self.data).digest()),) if self.data else ()
        self.entry = TensorEntry(name, DTYPES[dtype], values.shape, objects)

    def read(self, start: int, length: int) -> memoryview:
        """Bytes of it."""
        return memoryview(self.data)[start : start + length]


@pytest.fixture(scope="session")
def array() -> type[Array]:
    """Makes tensors: ``array(values, "F32", name="w")``."""
    return Array


@pytest.fixture(scope="session")
def manifest_of() -> Callable[..., Manifest]:
    """Makes manifests: ``manifest_of(*entries)``; of chunks with None."""

    def make(*entries: TensorEntry | None) -> Manifest:
        digest = FileDigest(bytes(32))
        if None in entries:
            return Manifest("chunks/1", 100, digest)
        size = sum(one.nbytes for one in entries)
        return Manifest("safetensors/1", size, digest, tensor_count=len(entries), tensors=entries)

    return make
