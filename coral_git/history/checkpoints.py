"""Checkpoints of runs: commits with weights at ``refs/coral/checkpoints/<run>/<step>``.

Each has a ref of its own, so that an old one can be dropped and its weights freed, while the chain of the run
keeps every metric. See ``docs/format/runs.md``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from coral_git.git.command import Git
from coral_git.history.commits import Commit, walk

CHECKPOINTS = "refs/coral/checkpoints/"
EPOCH = "Coral-Epoch"
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


def read_checkpoints(git: Git, checkpoints: Sequence[Checkpoint]) -> list[Commit]:
    """The commits of checkpoints, with their metrics, in this order."""
    if not checkpoints:
        return []
    found = {
        commit.oid: commit for commit in walk(git, ("--no-walk=unsorted", *(one.oid for one in checkpoints)))
    }
    return [found[one.oid] for one in checkpoints]


def epoch_of(commit: Commit) -> int | None:
    """How many epochs had ended when a checkpoint was saved; None where its commit does not say."""
    for key, value in commit.facts.others:
        if key == EPOCH and value.isascii() and value.isdigit() and len(value) < 19:
            return int(value)
    return None
