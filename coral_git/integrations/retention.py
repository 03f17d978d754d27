"""Which checkpoints of a run stay, which is the best one, and what is said about a new one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from coral_git.errors import LockedError, UsageError
from coral_git.git.command import Git
from coral_git.history.checkpoints import list_checkpoints
from coral_git.history.goals import Goal
from coral_git.history.tags import NewTag, make_tag
from coral_git.integrations.checkpoint_config import CheckpointConfig
from coral_git.integrations.kept import list_saved
from coral_git.maintenance.gc import free_dropped
from coral_git.manifest.escape import printable
from coral_git.pipeline.workspace import Workspace
from coral_git.repository import checkpointing


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


def tag_best(git: Git, run: str, commit: str, metrics: Mapping[str, float]) -> None:
    """Let the tag of the best checkpoint of a run follow."""
    make_tag(git, NewTag(f"{run}_best", commit, f"best of {run}", metrics, force=True))


def drop_others(workspace: Workspace, run: str, config: CheckpointConfig) -> int:
    """Let go of the checkpoints of a run that are not to be kept; gives how many these were."""
    last, best = config.keep_last_n_checkpoints, config.keep_best_n_checkpoints
    if last is None and best is None:
        return 0
    found = list_saved(workspace, run)
    goal = goal_of(config)
    ranked = sorted(found, key=lambda one: goal.rank(one.metrics))
    kept = {one.step for one in (*found[-(last or 1) :], *ranked[: best or 0])}
    every = config.keep_checkpoint_every_n_epochs
    if every:
        kept.update(one.step for one in found if one.epoch is not None and one.epoch % every == 0)
    going = [one for one in list_checkpoints(workspace.git, run) if one.step not in kept]
    checkpointing.drop_checkpoints(workspace, going)
    return len(going)


def free_room(workspace: Workspace, config: CheckpointConfig) -> bool:
    """Let the store have the room of what was dropped; False while another gc is at it.

    Raises:
        CoralError: git or the file system failed; what was done until then is consistent.
    """
    if config.free_dropped and not config.branch:
        try:
            free_dropped(workspace)
        except LockedError:
            return False
    return True


class _Blank(dict[str, Any]):
    """What a message names and nobody knows stays as it is."""

    def __missing__(self, key: str) -> str:
        return f"{{{key}}}"
