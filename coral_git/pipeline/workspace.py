"""A repository as the pipeline sees it: its paths, settings, store and readers, opened when first used."""

from __future__ import annotations

import os
from functools import cached_property
from typing import TYPE_CHECKING

from coral_git.config import Settings, read_settings
from coral_git.git.command import Git
from coral_git.git.config import GitConfig, read_config
from coral_git.git.objects import CatFile
from coral_git.git.repository import GitPaths, discover
from coral_git.limits import DEFAULT_LIMITS, Limits

if TYPE_CHECKING:  # many commands never open it, and it brings the codecs
    from coral_git.store.store import Store

STORE_NAME = "coral"
"""The directory of the store in the git common directory."""


class Workspace:
    """Everything an operation on one repository needs.

    Args:
        paths: where the repository is.
        limits: the caps that apply.

    Attributes:
        is_ready: whether it was seen to that a push leaves nothing behind.
    """

    is_ready = False

    def __init__(self, paths: GitPaths, limits: Limits = DEFAULT_LIMITS) -> None:
        self.paths = paths
        self.limits = limits
        self.git = self.git_in(paths.work_tree or paths.git_dir)

    @classmethod
    def open(cls, directory: str = ".", limits: Limits = DEFAULT_LIMITS) -> Workspace:
        """Find the repository that ``directory`` is in.

        Raises:
            NotARepositoryError: there is none.
        """
        return cls(discover(directory), limits)

    def git_in(self, directory: str) -> Git:
        """Git in a directory, for this repository.

        What the environment says about the repository may be relative to where this process was started.
        """
        places = {
            "GIT_DIR": self.paths.git_dir,
            "GIT_COMMON_DIR": self.paths.common_dir,
            "GIT_WORK_TREE": self.paths.work_tree,
            "GIT_INDEX_FILE": self.paths.index_path,
        }
        moved = {
            name: place
            for name, place in places.items()
            if place is not None and not os.path.isabs(os.environ.get(name) or "/")
        }
        return Git(directory, {**os.environ, **moved} if moved else None)

    @cached_property
    def config(self) -> GitConfig:
        """Git's configuration, read once."""
        return read_config(self.git)

    @cached_property
    def settings(self) -> Settings:
        """The settings in force."""
        return read_settings(self.config.get)

    @property
    def store_root(self) -> str:
        """Where the store is or will be; never through the convenience link."""
        return os.path.join(self.paths.common_dir, STORE_NAME)

    @property
    def has_store(self) -> bool:
        """Whether the store has been made."""
        return os.path.exists(os.path.join(self.store_root, "FORMAT"))

    @cached_property
    def store(self) -> Store:
        """The store; made when it is not there yet."""
        from coral_git.store.store import Store

        make = Store.open if self.has_store else Store.create
        return make(self.store_root, self.limits, fsync=self.settings.fsync)

    @cached_property
    def objects(self) -> CatFile:
        """Reads git's objects."""
        return CatFile(self.git)

    def close(self) -> None:
        """End child processes and close files."""
        for name in ("objects", "store"):
            if name in self.__dict__:
                self.__dict__.pop(name).close()
