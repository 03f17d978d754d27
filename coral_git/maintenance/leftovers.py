"""What processes that died left behind: unfinished files, scratch repositories, stale copies of indexes."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator

from coral_git import fsops
from coral_git.git.worktree import sweep_temporaries
from coral_git.maintenance.plan import is_older
from coral_git.maintenance.trash import delete_file, remove_orphaned_indexes
from coral_git.pipeline.workspace import Workspace
from coral_git.remotes.scratch import remove_tree

_OWNED = re.compile(r"-([0-9]{1,10})-[0-9]+-[0-9a-f]{8}$")
"""What ``fsops.unique_name`` puts after its prefix; the first number is the process."""

_REMOTE_INDEXES = "remote-indexes"
_DAY = 86_400


def sweep(workspace: Workspace, now: float, grace: int) -> tuple[int, int]:
    """Remove leftovers that are older than the grace time and whose process is gone.

    Args:
        workspace: the repository.
        now: the time, seconds since the epoch.
        grace: seconds below which nothing goes.

    Returns:
        How many were removed, and their bytes; files in git's directories do not count as bytes.
    """
    count = freed = 0
    for entry in _leftovers(workspace, now, grace):
        count += 1
        with contextlib.suppress(OSError):
            if entry.is_dir(follow_symlinks=False):
                freed += _tree_size(entry.path)
                remove_tree(entry.path)
            else:
                freed += delete_file(entry.path)
    freed += remove_orphaned_indexes(workspace.store.layout)
    for git_dir in git_directories(workspace):
        count += sweep_temporaries(git_dir, max(grace, _DAY))
    return count, freed


def git_directories(workspace: Workspace) -> list[str]:
    """The git directory of the main work tree and those of all linked ones."""
    common = workspace.paths.common_dir
    linked = os.path.join(common, "worktrees")
    try:
        names = sorted(os.listdir(linked))
    except (FileNotFoundError, NotADirectoryError):
        names = []
    return [common, *(os.path.join(linked, name) for name in names)]


def _leftovers(workspace: Workspace, now: float, grace: int) -> list[os.DirEntry[str]]:
    layout = workspace.store.layout
    found = []
    for folder in (layout.root, layout.incoming, os.path.join(layout.root, _REMOTE_INDEXES)):
        is_cache = os.path.basename(folder) == _REMOTE_INDEXES
        for entry in _entries(folder):
            owned = _OWNED.search(entry.name)
            if not (owned or is_cache) or (owned and fsops.process_is_alive(int(owned[1]))):
                continue
            if is_older(entry.stat(follow_symlinks=False).st_mtime, now, grace):
                found.append(entry)
    return found


def _entries(folder: str) -> Iterator[os.DirEntry[str]]:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
        yield from entries


def _tree_size(path: str) -> int:
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(folder, name)).st_size
    return total
