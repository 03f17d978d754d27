"""Tensors by key, on a git remote."""

from __future__ import annotations

import os
from collections.abc import Iterable

from coral_git.api.kept_store import KeptStore
from coral_git.api.writing import Writing
from coral_git.errors import UsageError
from coral_git.manifest.escape import printable
from coral_git.pipeline.fetch import fetch_objects
from coral_git.pipeline.stores import git_remotes, store_urls, stores_at
from coral_git.repository.kept_weights import Change, Kept, change_fetched, fetch_kept
from coral_git.types import ObjectId


class RemoteStore(KeptStore):
    """Keeps tensors on a git remote, at its ``refs/coral/weights``; the objects travel as those of a push do.

    Every call asks the remote what it keeps. A tensor that is loaded brings its own objects and the bases of
    these, and stays in the local store.

    Args:
        repo: a ``Repository``, or the path of one.
        remote: one of its git remotes.

    Raises:
        NotARepositoryError: there is no repository.
        UsageError: it has no such remote.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from coral_git import Repository
        >>> hub = Repository(tempfile.mkdtemp(), init=True)
        >>> repo = Repository(tempfile.mkdtemp(), init=True)
        >>> repo.add_remote("origin", hub.path)
        >>> with RemoteStore(repo) as store:
        ...     key = store.store(np.arange(6, dtype=np.int16).reshape(2, 3))
        >>> with RemoteStore(repo, "origin") as store:
        ...     store.load(key).data.tolist()
        [[0, 1, 2], [3, 4, 5]]
    """

    def __init__(self, repo: Writing | str | os.PathLike[str], remote: str = "origin") -> None:
        super().__init__(repo)
        self._remote = remote
        if remote not in git_remotes(self._workspace):
            raise UsageError(f"there is no remote '{printable(remote)}'", hint="see Repository.add_remote")

    def _kept(self) -> Kept:
        return fetch_kept(self._workspace, self._remote)

    def _change(self, change: Change) -> None:
        change_fetched(self._workspace, self._remote, change)

    def _is_whole(self, blob: str) -> bool:
        return True  # the ref came after the objects

    def _fetch(self, wanted: Iterable[ObjectId]) -> list[ObjectId]:
        places = [*store_urls(self._workspace), self._remote]
        stores = [store for place in places for store in stores_at(self._workspace, place)]
        return fetch_objects(self._workspace, wanted, stores, quiet=True)
