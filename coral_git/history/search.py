"""Finding commits by what is in their weights or said about them, and files by what they are."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterator
from typing import NamedTuple

from coral_git.git.command import Git
from coral_git.history.changes import FileChange, WeightCommit
from coral_git.manifest.entries import Manifest, TensorEntry
from coral_git.manifest.model import object_ids


class Query(NamedTuple):
    """What a file has to have to be found; all that is given must be met.

    Attributes:
        names: globs, one of which the name of a tensor has to match.
        shape: the shape of that tensor.
        dtype: the name of its data type.
        object_id: the beginning of the id of an object of the file, in hexadecimal.
        sha256: the beginning of the SHA-256 of the file, in hexadecimal.
    """

    names: tuple[str, ...] = ()
    shape: tuple[int, ...] | None = None
    dtype: str = ""
    object_id: str = ""
    sha256: str = ""

    @property
    def is_about_files(self) -> bool:
        """Whether anything is asked about files at all."""
        return any(self) or self.shape is not None


class Hit(NamedTuple):
    """A commit that was found.

    Attributes:
        found: the commit.
        files: its files that are what was asked for; none where nothing was asked about files.
        tensors: names of the tensors that match, by path.
    """

    found: WeightCommit
    files: tuple[FileChange, ...]
    tensors: dict[bytes, tuple[str, ...]]


def search(commits: Iterator[WeightCommit], query: Query) -> Iterator[Hit]:
    """The commits that brought in what is asked for.

    Args:
        commits: as they come.
        query: what is asked for; with nothing, every commit is a hit.
    """
    for one in commits:
        if not query.is_about_files:
            yield Hit(one, (), {})
            continue
        files = [change for change in one.changes if change.new is not None and _is_new(change, query)]
        if files:
            named = {change.touched.path: _names(change.new, query) for change in files}
            yield Hit(one, tuple(files), named)


def refs_with(git: Git, commit: str) -> list[str]:
    """The branches and tags whose history has a commit, as git names them."""
    output = git.run(
        "for-each-ref", "--contains", commit, "--format=%(refname:short)", "refs/heads", "refs/tags"
    )
    return output.decode("utf-8", "replace").split("\n")[:-1]


def _is_new(change: FileChange, query: Query) -> bool:
    """Whether the new version has what is asked for and the old one does not."""
    return _has(change.new, query) and not _has(change.old, query)


def _has(manifest: Manifest | None, query: Query) -> bool:
    if manifest is None or not manifest.sha256.hex().startswith(query.sha256):
        return False
    if query.object_id and not any(one.hex().startswith(query.object_id) for one in object_ids(manifest)):
        return False
    is_about_tensors = query.names or query.shape is not None or query.dtype
    return not is_about_tensors or any(map(_matcher(query), manifest.tensors))


def _names(manifest: Manifest | None, query: Query) -> tuple[str, ...]:
    """The tensors that are meant."""
    if manifest is None or not (query.names or query.shape is not None or query.dtype or query.object_id):
        return ()
    return tuple(tensor.name for tensor in manifest.tensors if _matcher(query)(tensor))


def _matcher(query: Query) -> Callable[[TensorEntry], bool]:
    def matches(tensor: TensorEntry) -> bool:
        return (
            (not query.names or any(fnmatch.fnmatchcase(tensor.name, glob) for glob in query.names))
            and query.shape in (None, tensor.shape)
            and query.dtype.upper() in ("", tensor.dtype.name)
            and (not query.object_id or any(one.hex().startswith(query.object_id) for one in tensor.objects))
        )

    return matches
