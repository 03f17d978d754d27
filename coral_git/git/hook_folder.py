"""Where git looks for the hooks of a repository, and whose the hooks there are.

Apart from ``hooks.py``, because every checkout asks and must not wait for what installing needs.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from coral_git.git.command import Git
from coral_git.git.repository import GitPaths

BLOCK_START = b"# >>> coral-git hook "
BLOCK_END = b"# <<< coral-git hook <<<"
"""The lines around our text begin like this; a version number follows the first one."""


class HookFolder(NamedTuple):
    """Where git looks for the hooks of a repository.

    Attributes:
        path: the folder.
        is_configured: whether ``core.hooksPath`` leads out of the repository's own folder.
    """

    path: str
    is_configured: bool


def locate(git: Git, paths: GitPaths) -> HookFolder:
    """Find the folder of the hooks, with ``core.hooksPath`` taken into account."""
    value = git.run("config", "-z", "--type=path", "core.hooksPath", check=False).removesuffix(b"\0")
    return folder_of(paths, os.fsdecode(value))


def folder_of(paths: GitPaths, hooks_path: str | None) -> HookFolder:
    """The folder of the hooks, for a value of ``core.hooksPath``, without asking git.

    Args:
        paths: the repository.
        hooks_path: the value; empty or None when it is not set.
    """
    own = os.path.join(paths.common_dir, "hooks")
    if not hooks_path:
        return HookFolder(own, False)
    configured = os.path.join(paths.work_tree or paths.git_dir, os.path.expanduser(hooks_path))
    if os.path.realpath(configured) == os.path.realpath(own):
        return HookFolder(own, False)
    return HookFolder(configured, True)


def has_foreign_hook(paths: GitPaths, name: str, hooks_path: str | None = None) -> bool:
    """Whether git runs a hook of somebody else's.

    Args:
        paths: the repository.
        name: the name of the hook, e.g. ``"post-checkout"``.
        hooks_path: the value of ``core.hooksPath``; empty or None when it is not set.
    """
    path = os.path.join(folder_of(paths, hooks_path).path, name)
    if not (os.path.isfile(path) and os.access(path, os.X_OK)):
        return False
    text = read_hook(path) or b""
    return not (BLOCK_START in text and BLOCK_END in text)


def read_hook(path: str) -> bytes | None:
    """The content of a hook file, None when there is none."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return None
