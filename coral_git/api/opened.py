"""A weight file of any revision, opened without a checkout; tensors are read when they are asked for."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Self

from numpy.typing import NDArray

from coral_git.api.arrays import array_of, read_all, torch_of
from coral_git.errors import UsageError
from coral_git.formats.base import TensorData
from coral_git.manifest.entries import TensorEntry
from coral_git.manifest.escape import printable
from coral_git.pipeline.tensors import stored_tensors
from coral_git.pipeline.workspace import Workspace
from coral_git.repository.printing import bring
from coral_git.repository.spec import stored_manifest

if TYPE_CHECKING:
    import torch


class OpenedFile(Mapping[str, NDArray[Any]]):
    """The tensors of a stored file by name; what is not asked for is neither fetched nor read.

    Reading is safe from several threads.

    Args:
        workspace: the repository.
        spec: the file: ``REV:PATH``.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from coral_git import Repository, open
        >>> repo = Repository(tempfile.mkdtemp(), init=True)
        >>> ids = repo.stage_weights({"a": np.arange(6.0).reshape(3, 2), "b": np.ones(2)})
        >>> base = repo.commit("base")
        >>> with open(f"{repo.path}@HEAD:model.safetensors") as file:
        ...     sorted(file), file["a"].shape, file.get_slice("a")[1:].tolist()
        (['a', 'b'], (3, 2), [[2.0, 3.0], [4.0, 5.0]])
    """

    def __init__(self, workspace: Workspace, spec: str) -> None:
        self._workspace = workspace
        self._manifest = stored_manifest(workspace, spec)
        self._entries = {one.name: one for one in self._manifest.tensors}

    def keys(self) -> Any:
        """The names of the tensors, in file order."""
        return self._entries.keys()

    def get_tensor(self, name: str) -> NDArray[Any]:
        """A tensor as an array of numpy, compared with its ids.

        Raises:
            KeyError: there is none of that name.
            UsageError: numpy has no such dtype.
        """
        source = self._source(name)
        return array_of(read_all(source), source.dtype, source.shape)

    def get_torch(self, name: str) -> torch.Tensor:
        """A tensor as a tensor of torch on the CPU, which owns it.

        Raises:
            KeyError: there is none of that name.
            UsageError: torch is not installed, or has no such dtype.
        """
        source = self._source(name)
        return torch_of(read_all(source), source.dtype, source.shape)

    def get_slice(self, name: str) -> TensorSlice:
        """A tensor of which only rows are read: ``file.get_slice("w")[10:20]``."""
        return TensorSlice(self._source(name))

    def close(self) -> None:
        """End child processes and close files."""
        self._workspace.close()

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _source(self, name: str) -> TensorData:
        entry: TensorEntry = self._entries[name]
        bring(self._workspace, entry.objects, f"tensor '{printable(name)}'")
        return stored_tensors(self._manifest._replace(tensors=(entry,)), self._workspace.store)[0]


class TensorSlice:
    """A stored tensor of which rows are read: blocks that they do not lie in stay where they are.

    Args:
        source: the tensor.
    """

    def __init__(self, source: TensorData) -> None:
        self._source = source

    def get_shape(self) -> tuple[int, ...]:
        """The shape of the whole tensor."""
        return self._source.shape

    def get_dtype(self) -> str:
        """The data type, by the name that manifests use."""
        return self._source.dtype.name

    def __getitem__(self, rows: slice | int) -> NDArray[Any]:
        """Rows of the first dimension.

        Raises:
            UsageError: the step is not 1, or the tensor is a scalar.
        """
        shape = self._source.shape
        if not shape:
            raise UsageError("a scalar has no rows")
        if isinstance(rows, int):
            found: NDArray[Any] = self[slice(rows, rows + 1 or None)][0]
            return found
        first, last, step = rows.indices(shape[0])
        if step != 1:
            raise UsageError("only rows one after the other are read", hint="slice the array afterwards")
        count = max(last - first, 0)
        row = self._source.length // shape[0] if shape[0] else 0
        data = bytearray(self._source.read(first * row, count * row)) if count * row else bytearray()
        return array_of(data, self._source.dtype, (count, *shape[1:]))


def open(spec: str | os.PathLike[str]) -> OpenedFile:  # noqa: A001 - as safetensors.safe_open and builtins name it
    """Open a weight file of a revision, without a checkout.

    Args:
        spec: ``REPOSITORY@REV:PATH``, ``REPOSITORY:PATH`` (the index), or ``REV:PATH`` in the repository that
            the current directory is in.

    Raises:
        NotARepositoryError: there is no such repository.
        UsageError: there is no such revision or weight file.
    """
    text = os.fspath(spec)
    place, at, rest = text.rpartition("@")
    if at and os.path.isdir(place):
        return OpenedFile(Workspace.open(place), rest)
    place, colon, path = text.partition(":")
    if colon and os.path.isdir(place):
        return OpenedFile(Workspace.open(place), f":{path}")
    return OpenedFile(Workspace.open(), text)
