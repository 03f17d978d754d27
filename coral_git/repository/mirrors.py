"""Recognising ``git push --mirror``, which deletes on the remote every ref that is not here.

Packs are such refs, and git does not tell the pre-push hook about what a mirror deletes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from coral_git.errors import PolicyError
from coral_git.pipeline.filter import subcommand
from coral_git.pipeline.workspace import Workspace

_ANCESTORS = 8


def refuse_mirror(
    workspace: Workspace, remote: str, arguments: Sequence[str] | None = None, *, held_only: bool = False
) -> None:
    """Refuse a push that is going to delete packs.

    Args:
        workspace: the repository.
        remote: the remote that is pushed to.
        arguments: those of ``git push``; by default they are looked up among the processes that called this
            one, as far as the system shows them.
        held_only: only when the remote holds packs already.

    Raises:
        PolicyError: the push is a mirror.
    """
    words = _push_arguments() if arguments is None else arguments
    if "--mirror" in words or workspace.config.get_bool(f"remote.{remote}.mirror"):
        prefix = workspace.settings.ref_prefix
        if held_only and not workspace.git.run("ls-remote", remote, f"{prefix}/*", check=False):
            return
        raise PolicyError(
            f"a mirror push would delete the weights that '{remote}' holds below {prefix}",
            hint="git push --prune REMOTE '+refs/heads/*:refs/heads/*' '+refs/tags/*:refs/tags/*'",
        )


def _push_arguments() -> list[str]:
    """The words of the nearest ``git push`` above this process; none where that cannot be seen."""
    for words in _ancestors():
        if subcommand(words) == "push":
            return words
    return []


def _ancestors() -> Iterator[list[str]]:
    """The command lines of the processes above this one, the nearest first."""
    process = os.getppid()
    for _ in range(_ANCESTORS):
        try:
            with open(f"/proc/{process}/cmdline", "rb") as file:
                yield [os.fsdecode(word) for word in file.read().split(b"\0")]
            with open(f"/proc/{process}/stat", "rb") as file:
                process = int(file.read().rpartition(b")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            return
