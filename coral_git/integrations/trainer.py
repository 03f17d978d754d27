"""Checkpoints of a training with torch as a run, saved while the training goes on."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Mapping
from typing import Any, Self

import torch

from coral_git.api.repository import Repository
from coral_git.errors import UsageError
from coral_git.git.chains import tip
from coral_git.history.checkpoints import Checkpoint, list_checkpoints, read_checkpoint
from coral_git.history.goals import Goal
from coral_git.history.runs import RUNS, Run, read_run
from coral_git.integrations.background import Background, Job
from coral_git.integrations.checkpoint_config import CheckpointConfig, TrainingState
from coral_git.integrations.models import copied, load_stored, source_of, state_of, stored_torch
from coral_git.integrations.rng import random_state, set_random_state
from coral_git.integrations.state import flatten, unflatten
from coral_git.pipeline.workspace import Workspace
from coral_git.repository import checkpointing, experiments
from coral_git.repository.spec import stored_manifest

STATE_FILE = "training_state.safetensors"
EVENTS = ("step", "epoch_end", "checkpoint_saved", "checkpoint_loaded", "best_metric")


class CoralTrainer:
    """Keeps checkpoints of a training as a run, off the branches.

    The training waits only for the copy of the tensors off the device; they are stored in the background, one
    checkpoint at a time. Work tree, index and HEAD are never touched. What is there after a crash is whole.

    Args:
        model: what is trained.
        repository: where checkpoints are kept.
        experiment_name: the name of the run; one of this name that has not ended is continued.
        checkpoint_config: when and what to save.
        parameters: what is tried, for ``git coral experiment``.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        repository: Repository,
        experiment_name: str,
        checkpoint_config: CheckpointConfig | None = None,
        *,
        parameters: Mapping[str, object] | None = None,
    ) -> None:
        self.model = model
        self.repository = repository
        self.experiment_name = experiment_name
        self.config = checkpoint_config or CheckpointConfig()
        self.state = TrainingState()
        self.training_stopped = False
        self._parts: dict[str, Any] = {}
        self._callbacks: dict[str, list[Callable[..., None]]] = {event: [] for event in EVENTS}
        self._background = Background(strict=self.config.strict)
        self._workspace = Workspace.open(repository.path)
        weakref.finalize(self, self._workspace.close)
        self._epochs: dict[int, int] = {}
        if not tip(self._workspace.git, RUNS + experiment_name):
            tried = {name: str(value) for name, value in (parameters or {}).items()}
            experiments.start(self._workspace, experiment_name, parameters=tried)

    @property
    def run(self) -> Run:
        """The run as git has it."""
        return read_run(self._workspace.git, self.experiment_name)

    def set_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        """Save and restore the state of an optimizer, too."""
        self._parts["optimizer"] = optimizer

    def set_scheduler(self, scheduler: Any) -> None:
        """Save and restore the state of a scheduler, too."""
        self._parts["scheduler"] = scheduler

    def set_scaler(self, scaler: Any) -> None:
        """Save and restore the state of a gradient scaler, too."""
        self._parts["scaler"] = scaler

    def add_callback(self, event: str, callback: Callable[..., None]) -> None:
        """Call something at an event, one of ``EVENTS``.

        It gets the trainer, and what the event is about: nothing, the epoch, the ``Job`` of a checkpoint, its
        ``Checkpoint``, or the value.

        Raises:
            UsageError: there is no such event.
        """
        if event not in self._callbacks:
            raise UsageError(f"there is no event {event!a}", hint=f"one of {', '.join(EVENTS)}")
        self._callbacks[event].append(callback)

    def update_metrics(self, **metrics: float) -> None:
        """Say what was measured, for the next checkpoint."""
        self.state.metrics.update({name: float(value) for name, value in metrics.items()})

    def step(self, loss: float, **metrics: float) -> None:
        """Tell that a step of the optimizer was made; saves a checkpoint where the configuration says so."""
        self.state.global_step += 1
        self.state.loss = float(loss)
        self.update_metrics(loss=float(loss), **metrics)
        self._call("step")
        every = self.config.save_every_n_steps
        if every and self.state.global_step % every == 0:
            self.save_checkpoint()

    def epoch_end(self, epoch: int | None = None, **metrics: float) -> None:
        """Tell that an epoch has ended; saves a checkpoint where the configuration says so."""
        self.state.epoch = self.state.epoch + 1 if epoch is None else epoch + 1
        self.update_metrics(**metrics)
        is_better = self._judge()
        every = self.config.save_every_n_epochs
        if is_better or (every and self.state.epoch % every == 0):
            self.save_checkpoint()
        patience = self.config.early_stopping_patience
        self.training_stopped = patience is not None and self.state.epochs_without_better >= patience
        self._call("epoch_end", self.state.epoch)

    def save_checkpoint(self) -> Job[Checkpoint]:
        """Copy everything off the device and save it in the background.

        The job tells when it is done, and its ``result()`` is the checkpoint. A checkpoint before that is
        still being saved is waited for.
        """
        files = {
            self.repository.file: copied(state_of(self.model)),
            STATE_FILE: copied(flatten(self._collect())),
        }
        step, metrics = self.state.global_step, dict(self.state.metrics)
        known = {"epoch": self.state.epoch, "step": step, **metrics}
        subject = self.config.commit_message_template.format_map(_Blank(known))
        self._epochs[step] = self.state.epoch

        def work() -> Checkpoint:
            sources = {path: source_of(tensors) for path, tensors in files.items()}
            files.clear()
            saved = checkpointing.save_checkpoint(
                self._workspace, self.experiment_name, step, sources, metrics, subject
            )
            self._drop()
            return saved

        job = self._background.submit(work)
        self._call("checkpoint_saved", job)
        return job

    def wait(self) -> None:
        """Wait until the last checkpoint is saved."""
        self._background.wait()

    def load_checkpoint(
        self,
        commit_hash: str | None = None,
        *,
        step: int | None = None,
        load_best: bool = False,
        load_optimizer: bool = True,
        load_scheduler: bool = True,
    ) -> bool:
        """Go on from a checkpoint: the last one, the best one, that of a step, or of a commit.

        Returns:
            Whether there was one.

        Raises:
            UsageError: it does not fit the model.
        """
        self.wait()
        chosen = self._choose(commit_hash, step, load_best)
        if chosen is None:
            return False
        manifest = stored_manifest(self._workspace, f"{chosen.oid}:{self.repository.file}")
        load_stored(self.model, self._workspace, manifest, strict=True)
        stored = stored_manifest(self._workspace, f"{chosen.oid}:{STATE_FILE}")
        self._restore(unflatten(dict(stored_torch(self._workspace, stored))), load_optimizer, load_scheduler)
        self._call("checkpoint_loaded", chosen)
        return True

    def list_checkpoints(self) -> list[dict[str, Any]]:
        """The checkpoints that are kept: step, commit, metrics, message."""
        self.wait()
        found = []
        for one in list_checkpoints(self._workspace.git, self.experiment_name):
            commit = read_checkpoint(self._workspace.git, one)
            facts = dict(commit.facts.metrics)
            found.append(
                {"step": one.step, "commit_hash": one.oid, "metrics": facts, "message": commit.subject}
            )
        return found

    def get_training_summary(self) -> dict[str, Any]:
        """How far the training is, and what was saved."""
        return {
            "experiment_name": self.experiment_name,
            "epoch": self.state.epoch,
            "global_step": self.state.global_step,
            "loss": self.state.loss,
            "metrics": dict(self.state.metrics),
            "best_metric": self.state.best,
            "checkpoints": len(self.list_checkpoints()),
        }

    def finish(self, status: str = "finished") -> None:
        """Wait for the last checkpoint and end the run."""
        self.wait()
        experiments.end(self._workspace, self.run, status, {})
        self._workspace.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """End the run: as failed when an error comes through."""
        if self.run.status == "running":
            self.finish("finished" if kind is None else "failed")

    def _judge(self) -> bool:
        """Whether the metric that decides is better than ever."""
        name = self.config.save_on_best_metric
        value = self.state.metrics.get(name) if name else None
        if value is None:
            return False
        sign = 1.0 if self.config.minimize_metric else -1.0
        best = self.state.best
        if best is None or sign * (best - value) > self.config.early_stopping_threshold:
            self.state.best, self.state.epochs_without_better = value, 0
            self._call("best_metric", value)
            return True
        self.state.epochs_without_better += 1
        return False

    def _collect(self) -> dict[str, Any]:
        """All but the model."""
        wanted = {
            "optimizer": self.config.save_optimizer_state,
            "scheduler": self.config.save_scheduler_state,
        }
        parts = {name: part.state_dict() for name, part in self._parts.items() if wanted.get(name, True)}
        return {
            "training": dict(vars(self.state)),
            "parts": parts,
            "random": random_state() if self.config.save_random_state else None,
        }

    def _restore(self, found: dict[str, Any], load_optimizer: bool, load_scheduler: bool) -> None:
        wanted = {"optimizer": load_optimizer, "scheduler": load_scheduler}
        for name, part in self._parts.items():
            if name in found["parts"] and wanted.get(name, True):
                part.load_state_dict(found["parts"][name])
        self.state = TrainingState(**found["training"])
        if found["random"] is not None:
            set_random_state(found["random"])

    def _choose(self, commit_hash: str | None, step: int | None, load_best: bool) -> Checkpoint | None:
        found = list_checkpoints(self._workspace.git, self.experiment_name)
        if commit_hash is not None:
            found = [one for one in found if one.oid.startswith(commit_hash)]
        if step is not None:
            found = [one for one in found if one.step == step]
        if load_best:
            return self._ranked(found)[0] if found else None
        return found[-1] if found else None

    def _ranked(self, found: list[Checkpoint]) -> list[Checkpoint]:
        """Checkpoints, the best first."""
        goal = Goal(self.config.save_on_best_metric or "loss", self.config.minimize_metric)
        metrics = {one: read_checkpoint(self._workspace.git, one).facts.metrics for one in found}
        return sorted(found, key=lambda one: goal.rank(metrics[one]))

    def _drop(self) -> None:
        """Let go of checkpoints that are not to be kept."""
        last, best = self.config.keep_last_n_checkpoints, self.config.keep_best_n_checkpoints
        if last is None and best is None:
            return
        found = list_checkpoints(self._workspace.git, self.experiment_name)
        kept = set(found[-last:] if last else found[-1:])
        kept.update(self._ranked(found)[: best or 0])
        every = self.config.keep_checkpoint_every_n_epochs
        if every:
            kept.update(one for one in found if self._epochs.get(one.step, 1) % every == 0)
        checkpointing.drop_checkpoints(self._workspace, [one for one in found if one not in kept])

    def _call(self, event: str, *about: object) -> None:
        for callback in self._callbacks[event]:
            try:
                callback(self, *about)
            except Exception as error:
                if self.config.strict:
                    raise
                warnings.warn(f"a callback at {event} failed: {error}", RuntimeWarning, stacklevel=2)


class _Blank(dict[str, Any]):
    """What a message names and nobody knows stays as it is."""

    def __missing__(self, key: str) -> str:
        return f"{{{key}}}"
