"""A repository that programs write to: what its halves share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

from coral_git.api.delta import DeltaConfig
from coral_git.api.revisions import Revisions
from coral_git.pipeline.workspace import Workspace
from coral_git.store.locks import exclusive_lock

WRITE_LOCK = "coral-write.lock"
"""A file in the git directory of a work tree: whoever writes holds its lock."""


class Writing(Revisions):
    """A repository that is open; one program at a time writes."""

    _directory: str
    _config: DeltaConfig | None

    @property
    def path(self) -> str:
        """The root of the work tree; the git directory of a bare repository."""
        return self._workspace.paths.work_tree or self._workspace.paths.git_dir

    @property
    def file(self) -> str:
        """The weight file that tensors go into, from the root of the work tree."""
        return self._file

    @property
    def workspace(self) -> Workspace:
        """The repository as the engine sees it; another one after every checkout and merge."""
        return self._workspace

    def new_workspace(self, config: DeltaConfig | None = None) -> Workspace:
        """The repository afresh, for the engine; whoever asks closes it.

        Args:
            config: how tensors are stored, instead of the way of this repository.
        """
        workspace = Workspace.open(self._directory)
        config = config or self._config
        if config is not None:
            workspace.settings = workspace.settings._replace(
                delta_type=config.delta_type,
                profile=config.profile,
                similarity_threshold=config.similarity_threshold,
            )
        return workspace

    def close(self) -> None:
        """End child processes and close files; what is asked for afterwards opens them again."""
        self._workspace.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _reopen(self) -> None:
        """See what changed in git's index and configuration."""
        old, self._workspace = self._workspace, self.new_workspace()
        old.close()

    @contextmanager
    def _writing(self, purpose: str) -> Iterator[None]:
        """Hold the lock of those who write.

        Raises:
            LockedError: somebody else does; the message says who.
        """
        path = os.path.join(self._workspace.paths.git_dir, WRITE_LOCK)
        with exclusive_lock(path, purpose):
            yield
