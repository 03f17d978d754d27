"""Pulling: the history by git, then the files that are still manifests."""

from __future__ import annotations

import os
from collections.abc import Sequence

from coral_git.git.command import plain_words
from coral_git.pipeline.stores import FETCH_FROM, is_known_remote
from coral_git.pipeline.workspace import Workspace
from coral_git.repository.unfinished import finish_files

_TAKE_A_VALUE = frozenset(
    {"-s", "--strategy", "-X", "--strategy-option", "-o", "--server-option", "-j", "--jobs", "--depth"}
)


def pull(workspace: Workspace, arguments: Sequence[str]) -> int:
    """``git pull``, then the files that are still manifests.

    Args:
        workspace: the repository.
        arguments: what ``git pull`` takes. A URL is asked for objects too.

    Returns:
        The exit code of ``git pull``.

    Raises:
        ObjectMissingError: a file stays a manifest.
    """
    location = next(plain_words(arguments, _TAKE_A_VALUE), "")
    if location and not is_known_remote(workspace, location):
        os.environ[FETCH_FROM] = os.path.abspath(location) if os.path.exists(location) else location
    code = workspace.git.call("pull", *arguments)
    if code == 0:
        finish(Workspace.open(workspace.paths.work_tree or "."))
    return code


def finish(workspace: Workspace) -> int:
    """Write the files that are still manifests; gives their number.

    Raises:
        ObjectMissingError: one of them stays a manifest.
        IntegrityError: an object of one is damaged.
    """
    if os.environ.get("CORAL_SKIP_SMUDGE") or workspace.paths.work_tree is None:
        return 0
    outcome = finish_files(workspace)
    for error in outcome.failed.values():
        raise error
    return len(outcome.written)
