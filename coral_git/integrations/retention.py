"""Which checkpoints of a run stay, which is the best one, and what is said about a new one."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from coral_git.errors import CoralError, LockedError, UsageError
from coral_git.git.command import Git
from coral_git.history.checkpoints import Checkpoint, list_checkpoints
from coral_git.history.goals import Goal
from coral_git.history.tags import NewTag, make_tag
from coral_git.integrations.checkpoint_config import CheckpointConfig
from coral_git.integrations.kept import list_saved
from coral_git.maintenance.gc import free_dropped
from coral_git.manifest.escape import printable
from coral_git.pipeline.dropped import count_waiting, mark_freed
from coral_git.pipeline.workspace import Workspace
from coral_git.repository import checkpointing

_FREE_AFTER = 8


def goal_of(config: CheckpointConfig) -> Goal:
    """What makes a checkpoint better than another one."""
    return Goal(config.save_on_best_metric or "loss", config.minimize_metric)


def subject_of(config: CheckpointConfig, step: int, epoch: int | None, metrics: Mapping[str, float]) -> str:
    """The first line of the message of a checkpoint; what it names and nobody knows stays as it is.

    Raises:
        UsageError: the template is none.
    """
    known = {**metrics, "step": step, **({} if epoch is None else {"epoch": epoch})}
    try:
        return config.commit_message_template.format_map(_Blank(known))
    except (ValueError, LookupError, TypeError) as error:
        shown = printable(config.commit_message_template)
        raise UsageError(f"bad commit_message_template '{shown}': {error}") from error


def settle(
    workspace: Workspace,
    saved: Checkpoint,
    metrics: Mapping[str, float],
    config: CheckpointConfig,
    *,
    is_best: bool,
) -> None:
    """What follows when a checkpoint is there: the tag of the best one, others that go, and their room.

    The checkpoint is saved whatever fails here, so that is a warning.
    """
    steps: list[Callable[[], None]] = [
        lambda: _drop_others(workspace, saved.run, config),
        lambda: free_room(workspace, config),
    ]
    if is_best and config.tag_best_checkpoints:
        steps.insert(0, lambda: _tag_best(workspace.git, saved, metrics))
    for step in steps:
        try:
            step()
        except (CoralError, OSError) as error:
            said = f"the checkpoint at step {saved.step} is saved, but then: {error}"
            warnings.warn(said, RuntimeWarning, stacklevel=2)


def _tag_best(git: Git, saved: Checkpoint, metrics: Mapping[str, float]) -> None:
    """Let the tag of the best checkpoint of a run follow; nobody is there to sign it."""
    name, said = f"{saved.run}_best", f"best of {saved.run}"
    make_tag(git, NewTag(name, saved.oid, said, metrics, force=True, sign=False))


def _drop_others(workspace: Workspace, run: str, config: CheckpointConfig) -> None:
    """Let go of the checkpoints of a run that are not to be kept."""
    last, best = config.keep_last_n_checkpoints, config.keep_best_n_checkpoints
    if last is None and best is None:
        return
    found = list_saved(workspace, run)
    goal = goal_of(config)
    ranked = sorted(found, key=lambda one: goal.rank(one.metrics))
    kept = {one.step for one in (*found[-(last or 1) :], *ranked[: best or 0])}
    every = config.keep_checkpoint_every_n_epochs
    if every:
        kept.update(one.step for one in found if one.epoch is not None and one.epoch % every == 0)
    going = [one for one in list_checkpoints(workspace.git, run) if one.step not in kept]
    checkpointing.drop_checkpoints(workspace, going)


def free_room(workspace: Workspace, config: CheckpointConfig, least: int = _FREE_AFTER) -> None:
    """Let the store have the room of what was dropped; while another gc is at it, the next time.

    Args:
        workspace: the repository.
        config: whether that is wanted.
        least: how many dropped checkpoints are worth a walk over git's object database.

    Raises:
        CoralError: git or the file system failed; what was done until then is consistent.
    """
    if not config.free_dropped or config.branch or count_waiting(workspace) < least:
        return
    began = time.time_ns()
    with suppress(LockedError):
        free_dropped(workspace)
        mark_freed(workspace, began)


class _Blank(dict[str, Any]):
    """What a message names and nobody knows stays as it is."""

    def __missing__(self, key: str) -> str:
        return f"{{{key}}}"
