"""A weight file of any revision, opened without a checkout; tensors are read when they are asked for."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Self

from numpy.typing import NDArray

from coral_git.api.arrays import array_of, read_all, torch_of
from coral_git.api.slices import TensorSlice
from coral_git.errors import NotARepositoryError
from coral_git.formats.base import TensorData
from coral_git.manifest.entries import TensorEntry
from coral_git.manifest.escape import printable
from coral_git.pipeline.tensors import stored_tensors
from coral_git.pipeline.workspace import Workspace
from coral_git.repository.printing import bring
from coral_git.repository.spec import stored_manifest

if TYPE_CHECKING:
    import torch

_GLOB = re.compile(r"[*?\[]")


class OpenedFile(Mapping[str, Any]):
    """The tensors of a stored file by name; what is not asked for is neither fetched nor read.

    A name in brackets gives an array. A glob there, where no tensor is called so, gives a ``TensorGroup``:
    the tensors whose names match. Reading is safe from several threads.

    Args:
        workspace: the repository.
        spec: the file: ``REV:PATH``.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from coral_git import Repository, open
        >>> repo = Repository(tempfile.mkdtemp(), init=True)
        >>> weights = {"a.w": np.arange(6.0).reshape(3, 2), "a.b": np.ones(2), "c": np.ones(1)}
        >>> ids = repo.stage_weights(weights)
        >>> base = repo.commit("base")
        >>> with open(f"{repo.path}@HEAD:model.safetensors") as file:
        ...     file.keys("a.*"), file["a.w"].shape, file.get_slice("a.w")[1:, -1].tolist(), len(file["a.*"])
        (['a.w', 'a.b'], (3, 2), [3.0, 5.0], 2)
    """

    def __init__(self, workspace: Workspace, spec: str) -> None:
        self._workspace = workspace
        self._manifest = stored_manifest(workspace, spec)
        self._entries = {one.name: one for one in self._manifest.tensors}

    def keys(self, pattern: str | None = None) -> Any:
        """The names of the tensors, in file order.

        Args:
            pattern: a glob that they have to match; all names by default.
        """
        if pattern is None:
            return self._entries.keys()
        return [name for name in self._entries if fnmatchcase(name, pattern)]

    def get_tensor(self, name: str) -> NDArray[Any]:
        """A tensor as an array of numpy, compared with its ids.

        Raises:
            KeyError: there is none of that name.
            UsageError: numpy has no such dtype.
            ObjectMissingError: an object is missing and cannot be fetched.
        """
        source = self.source(name)
        return array_of(read_all(source), source.dtype, source.shape)

    def get_tensors(self, pattern: str = "*") -> TensorGroup:
        """The tensors whose names match a glob, in file order; there may be none."""
        return TensorGroup(self, self.keys(pattern))

    def get_torch(self, name: str) -> torch.Tensor:
        """A tensor as a tensor of torch on the CPU, which owns it.

        Raises:
            KeyError: there is none of that name.
            UsageError: torch is not installed, or has no such dtype.
            ObjectMissingError: an object is missing and cannot be fetched.
        """
        source = self.source(name)
        return torch_of(read_all(source), source.dtype, source.shape)

    def get_slice(self, name: str) -> TensorSlice:
        """A tensor of which only some rows are read: ``file.get_slice("w")[10:20, :5]``.

        Raises:
            KeyError: there is none of that name.
            ObjectMissingError: an object is missing and cannot be fetched.
        """
        return TensorSlice(self.source(name))

    def source(self, name: str) -> TensorData:
        """A tensor as writers see it; its objects are here now.

        Raises:
            KeyError: there is none of that name.
            ObjectMissingError: an object is missing and cannot be fetched.
        """
        entry: TensorEntry = self._entries[name]
        bring(self._workspace, entry.objects, f"tensor '{printable(name)}'")
        return stored_tensors(self._manifest._replace(tensors=(entry,)), self._workspace.store)[0]

    def fetch(self, names: Iterable[str]) -> None:
        """Bring the objects of some tensors at once, instead of one tensor after the other.

        Raises:
            KeyError: there is none of a name.
            ObjectMissingError: an object is missing and cannot be fetched.
        """
        wanted = dict.fromkeys(part for name in names for part in self._entries[name].objects)
        bring(self._workspace, tuple(wanted), "the file")

    def close(self) -> None:
        """End child processes and close files."""
        self._workspace.close()

    def __getitem__(self, name: str) -> Any:
        if name in self._entries:
            return self.get_tensor(name)
        names = self.keys(name) if _GLOB.search(name) else []
        if not names:
            raise KeyError(name)
        return TensorGroup(self, names)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class TensorGroup(Mapping[str, NDArray[Any]]):
    """Some tensors of a stored file by name: fetched together with the first, each read when asked for.

    ``dict(group)`` reads them all.

    Args:
        file: the file.
        names: of the tensors.
    """

    def __init__(self, file: OpenedFile, names: Iterable[str]) -> None:
        self._file = file
        self._names = dict.fromkeys(names)
        self._is_here = False

    def get_torch(self, name: str) -> torch.Tensor:
        """A tensor as a tensor of torch on the CPU, which owns it.

        Raises:
            KeyError: there is none of that name.
            UsageError: torch is not installed, or has no such dtype.
        """
        self._bring(name)
        return self._file.get_torch(name)

    def __getitem__(self, name: str) -> NDArray[Any]:
        self._bring(name)
        return self._file.get_tensor(name)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __repr__(self) -> str:
        return f"TensorGroup({list(self._names)})"

    def _bring(self, name: str) -> None:
        if name not in self._names:
            raise KeyError(name)
        if not self._is_here:
            self._file.fetch(self._names)
            self._is_here = True


def open(spec: str | os.PathLike[str]) -> OpenedFile:  # noqa: A001 - as safetensors.safe_open and builtins name it
    """Open a weight file of a revision, without a checkout; ``with`` closes it.

    Args:
        spec: ``REPOSITORY@REV:PATH``, ``REPOSITORY:PATH`` (the index), or ``REV:PATH`` in the repository that
            the current directory is in.

    Raises:
        NotARepositoryError: there is no such repository.
        UsageError: there is no such revision or weight file.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from coral_git import Repository
        >>> repo = Repository(tempfile.mkdtemp(), init=True)
        >>> ids = repo.stage_weights({"w": np.arange(4)})
        >>> version = repo.commit("base"), repo.tag_version("v1.0")
        >>> with open(f"{repo.path}@v1.0:model.safetensors") as file:
        ...     file["w"].tolist()
        [0, 1, 2, 3]
    """
    text = os.fspath(spec)
    place, at, rest = text.rpartition("@")
    if at and os.path.isdir(place):
        return OpenedFile(Workspace.open(place), rest)
    place, colon, path = text.partition(":")
    if colon and os.path.isdir(place):
        return OpenedFile(Workspace.open(place), f":{path}")
    try:
        return OpenedFile(Workspace.open(), text)
    except NotARepositoryError as error:
        raise NotARepositoryError(
            f"'{printable(text)}' names no repository, and none is here",
            hint="write it as REPOSITORY@REV:PATH",
        ) from error
