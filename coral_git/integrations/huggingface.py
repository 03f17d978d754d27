"""Checkpoints of ``transformers.Trainer`` as a run: its folders, byte for byte, stored while it trains on."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from coral_git.api.repository import Repository
from coral_git.errors import CoralError, UsageError, from_os_error
from coral_git.history.goals import Goal
from coral_git.integrations.bridge import ExperimentBridge
from coral_git.integrations.checkpoint_config import CheckpointConfig
from coral_git.integrations.kept import choose_saved, list_saved
from coral_git.integrations.measured import numbers_of
from coral_git.integrations.missing import missing
from coral_git.integrations.recorder import RunRecorder, Snapshot
from coral_git.pipeline.workspace import Workspace
from coral_git.repository.kept_folder import OpenedFolder, restore_folder, verify_folder

try:
    from transformers import TrainerCallback
except ImportError as error:
    raise missing(error, "huggingface", "transformers") from error

FOLDER = "checkpoint"
"""The folder of the commit that has the files, so that they meet no others of the repository."""

_STATE = "trainer_state.json"
_SPEED = ("eval_runtime", "eval_samples_per_second", "eval_steps_per_second", "eval_model_preparation_time")


class CoralTrainerCallback(TrainerCallback):
    """Keeps the checkpoints of a ``transformers.Trainer`` as a run, off the branches.

    When the trainer has written a folder ``checkpoint-N``, all its files are opened and stored in the
    background as they are; the trainer may delete the folder meanwhile (``save_total_limit``). No pickle is
    read. When something is saved is up to the arguments of the trainer; what is kept of it is up to
    ``config``. Give it to the trainer of every process; the main one stores.

    Args:
        repository: where checkpoints are kept.
        run: the name of the run; one of this name is continued.
        config: what is kept. What makes a checkpoint the best is ``save_on_best_metric``, or else the
            ``metric_for_best_model`` of the trainer.
        save_on_train_end: whether the last step is saved, whatever ``save_strategy`` says.
        keep_local: whether the folders stay; else each is removed when it is stored, and was read back and
            compared with its digests.
        parameters: what is tried, for ``git coral experiment``.
        experiment_bridge: another tracker, which is told of checkpoints.
    """

    def __init__(
        self,
        repository: Repository,
        run: str,
        config: CheckpointConfig | None = None,
        *,
        save_on_train_end: bool = True,
        keep_local: bool = True,
        parameters: Mapping[str, object] | None = None,
        experiment_bridge: ExperimentBridge | None = None,
    ) -> None:
        self.repository = repository
        self.run = run
        self.config = config or CheckpointConfig()
        self._saves_last = save_on_train_end
        self._keeps_local = keep_local
        self._parameters = parameters
        self._bridge = experiment_bridge
        self._recorder: RunRecorder | None = None
        self._removable: list[OpenedFolder] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Begin the run, or go on with it.

        Raises:
            UsageError: folders are to be removed that the trainer needs in the end.
        """
        if not self._keeps_local and (args.load_best_model_at_end or args.push_to_hub):
            needed = "load_best_model_at_end" if args.load_best_model_at_end else "push_to_hub"
            raise UsageError(f"keep_local=False removes the folders that {needed} needs")
        if not state.is_world_process_zero:
            return
        if self._recorder is not None:  # the training before has failed
            self._recorder.close()
        config = self.config
        if config.save_on_best_metric is None and args.metric_for_best_model:
            name = args.metric_for_best_model
            name = name if name.startswith("eval_") else f"eval_{name}"
            config = replace(config, save_on_best_metric=name, minimize_metric=not args.greater_is_better)
        self._recorder = RunRecorder(
            self.repository, self.run, config, parameters=self._parameters, bridge=self._bridge
        )

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Have the last step saved."""
        self._remove_stored()
        is_saved = args.save_strategy in ("steps", "epoch")  # then the trainer does it itself
        if self._saves_last and state.global_step >= state.max_steps and not is_saved:
            control.should_save = True

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Have the last step saved when somebody stops the training early."""
        if self._saves_last and control.should_training_stop:
            control.should_save = True

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Store the folder that was written just now.

        Raises:
            CoralError: it cannot be stored (a warning, unless ``strict``).
        """
        _wait_for_others()
        if self._recorder is None:
            return
        self._recorder.wait()
        self._remove_stored()
        try:
            folder = OpenedFolder(os.path.join(args.output_dir, f"checkpoint-{state.global_step}"))
        except CoralError as error:
            if self.config.strict:
                raise
            warnings.warn(f"a checkpoint was not saved: {error}", RuntimeWarning, stacklevel=2)
            return
        self._recorder.save(self._snapshot(self._recorder, folder, state))
        self._recorder.take_saved()

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Wait for the last checkpoint and end the run."""
        if self._recorder is not None:
            recorder, self._recorder = self._recorder, None
            recorder.finish()
        self._remove_stored()

    def wait(self) -> None:
        """Wait until the last checkpoint is stored."""
        if self._recorder is not None:
            self._recorder.wait()
            self._recorder.take_saved()

    def _snapshot(self, recorder: RunRecorder, folder: OpenedFolder, state: Any) -> Snapshot:
        metrics = _last_metrics(state.log_history)

        def check(workspace: Workspace, commit: str) -> None:
            verify_folder(workspace, commit, FOLDER, {*folder.stored, *folder.plain})
            self._removable.append(folder)

        return Snapshot(
            state.global_step,
            int(state.epoch or 0),
            metrics,
            lambda: {f"{FOLDER}/{name}": source for name, source in folder.stored.items()},
            {f"{FOLDER}/{name}": content for name, content in folder.plain.items()},
            is_best=recorder.is_better(metrics),
            folder=FOLDER,
            on_stored=None if self._keeps_local else check,
            close=folder.close,
        )

    def _remove_stored(self) -> None:
        """Remove folders in the thread of the trainer, which looks at them, too.

        Raises:
            CoralError: the file system refused (a warning, unless ``strict``).
        """
        while self._removable:
            folder = self._removable.pop()
            try:
                folder.remove()
            except OSError as error:
                refused = from_os_error(error, f"remove '{folder.folder}'")
                if self.config.strict:
                    raise refused from error
                warnings.warn(str(refused), RuntimeWarning, stacklevel=3)


def restore_checkpoint(
    repository: Repository,
    run: str,
    output_dir: str | os.PathLike[str],
    *,
    step: int | None = None,
    best: bool = False,
    metric: str | None = None,
) -> str:
    """Write a checkpoint back as ``output_dir/checkpoint-N``, byte for byte; gives the path of the folder.

    What is there already is left if it is the same. The last file to be written is ``trainer_state.json``.

    Args:
        repository: where it is kept.
        run: the name of the run.
        output_dir: that of the trainer.
        step: its number; that of the last one by default.
        best: whether the best one is meant.
        metric: what makes it the best: the name of a metric, or ``min:NAME``, ``max:NAME``; by default it was
            the best one when it was saved.

    Raises:
        UsageError: there is no such checkpoint, or a file is there that differs.
        ObjectMissingError: an object cannot be had.

    Example:
        >>> trainer.train(resume_from_checkpoint=restore_checkpoint(repo, "fit", "out"))  # doctest: +SKIP
    """
    workspace = repository.new_workspace()
    try:
        goal = Goal.parse(metric) if metric else None
        chosen = choose_saved(list_saved(workspace, run), step=step, best=best or bool(metric), goal=goal)
        if chosen is None:
            raise UsageError(
                f"the run '{run}' has no such checkpoint", hint=f"git coral experiment show {run}"
            )
        return restore_folder(
            workspace,
            chosen.commit_hash,
            FOLDER,
            os.fspath(output_dir),
            f"checkpoint-{chosen.step}",
            last=_STATE,
        )
    finally:
        workspace.close()


def _last_metrics(history: Any) -> dict[str, float]:
    """The loss and what was evaluated last."""
    found: dict[str, float] = {}
    for entry in history:
        found.update(entry)
    wanted = (name for name in found if name == "loss" or (name.startswith("eval_") and name not in _SPEED))
    return numbers_of({name: found[name] for name in wanted})


def _wait_for_others() -> None:
    """Wait until every process has written its files of the checkpoint."""
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.barrier()
