"""Checkpoints of runs: commits with weights at ``refs/coral/checkpoints/<run>/<step>``.

Each has a ref of its own, so that an old one can be dropped and its weights freed, while the chain of the run
keeps every metric. A step may have earlier ones besides, at ``<step>.2``, ``<step>.3`` and so on. See
``docs/format/runs.md``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from coral_git.git.command import Git
from coral_git.history.commits import Commit, walk

CHECKPOINTS = "refs/coral/checkpoints/"
BEST = "best"
"""The label of a checkpoint that was the best one so far when it was saved."""
EPOCH = "Coral-Epoch"
LOGGED = "Coral-Logged"
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


def checkpoint_ref(run: str, step: int, number: int = 1) -> str:
    """The ref of a checkpoint, or of the n-th besides it; refs sort as steps do."""
    return f"{CHECKPOINTS}{run}/{step:0{_DIGITS}}" + (f".{number}" if number > 1 else "")


def list_checkpoints(git: Git, run: str) -> list[Checkpoint]:
    """The checkpoints of a run that are kept, by step; the latest of a step comes last."""
    prefix = f"{CHECKPOINTS}{run}/"
    found = []
    for line in git.run("for-each-ref", "--format=%(objectname) %(refname)", prefix).decode().splitlines():
        oid, _, ref = line.partition(" ")
        step, dot, number = ref.removeprefix(prefix).partition(".")
        if _is_number(step) and (not dot or _is_number(number)):
            found.append(Checkpoint(run, int(step), ref, oid))
    return sorted(found, key=lambda one: (one.step, "." not in one.ref.removeprefix(prefix)))


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
        if key == EPOCH and _is_number(value):
            return int(value)
    return None


def logged_by(commit: Commit) -> str:
    """The id of the step of the run that a checkpoint belongs to: its parent, unless it is on a branch."""
    said = next((value for key, value in commit.facts.others if key == LOGGED), "")
    return said or (commit.parents[0] if commit.parents else "")


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 19
