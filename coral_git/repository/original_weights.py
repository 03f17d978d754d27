"""The weights of the original Coral: full copies in an HDF5 file, named by a hash of their values.

Its deltas are not exact, so none is ever applied. Where two weights were alike, a commit has the hash of the
first for both, and a delta beside it: the second one is nowhere else. Where a weight was only compared with
that of the commit before, it has a delta too, whose reference is another one; then there is a full copy.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from typing import Any

import numpy as np
import xxhash

from coral_git.errors import IntegrityError, UsageError
from coral_git.formats.base import TensorData
from coral_git.formats.boxes import cover
from coral_git.formats.h5py_library import load_h5py
from coral_git.limits import MIB
from coral_git.repository.original_coral import OriginalCommit, OriginalRepository
from coral_git.types import DTYPES, Buffer, DType

_CACHE_BYTES = 64 * MIB
_COMPRESSIONS = (None, "gzip", "lzf")
_DTYPES = {"bool": "BOOL", "complex64": "C64", "complex128": "C128"} | {
    f"{word}{bits}": f"{letter}{bits}"
    for word, letter, widths in (
        ("int", "I", (8, 16, 32, 64)),
        ("uint", "U", (8, 16, 32, 64)),
        ("float", "F", (16, 32, 64)),
    )
    for bits in widths
}
_HINT = "load it with coral-ml, save it to a file, and import that"


@contextmanager
def open_weights(repository: OriginalRepository) -> Iterator[OriginalWeights]:
    """The weights of a repository, which can be read within the block.

    Raises:
        UsageError: h5py is not installed, or the file is no HDF5 file.
    """
    h5py = load_h5py("the weights of the original Coral are read")
    try:
        file = h5py.File(repository.store_path, "r", rdcc_nbytes=_CACHE_BYTES)
    except OSError as error:
        raise UsageError(f"'{repository.store_path}' is no HDF5 file") from error
    with file:
        yield OriginalWeights(h5py, file)


class OriginalWeights:
    """The open store of a repository.

    Args:
        h5py: the module.
        file: the file, open for reading.
    """

    def __init__(self, h5py: Any, file: Any) -> None:  # noqa: ANN401 - a module without types
        self._h5py = h5py
        self._file = file

    def tensors(self, commit: OriginalCommit) -> list[TensorData]:
        """The weights of a commit, by their names; their hashes are compared as they are read.

        Raises:
            UsageError: one of them is not there, exists only as a delta, or cannot be read without risk.
        """
        return [self._tensor(commit, name) for name in sorted(commit.weights)]

    def _tensor(self, commit: OriginalCommit, name: str) -> TensorData:
        digest = commit.weights[name]
        shown = f"the weight {name!a} of the commit '{commit.id}'"
        dataset = self._dataset("weights", digest)
        if name in commit.deltas:
            delta = self._dataset("deltas", commit.deltas[name])
            if dataset is None or delta is None or delta.attrs.get("reference_hash") in (None, digest):
                raise UsageError(f"{shown} is stored only as a delta, which is not exact", hint=_HINT)
        elif dataset is None:
            raise UsageError(f"{shown} is not in the store")
        dtype = self._dtype(dataset)
        if dtype is None:
            raise UsageError(f"{shown} is stored in an unusual way", hint=_HINT)
        return TensorData(name, dtype, dataset.shape, _Values(name, digest, dataset))

    def _dataset(self, group: str, name: str) -> Any:  # noqa: ANN401 - a module without types
        """A dataset of this file; None where there is none, or it is a link to somewhere else."""
        found = self._file
        for part in (group, name):
            if not part or not isinstance(found.get(part, getlink=True), self._h5py.HardLink):
                return None
            found = found[part]
            if part is group and not isinstance(found, self._h5py.Group):
                return None
        return found if isinstance(found, self._h5py.Dataset) else None

    def _dtype(self, dataset: Any) -> DType | None:  # noqa: ANN401 - a module without types
        """How coral-git sees the values; None where they are not all in this very file."""
        name = _DTYPES.get(dataset.dtype.name)
        if name is None or dataset.dtype != dataset.dtype.newbyteorder("<") or dataset.shape is None:
            return None
        if dataset.is_virtual or dataset.external or dataset.compression not in _COMPRESSIONS:
            return None
        if dataset.chunks is None:
            whole = dataset.id.get_storage_size() >= dataset.nbytes
        else:
            if prod(dataset.chunks) * dataset.dtype.itemsize > _CACHE_BYTES:
                return None  # a chunk is read as a whole, and compressed ones can claim any size
            places = zip(dataset.shape, dataset.chunks, strict=True)
            whole = dataset.id.get_num_chunks() >= prod(-(-size // step) for size, step in places)
        return DTYPES[name] if whole else None


class _Values:
    """Reads ranges of a dataset; calling it is what ``TensorData.read`` is."""

    def __init__(self, name: str, digest: str, dataset: Any) -> None:  # noqa: ANN401 - a module without types
        self._name = name
        self._digest = digest
        self._dataset = dataset
        self._shape: tuple[int, ...] = dataset.shape
        self._hashed = 0
        self._hasher = xxhash.xxh3_64()

    def __call__(self, start: int, length: int) -> Buffer:
        """The bytes of a range; fewer at the end of the tensor.

        Raises:
            IntegrityError: who read it from start to end has got what is not of its hash.
        """
        width = self._dataset.dtype.itemsize
        first, stop = start // width, min(-(-(start + length) // width), prod(self._shape))
        covered = cover(self._shape or (1,), first, max(stop, first), MIB // width)
        pieces = (
            self._dataset[(*box.place, slice(box.first, box.last))] if self._shape else self._dataset[()]
            for box in covered.boxes
        )
        data = b"".join(np.asarray(piece).tobytes() for piece in pieces)
        skipped = start - covered.start * width
        return self._checked(start, data[skipped : skipped + length])

    def _checked(self, start: int, data: bytes) -> bytes:
        """Compare with the hash at the end; it is that of shape, dtype and values."""
        if start == 0:
            self._hashed = 0
            self._hasher = xxhash.xxh3_64(f"{self._shape}{self._dataset.dtype.name}".encode())
        if start == self._hashed:
            self._hasher.update(data)
            self._hashed += len(data)
            if self._hashed == self._dataset.nbytes and self._hasher.hexdigest() != self._digest:
                raise IntegrityError(f"the weight {self._name!a} is damaged: its hash differs")
        return data
