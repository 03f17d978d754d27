"""Words on the command line that are revisions or paths, as git tells them apart."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import click

from coral_git.errors import UsageError
from coral_git.pipeline.workspace import Workspace
from coral_git.repository.unfinished import user_git

_AFTER = "coral_git.paths"


class Words(NamedTuple):
    """What the words are.

    Attributes:
        revisions: revisions and ranges.
        paths: pathspecs, from where the user stands.
    """

    revisions: tuple[str, ...]
    paths: tuple[str, ...]


class PathsCommand(click.Command):
    """A command that knows which words stood after ``--``; click by itself forgets it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep what stands after the first ``--`` apart."""
        if "--" in args:
            place = args.index("--")
            ctx.meta[_AFTER] = tuple(args[place + 1 :])
            args = args[:place]
        return super().parse_args(ctx, args)


def paths_after() -> tuple[str, ...] | None:
    """The words after ``--``; None where there was none."""
    after: Any = click.get_current_context().meta.get(_AFTER)
    return None if after is None else tuple(after)


def split_words(workspace: Workspace, words: tuple[str, ...], most: int | None = None) -> Words:
    """Tell revisions from paths.

    Words before ``--`` are revisions. Without ``--``, the first word that is none begins the paths, and has
    to be there.

    Args:
        workspace: the repository.
        words: those before ``--``.
        most: how many revisions the command takes; any number by default.

    Raises:
        UsageError: a word is neither, or both, or there are too many revisions.
    """
    after = paths_after()
    if after is not None:
        found = Words(words, after)
    else:
        number = next((n for n, word in enumerate(words) if not _is_revision(workspace, word)), len(words))
        found = Words(words[:number], words[number:])
        _check(workspace, found)
    if most is not None and len(found.revisions) > most:
        raise UsageError(f"at most {most} revision{'s' if most != 1 else ''}, not {len(found.revisions)}")
    return found


def _check(workspace: Workspace, found: Words) -> None:
    for word in found.revisions:
        if _is_there(workspace, word):
            raise UsageError(
                f"'{word}' is a revision and a file", hint="put '--' between revisions and paths"
            )
    for word in found.paths:
        if not _is_there(workspace, word) and not any(char in word for char in "*?[:"):
            raise UsageError(
                f"'{word}' is neither a revision nor a path in the work tree",
                hint="put '--' before paths that are not there",
            )


def _is_revision(workspace: Workspace, word: str) -> bool:
    if not word or word.startswith(("-", ":")):
        return False
    return user_git(workspace).succeeds("rev-list", "--max-count=1", "--end-of-options", word, "--")


def _is_there(workspace: Workspace, word: str) -> bool:
    root = workspace.paths.work_tree
    return root is not None and os.path.lexists(os.path.join(root, workspace.paths.prefix, word))
