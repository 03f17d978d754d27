"""The checkpoints of a run that are kept: listed, chosen, read; nothing is written, no run is begun."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from coral_git.errors import UsageError
from coral_git.formats.base import TensorData
from coral_git.history.checkpoints import BEST, epoch_of, list_checkpoints, logged_by, read_checkpoints
from coral_git.history.goals import Goal
from coral_git.history.runs import RUNS
from coral_git.manifest.escape import printable
from coral_git.pipeline.tensors import stored_tensors
from coral_git.pipeline.workspace import Workspace
from coral_git.repository.printing import bring
from coral_git.repository.spec import stored_manifest


class SavedCheckpoint(NamedTuple):
    """A checkpoint that is kept.

    Attributes:
        step: its number.
        epoch: epochs that had ended; None where that is not known.
        commit_hash: the id of its commit.
        metrics: values by name.
        message: first line of the message of its commit.
        labels: words that were said about it.
    """

    step: int
    epoch: int | None
    commit_hash: str
    metrics: Mapping[str, float]
    message: str
    labels: tuple[str, ...] = ()


def list_saved(workspace: Workspace, run: str) -> list[SavedCheckpoint]:
    """The checkpoints of a run that are kept, as they were saved: who trains may go back to an earlier step.

    That order is the one of the steps of the run; where the run is not here, that of their numbers.

    Raises:
        UsageError: no run can have that name.
    """
    git = workspace.git
    if not git.succeeds("check-ref-format", RUNS + run):
        raise UsageError(f"there is no run '{printable(run)}'", hint="git coral experiment list")
    refs = list_checkpoints(git, run)
    commits = read_checkpoints(git, refs)
    found = [
        SavedCheckpoint(
            one.step,
            epoch_of(commit),
            one.oid,
            dict(commit.facts.metrics),
            commit.subject,
            commit.facts.labels,
        )
        for one, commit in zip(refs, commits, strict=True)
    ]
    chain = git.run("rev-list", "--first-parent", "--reverse", RUNS + run, check=False).decode().split()
    order = {oid: number for number, oid in enumerate(chain)}
    places = {commit.oid: order.get(logged_by(commit), -1) for commit in commits}
    return found if -1 in places.values() else sorted(found, key=lambda one: places[one.commit_hash])


def choose_saved(
    found: Sequence[SavedCheckpoint],
    commit_hash: str | None = None,
    *,
    step: int | None = None,
    best: bool = False,
    goal: Goal | None = None,
) -> SavedCheckpoint | None:
    """One of the checkpoints of a run: the last of those that are asked for; None where there is none.

    Args:
        found: the checkpoints, the last one at the end.
        commit_hash: the id of its commit, or how that begins.
        step: its number.
        best: whether the best one is meant.
        goal: what makes one better; a checkpoint without that metric is not the best. Without a goal the best
            one is that which was saved as such last.
    """
    if commit_hash is not None:
        found = [one for one in found if one.commit_hash.startswith(commit_hash)]
    if step is not None:
        found = [one for one in found if one.step == step]
    if best and goal is not None:
        measured = (one for one in found if goal.has(one.metrics))
        found = sorted(measured, key=lambda one: goal.rank(one.metrics))[:1]
    elif best:
        found = [one for one in found if BEST in one.labels]
    return found[-1] if found else None


def saved_tensors(workspace: Workspace, checkpoint: SavedCheckpoint, file: str) -> Iterator[TensorData]:
    """The tensors of a file of a checkpoint, in file order; what is not here is fetched.

    Raises:
        UsageError: it has no such file.
        ObjectMissingError: an object cannot be had.
    """
    manifest = stored_manifest(workspace, f"{checkpoint.commit_hash}:{os.fspath(file)}")
    wanted = tuple(part for one in manifest.tensors for part in one.objects)
    bring(workspace, wanted, f"the checkpoint at step {checkpoint.step}")
    yield from stored_tensors(manifest, workspace.store)
