"""Tensors by key, in the store of a repository."""

from __future__ import annotations

from collections.abc import Iterable

from coral_git.api.kept_store import KeptStore
from coral_git.manifest.model import object_ids
from coral_git.pipeline.closure import find_incomplete
from coral_git.pipeline.fetch import fetch_objects
from coral_git.pipeline.history import read_blob
from coral_git.repository.kept_weights import Change, Kept, change_kept, read_kept
from coral_git.types import ObjectId


class LocalStore(KeptStore):
    """Keeps tensors in a repository, off its branches, at ``refs/coral/weights``.

    Equal tensors take their space once, similar ones that of their difference, also beside those of commits.
    What is kept is live for ``git coral gc``. Several processes may store and delete at the same time.

    Args:
        repo: a ``Repository``, or the path of one.

    Raises:
        NotARepositoryError: there is none.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from coral_git import Repository
        >>> repo = Repository(tempfile.mkdtemp(), init=True)
        >>> with LocalStore(repo) as store:
        ...     keys = store.store_batch({"a": np.zeros((2, 3)), "b": np.ones(4, np.int8)})
        >>> with LocalStore(repo.path) as store:
        ...     store.load(keys["a"]).shape, store.get_metadata(keys["b"]).dtype
        ((2, 3), 'I8')
    """

    def _kept(self) -> Kept:
        return read_kept(self._workspace.git)

    def _change(self, change: Change) -> None:
        change_kept(self._workspace, change)

    def _is_whole(self, blob: str) -> bool:
        manifest = read_blob(self._workspace, blob)
        return manifest is not None and not find_incomplete(self._workspace.store, object_ids(manifest))

    def _fetch(self, wanted: Iterable[ObjectId]) -> list[ObjectId]:
        return fetch_objects(self._workspace, wanted, quiet=True)
