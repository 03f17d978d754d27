"""Checkpoints of runs: commits with weights at ``refs/coral/checkpoints/<run>/<step>``.

Each has a ref of its own, so that an old one can be dropped and its weights freed, while the chain of the run
keeps every metric. See ``docs/format/runs.md``.
"""

from __future__ import annotations

from typing import NamedTuple

from coral_git.git.command import Git
from coral_git.history.commits import Commit, one_commit

CHECKPOINTS = "refs/coral/checkpoints/"
_DIGITS = 12


class Checkpoint(NamedTuple):
    """A checkpoint.

    Attributes:
        run: the name of the run.
        step: its number.
        ref: the full name of its ref.
        oid: the id of the commit.
    """

    run: str
    step: int
    ref: str
    oid: str


def checkpoint_ref(run: str, step: int) -> str:
    """The ref of a checkpoint; refs sort as steps do."""
    return f"{CHECKPOINTS}{run}/{step:0{_DIGITS}}"


def list_checkpoints(git: Git, run: str) -> list[Checkpoint]:
    """The checkpoints of a run that are kept, by step."""
    prefix = f"{CHECKPOINTS}{run}/"
    found = []
    for line in git.run("for-each-ref", "--format=%(objectname) %(refname)", prefix).decode().splitlines():
        oid, _, ref = line.partition(" ")
        number = ref.removeprefix(prefix)
        if number.isascii() and number.isdigit():
            found.append(Checkpoint(run, int(number), ref, oid))
    return sorted(found, key=lambda one: one.step)


def read_checkpoint(git: Git, checkpoint: Checkpoint) -> Commit:
    """The commit of a checkpoint, with its metrics."""
    return one_commit(git, checkpoint.oid)
