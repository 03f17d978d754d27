"""What Lightning reads and writes checkpoints with, on top of a run."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lightning.pytorch.plugins.io import CheckpointIO
from lightning.pytorch.strategies import Strategy

from coral_git import fsops
from coral_git.api.repository import Repository
from coral_git.errors import UsageError
from coral_git.history.goals import Goal
from coral_git.integrations.bridge import ExperimentBridge
from coral_git.integrations.checkpoint_config import CheckpointConfig
from coral_git.integrations.kept import choose_saved, list_saved
from coral_git.integrations.lightning_state import (
    SCHEME,
    Reference,
    read_checkpoint,
    read_reference,
    snapshot_of,
    sole_reference,
    write_reference,
)
from coral_git.integrations.recorder import RunRecorder

_GATHER = "have the strategy gather the state, or save with coral_git.integrations.dcp"


def resume_path(
    repository: Repository,
    run: str,
    *,
    step: int | None = None,
    best: bool = False,
    metric: str | None = None,
) -> str | None:
    """What ``trainer.fit(ckpt_path=…)`` takes to go on from a checkpoint; None where there is none.

    The trainer has to have the callback or the plugin.

    Args:
        repository: where it is kept.
        run: the name of the run.
        step: its number; that of the last one by default.
        best: whether the best one is meant.
        metric: what makes it the best: the name of a metric, or ``min:NAME``, ``max:NAME``; by default it was
            the best one when it was saved.

    Raises:
        UsageError: no run can have that name.
    """
    workspace = repository.new_workspace()
    try:
        goal = Goal.parse(metric) if metric else None
        chosen = choose_saved(list_saved(workspace, run), step=step, best=best or bool(metric), goal=goal)
        return None if chosen is None else SCHEME + chosen.commit_hash
    finally:
        workspace.close()


class CoralCheckpointIO(CheckpointIO):
    """Keeps the checkpoints that Lightning saves in a run, with small files in their place.

    ``ModelCheckpoint`` decides what is saved and what is removed again. At the path of a checkpoint there is
    a text that names run, step and commit; when it is removed or saved over, so is the ref of the checkpoint
    removed, unless it was a link (``save_last="link"``), or the text has a hard link or a copy in the same
    folder. When saving returns, all is stored; Lightning's ``AsyncCheckpointIO`` around this does it in the
    background (and does not tell when the training is over: call ``teardown`` then).

    Args:
        repository: where checkpoints are kept.
        run: the name of the run; one of this name is continued.
        config: how tensors are stored.
        parameters: what is tried, for ``git coral experiment``.
        experiment_bridge: another tracker, which is told of checkpoints.

    Raises:
        UsageError: the configuration says which checkpoints are kept.
    """

    def __init__(
        self,
        repository: Repository,
        run: str,
        config: CheckpointConfig | None = None,
        *,
        parameters: Mapping[str, object] | None = None,
        experiment_bridge: ExperimentBridge | None = None,
    ) -> None:
        super().__init__()
        self._repository = repository
        self._run = run
        self._config = config or CheckpointConfig()
        if self._config.keep_last_n_checkpoints or self._config.keep_best_n_checkpoints:
            raise UsageError("which checkpoints are kept is up to ModelCheckpoint", hint="save_top_k")
        self._config = replace(self._config, auto_commit=True)
        self._parameters = parameters
        self._bridge = experiment_bridge
        self._recorder: RunRecorder | None = None
        self._lock = threading.RLock()  # AsyncCheckpointIO saves in a thread, and removes in another one

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Store a checkpoint, then write the small file.

        Raises:
            UsageError: a part of it is nothing that can be kept, or the path is not of this machine.
            CoralError: it cannot be stored.
        """
        place = _local(path)
        with self._lock:
            recorder = self._open()
            before = sole_reference(place)
            saved = recorder.save_now(snapshot_of(checkpoint, recorder.file, keeps_earlier=True))
            recorder.take_saved()
            if saved is not None:
                write_reference(place, Reference(self._run, saved.step, saved.oid))
            if before is not None and before.run == self._run:
                recorder.drop(before.commit)

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint back, exactly.

        Args:
            path: that of the small file, or what ``resume_path`` gave.
            map_location: a device that tensors are moved to; they stay on the CPU otherwise.
            weights_only: does not matter, as nothing is unpickled.

        Raises:
            UsageError: this is no checkpoint of a run.
        """
        name = os.fspath(path)
        reference = read_reference(name)
        commit = name.removeprefix(SCHEME) if name.startswith(SCHEME) else ""
        if not commit and reference is None:
            raise UsageError(
                f"'{name}' is no checkpoint of coral-git", hint="load it without the plugin CoralCheckpointIO"
            )
        workspace = self._repository.new_workspace()
        try:
            wanted = commit or (reference.commit if reference is not None else "")
            return read_checkpoint(workspace, wanted, self._repository.file, map_location)
        finally:
            workspace.close()

    def remove_checkpoint(self, path: Any) -> None:
        """Remove the small file, and let go of the checkpoint.

        Raises:
            UsageError: the strategy has made a folder there, which it does without asking any plugin.
        """
        place = _local(path)
        if os.path.isdir(place) and not os.path.islink(place):
            raise UsageError(f"'{place}' is a folder, which the strategy has written itself", hint=_GATHER)
        with self._lock:
            reference = sole_reference(place)
            fsops.remove(place)
            if reference is not None and reference.run == self._run:
                self._open().drop(reference.commit)

    def teardown(self) -> None:
        """End the run."""
        with self._lock:
            recorder, self._recorder = self._recorder, None
            if recorder is not None:
                recorder.finish()

    def _open(self) -> RunRecorder:
        if self._recorder is None:
            self._recorder = RunRecorder(
                self._repository, self._run, self._config, parameters=self._parameters, bridge=self._bridge
            )
        return self._recorder


class RunPaths(CheckpointIO):
    """Reads what is in a run out of it, and leaves all else to another plugin."""

    def __init__(self, other: Any, run: CoralCheckpointIO) -> None:
        self._other = other
        self._run = run

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Have the other one save."""
        self._other.save_checkpoint(checkpoint, path, storage_options)

    def load_checkpoint(self, path: Any, *args: Any, **options: Any) -> dict[str, Any]:
        """Read a checkpoint of a run, or have the other one load."""
        chosen = self._run if str(path).startswith(SCHEME) else self._other
        found: dict[str, Any] = chosen.load_checkpoint(path, *args, **options)
        return found

    def remove_checkpoint(self, path: Any) -> None:
        """Have the other one remove."""
        self._other.remove_checkpoint(path)

    def teardown(self) -> None:
        """Have the other one end."""
        self._other.teardown()


class _Capture(CheckpointIO):
    """Takes a checkpoint instead of writing it.

    It is there for one call of ``Trainer.save_checkpoint``, in which nothing is loaded or removed.
    """

    checkpoint: dict[str, Any] | None = None

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        self.checkpoint = checkpoint

    def load_checkpoint(self, path: Any, *_: Any, **__: Any) -> dict[str, Any]:
        raise NotImplementedError

    def remove_checkpoint(self, path: Any) -> None:
        raise NotImplementedError


def check_strategy(strategy: Any) -> None:
    """Refuse a strategy that writes checkpoints itself, or may do so.

    Those of Lightning that shard a model leave it to the plugin when they are told to gather the state.

    Raises:
        UsageError: it is one.
    """
    has_gathered = (
        getattr(strategy, "_state_dict_type", "") == "full"  # FSDPStrategy
        or getattr(strategy, "_save_distributed_checkpoint", True) is False  # ModelParallelStrategy
    )
    if type(strategy).save_checkpoint is not Strategy.save_checkpoint and not has_gathered:
        raise UsageError(f"{type(strategy).__name__} writes checkpoints of its own", hint=_GATHER)


def captured(trainer: Any) -> dict[str, Any] | None:
    """What Lightning would write; None in other processes than the main one."""
    strategy, capture = trainer.strategy, _Capture()
    before = strategy.checkpoint_io
    strategy.checkpoint_io = capture
    try:
        trainer.save_checkpoint("coral", weights_only=False)
    finally:
        strategy.checkpoint_io = before
    return capture.checkpoint


def _local(path: Any) -> str:
    place = str(os.fspath(path))
    if "://" in place or place.startswith(SCHEME):
        raise UsageError(f"'{place}' is no path of this machine")
    return place
