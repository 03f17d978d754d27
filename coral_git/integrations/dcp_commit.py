"""The commit of a distributed checkpoint: files that the processes have stored, the index, then the ref."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

from coral_git.errors import CoralError
from coral_git.history.checkpoints import BEST
from coral_git.history.runs import Run, read_run
from coral_git.integrations.checkpoint_config import CheckpointConfig
from coral_git.integrations.dcp_index import INDEX, Index, render
from coral_git.integrations.retention import goal_of, settle, subject_of
from coral_git.pipeline.workspace import Workspace
from coral_git.repository import checkpointing
from coral_git.repository.checkpointing import NewCheckpoint


class NewDistributed(NamedTuple):
    """What is said about a checkpoint.

    Attributes:
        run: the name of the run.
        step: its number; None for the one after the last.
        epoch: epochs that have ended; None where nobody counts them.
        metrics: what was measured.
    """

    run: str
    step: int | None
    epoch: int | None
    metrics: Mapping[str, float]


def commit_distributed(
    workspace: Workspace,
    new: NewDistributed,
    config: CheckpointConfig,
    index: Index,
    stored: Mapping[bytes, str],
) -> None:
    """Make the commit, and drop the checkpoints that are not to be kept any more.

    Args:
        workspace: the repository.
        new: what is said about it.
        config: what is kept, and how.
        index: what the files hold.
        stored: manifests that the processes have stored, by path.

    Raises:
        UsageError: the state cannot be kept.
        CoralError: a file is not here.
        GitError: git refuses; the checkpoint is not there then.
    """
    content = render(index, workspace.limits)
    here = {oid for oid, _, _ in workspace.objects.sizes(sorted(set(stored.values())))}
    for path, blob in stored.items():
        if blob not in here:
            raise CoralError(
                f"'{os.fsdecode(path)}' was stored in another repository",
                hint="let all processes save to one, on a shared file system",
            )
    plain = {os.fsencode(INDEX): checkpointing.store_blob(workspace, content)}
    if not config.auto_commit:
        checkpointing.stage_checkpoint(workspace, stored, plain)
        return
    run = read_run(workspace.git, new.run)
    numbers = [step.number for step in run.steps if step.number is not None]
    step = max(numbers, default=0) + 1 if new.step is None else new.step
    is_best = _is_best(run, step, new.metrics, config)
    said = NewCheckpoint(
        new.run,
        step,
        new.metrics,
        _subject(config, step, new),
        new.epoch,
        (BEST,) if is_best else (),
        config.branch,
    )
    saved = checkpointing.commit_checkpoint(workspace, said, stored, plain)
    settle(workspace, saved, new.metrics, config, is_best=is_best)


def _is_best(run: Run, step: int, metrics: Mapping[str, float], config: CheckpointConfig) -> bool:
    """Whether it is better than every step before, by the metric that the configuration names."""
    goal = goal_of(config)
    if config.save_on_best_metric is None or not goal.has(metrics):
        return False
    others = (one.metrics for one in run.steps if one.number != step)
    return all(goal.rank(metrics) < goal.rank(one) for one in others)


def _subject(config: CheckpointConfig, step: int, new: NewDistributed) -> str:
    """The first line of the message; the template that nobody has chosen names an epoch."""
    if new.epoch is None and config.commit_message_template == CheckpointConfig().commit_message_template:
        return ""
    return subject_of(config, step, new.epoch, new.metrics)
