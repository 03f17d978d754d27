"""Saying something about weights: in the commit that is made, or later in a note beside it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from coral_git.errors import UsageError
from coral_git.git.revisions import resolve_commit
from coral_git.history.facts import NOTES_REF, TRAILERS, trailer_lines
from coral_git.pipeline.workspace import Workspace
from coral_git.repository.environment import describe_environment
from coral_git.repository.unfinished import user_git


class Said(NamedTuple):
    """What is to be said.

    Attributes:
        metrics: values by name.
        labels: words.
        environment: whether to say what there was to train with; None for what the settings say.
    """

    metrics: Mapping[str, float]
    labels: tuple[str, ...] = ()
    environment: bool | None = None


def commit(workspace: Workspace, said: Said, arguments: Sequence[str], apart: bool = False) -> int:
    """``git commit`` with trailers, on the terminal of this process; gives its exit code.

    Args:
        workspace: the repository.
        said: what the trailers say.
        arguments: options and paths for ``git commit``.
        apart: whether what git prints goes to standard error.
    """
    with_environment = said.environment
    if with_environment is None:
        with_environment = workspace.settings.record_environment
    git = user_git(workspace)
    environment = describe_environment(git, arguments or ("--",)) if with_environment else {}
    lines = trailer_lines(said.metrics, said.labels, environment)
    options = [word for line in lines for word in ("--trailer", line)]
    return git.call(
        *TRAILERS, "-c", "trailer.ifexists=addIfDifferent", "commit", *options, *arguments, apart=apart
    )


def add_note(workspace: Workspace, revision: str, said: Said) -> str:
    """Say something about a commit that is there already; gives the id of the commit.

    Raises:
        UsageError: there is no such commit, or nothing to say.
    """
    oid = resolve_commit(workspace.git, revision)
    environment = describe_environment(workspace.git) if said.environment else {}
    lines = trailer_lines(said.metrics, said.labels, environment)
    if not lines:
        raise UsageError("nothing to say", hint="e.g. git coral metrics add accuracy=0.912")
    text = "\n".join(lines) + "\n"
    workspace.git.run("notes", f"--ref={NOTES_REF}", "append", "-F", "-", oid, input=os.fsencode(text))
    return oid
