"""Which files of a commit coral-git handles, by the attributes files of that very commit."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from coral_git import fsops
from coral_git.git.attributes import check_attr
from coral_git.git.command import Git
from coral_git.git.revisions import TreeEntry, list_tree
from coral_git.git.worktree import TEMPORARY_FOLDER
from coral_git.pipeline.workspace import Workspace

_FILTER = b"coral"


class CommitAttributes:
    """Asks git for attributes through an index of its own, which works in bare repositories too.

    Args:
        workspace: the repository.
        index: where the temporary index may be; the file need not exist.
    """

    def __init__(self, workspace: Workspace, index: str) -> None:
        root = workspace.paths.work_tree or workspace.paths.git_dir
        self._git = Git(root, {**os.environ, **_places(workspace), "GIT_INDEX_FILE": index})

    def tracked_files(self, commit: str) -> list[TreeEntry]:
        """The regular files of a commit that have ``filter=coral`` there."""
        self._git.run("read-tree", commit)
        entries = [entry for entry in list_tree(self._git, commit) if entry.is_file]
        values = check_attr(self._git, [entry.path for entry in entries], cached=True)
        return [entry for entry in entries if values.get(entry.path) == _FILTER]


@contextlib.contextmanager
def open_attributes(workspace: Workspace) -> Iterator[CommitAttributes]:
    """Make a temporary index, and remove it however the block ends."""
    folder = os.path.join(workspace.paths.git_dir, TEMPORARY_FOLDER)
    fsops.make_directory(folder)
    index = os.path.join(folder, fsops.unique_name("index"))
    try:
        yield CommitAttributes(workspace, index)
    finally:
        for path in (index, f"{index}.lock"):
            with contextlib.suppress(OSError):
                fsops.remove(path)


def _places(workspace: Workspace) -> dict[str, str]:
    """The repository, named outright where the environment names it relative to another directory."""
    if not os.environ.get("GIT_DIR"):
        return {}
    places = {"GIT_DIR": workspace.paths.git_dir}
    if workspace.paths.work_tree is not None:
        places["GIT_WORK_TREE"] = workspace.paths.work_tree
    return places
