"""Checkpoints of a training with torch as a run, saved while the training goes on."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Self

import torch

from coral_git.api.repository import Repository
from coral_git.errors import UsageError
from coral_git.history.checkpoints import Checkpoint
from coral_git.history.facts import metric_name
from coral_git.history.runs import Run
from coral_git.integrations.background import Job
from coral_git.integrations.bridge import ExperimentBridge
from coral_git.integrations.checkpoint_config import STATE_FILE, CheckpointConfig, TrainingState
from coral_git.integrations.models import as_torch, check_tensors, copied, load_tensors, state_of, unwrapped
from coral_git.integrations.ranks import gather_states, rank, wait_for_all, world_size
from coral_git.integrations.recorder import RunRecorder, Snapshot
from coral_git.integrations.rng import random_state, set_random_state
from coral_git.integrations.sources import source_of
from coral_git.integrations.state import flatten, read_state
from coral_git.manifest.escape import printable

EVENTS = ("step_end", "epoch_end", "checkpoint_save", "checkpoint_load", "best_metric")


class CoralTrainer:
    """Keeps checkpoints of a training as a run, off the branches.

    The training waits only for the copy of the tensors off the device; they are stored in the background, one
    checkpoint at a time. Work tree, index and HEAD are never touched. What is there after a crash is whole.

    Where several processes train the same model (DDP), each of them has a trainer and calls the same methods
    of it: the first one writes, the random generators of all are saved. A model that is split over processes
    (FSDP) is saved by ``coral_git.integrations.dcp``.

    Args:
        model: what is trained.
        repository: where checkpoints are kept, or its path.
        experiment_name: the name of the run; one of this name is continued.
        checkpoint_config: when and what to save.
        parameters: what is tried, for ``git coral experiment``.
        experiment_bridge: another tracker, which is told of checkpoints.

    Example:
        >>> import tempfile
        >>> repo = Repository(tempfile.mkdtemp(), init=True)
        >>> model = torch.nn.Linear(2, 1)
        >>> with CoralTrainer(model, repo, "fit", CheckpointConfig(save_every_n_steps=1)) as trainer:
        ...     for loss in (0.5, 0.25):
        ...         trainer.step(loss)
        ...     [one["step"] for one in trainer.list_checkpoints()]
        [1, 2]
    """

    def __init__(
        self,
        model: torch.nn.Module,
        repository: Repository | str | os.PathLike[str],
        experiment_name: str,
        checkpoint_config: CheckpointConfig | None = None,
        *,
        parameters: Mapping[str, object] | None = None,
        experiment_bridge: ExperimentBridge | None = None,
    ) -> None:
        self.model = model
        self.repository = repository if isinstance(repository, Repository) else Repository(repository)
        self.experiment_name = experiment_name
        self.config = checkpoint_config or CheckpointConfig()
        self.state = TrainingState()
        self.training_stopped = False
        self._asked_to_save = False
        self._parts: dict[str, Any] = {}
        self._callbacks: dict[str, list[Callable[..., None]]] = {event: [] for event in EVENTS}
        self._recorder = RunRecorder(
            self.repository,
            experiment_name,
            self.config,
            parameters=parameters,
            bridge=experiment_bridge,
            writes=rank() == 0,
        )

    @property
    def run(self) -> Run:
        """The run as git has it."""
        return self._recorder.run

    @property
    def best_commit(self) -> str | None:
        """The id of the commit of the best checkpoint that is kept; None where there is none."""
        self.wait()
        best = self._recorder.choose(best=True)
        return None if best is None else best.commit_hash

    def set_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        """Save and restore the state of an optimizer, too."""
        self._parts["optimizer"] = optimizer

    def set_scheduler(self, scheduler: Any) -> None:
        """Save and restore the state of a scheduler, too; stepping it stays with whoever trains."""
        self._parts["scheduler"] = scheduler

    def set_scaler(self, scaler: Any) -> None:
        """Save and restore the state of a gradient scaler, too."""
        self._parts["scaler"] = scaler

    def add_state(self, name: str, part: Any) -> None:
        """Save and restore something else that has ``state_dict`` and ``load_state_dict``, a data loader say.

        Raises:
            UsageError: there is something of that name, or it has no such methods.
        """
        if name in self._parts:
            raise UsageError(f"there is a state {name!a} already")
        if not (hasattr(part, "state_dict") and hasattr(part, "load_state_dict")):
            raise UsageError(f"{type(part).__name__} has no state_dict and load_state_dict")
        self._parts[name] = part

    def add_callback(self, event: str, callback: Callable[..., None]) -> None:
        """Call something at an event, one of ``EVENTS``, in the thread of the training.

        It gets the trainer, and what the event is about: the id of the commit of a checkpoint that is stored
        now or was loaded, or the best value of the metric; nothing at the end of a step or an epoch.

        Raises:
            UsageError: there is no such event.
        """
        if event not in self._callbacks:
            raise UsageError(f"there is no event {event!a}", hint=f"one of {', '.join(EVENTS)}")
        self._callbacks[event].append(callback)

    def register_checkpoint_callback(self, callback: Callable[[TrainingState, str], None]) -> None:
        """When a checkpoint is stored, call something with how far the training is and the commit's id."""
        self.add_callback(
            "checkpoint_save", lambda trainer, commit_hash: callback(trainer.state, commit_hash)
        )

    def update_metrics(self, **metrics: float) -> None:
        """Say what was measured, for the next checkpoint.

        Raises:
            UsageError: no metric can have such a name.
        """
        self.state.metrics.update({metric_name(name): float(value) for name, value in metrics.items()})

    def step(self, loss: float | None = None, **metrics: float) -> None:
        """Tell that a step of the optimizer was made; saves a checkpoint where the configuration says so."""
        self.state.global_step += 1
        if loss is not None:
            self.state.loss = float(loss)
            self.update_metrics(loss=float(loss))
        self.update_metrics(**metrics)
        self._call("step_end")
        every = self.config.save_every_n_steps
        if every and self.state.global_step % every == 0:
            self.save_checkpoint()
        self._tell_saved()

    def epoch_end(self, epoch: int | None = None, **metrics: float) -> None:
        """Tell that an epoch has ended; saves a checkpoint where the configuration says so.

        Args:
            epoch: its number, from 0; the one after the last by default.
            metrics: what was measured.
        """
        self.state.epoch = self.state.epoch + 1 if epoch is None else epoch + 1
        self.update_metrics(**metrics)
        is_better = self._judge()
        self._call("epoch_end")
        every = self.config.save_every_n_epochs
        if is_better or (every and self.state.epoch % every == 0):
            self._save(is_better)
        patience = self.config.early_stopping_patience
        self.training_stopped = patience is not None and self.state.epochs_without_better >= patience
        self._tell_saved()

    def save_checkpoint(self) -> Job[Checkpoint | None]:
        """Copy everything off the device and save it in the background.

        The job tells when it is done, and its ``result()`` is the checkpoint. A checkpoint before that is
        still being saved is waited for.

        Raises:
            UsageError: the state of a part is nothing that can be kept (a warning, unless ``strict``).
        """
        return self._save(is_best=False)

    def wait(self) -> None:
        """Wait until the last checkpoint is saved."""
        self._recorder.wait()
        self._tell_saved()

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
            Whether there was one; False where the run has none yet, or none that is the best.

        Raises:
            UsageError: the run has no checkpoint of that step or commit; or it does not fit the model, the
                optimizer, or another part, and the model is what it was then.
        """
        self.wait()
        wait_for_all()
        chosen = self._recorder.choose(commit_hash, step=step, best=load_best)
        if chosen is None and (commit_hash is not None or step is not None):
            raise UsageError(
                f"the run '{printable(self.experiment_name)}' has no such checkpoint",
                hint="see list_checkpoints(); 'git coral experiment fetch' gets what others saved",
            )
        if chosen is None:
            return False
        tensors = list(self._recorder.tensors(chosen))
        check_tensors(self.model, tensors, strict=True)
        state = read_state(self._recorder.tensors(chosen, STATE_FILE), as_torch)
        self._restore(state, load_optimizer, load_scheduler)
        load_tensors(self.model, tensors, strict=True)
        self._call("checkpoint_load", chosen.commit_hash)
        return True

    def list_checkpoints(self) -> list[dict[str, Any]]:
        """The checkpoints that are kept, as they were saved.

        Each with ``step``, ``epoch``, ``commit_hash``, ``metrics``, ``message``, ``labels`` and ``is_best``.
        """
        self.wait()
        found = self._recorder.checkpoints()
        best = self._recorder.best_of(found)
        return [{**one._asdict(), "is_best": one == best} for one in found]

    def get_training_summary(self) -> dict[str, Any]:
        """How far the training is, how large the model is, and what was saved."""
        parameters = list(unwrapped(self.model).parameters())
        kept = self.list_checkpoints()
        return {
            "experiment_name": self.experiment_name,
            "model_name": type(unwrapped(self.model)).__name__,
            "num_parameters": sum(one.numel() for one in parameters),
            "num_trainable_parameters": sum(one.numel() for one in parameters if one.requires_grad),
            "epoch": self.state.epoch,
            "global_step": self.state.global_step,
            "loss": self.state.loss,
            "learning_rate": self._learning_rate(),
            "metrics": dict(self.state.metrics),
            "best_metric": self.state.best,
            "best_checkpoint": next((one["commit_hash"] for one in kept if one["is_best"]), None),
            "checkpoints": len(kept),
        }

    def finish(self, status: str = "finished") -> None:
        """Wait for the last checkpoint and end the run."""
        self.wait()
        if self.state.global_step and not self._asked_to_save:
            self._warn_of_nothing()
        if rank() == 0:
            self._recorder.finish(status)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """End the run: as failed when an error comes through."""
        self.finish("finished" if kind is None else "failed")

    def _judge(self) -> bool:
        """Whether the metric that decides is better than ever; of several processes the first one says."""
        name = self.config.save_on_best_metric
        if not name:
            return False
        value = gather_states(self.state.metrics.get(name))[0]
        if value is None:
            return False
        sign = 1.0 if self.config.minimize_metric else -1.0
        best = self.state.best
        if value == value and (best is None or sign * (best - value) > self.config.early_stopping_threshold):
            self.state.best, self.state.epochs_without_better = value, 0
            self._call("best_metric", value)
            return True
        self.state.epochs_without_better += 1
        return False

    def _warn_of_nothing(self) -> None:
        """Say that a whole training was saved nowhere: it is a slip, most often in the name of a metric."""
        metric = self.config.save_on_best_metric
        why = "the configuration does not say when"
        if metric and metric not in self.state.metrics:
            why = f"the metric {metric!a} was never measured, but {', '.join(self.state.metrics)}"
        said = f"no checkpoint of the run {self.experiment_name!a} was saved: {why}"
        warnings.warn(said, RuntimeWarning, stacklevel=3)

    def _save(self, is_best: bool) -> Job[Checkpoint | None]:
        self._asked_to_save = True
        self.state.learning_rate = self._learning_rate()
        self._recorder.wait()  # before the copy is made, so that there is one of them in memory, not two
        try:
            state = self._collect()
            if rank() != 0:
                return Job.done(None)
            files = {self.repository.file: copied(state_of(self.model)), STATE_FILE: copied(flatten(state))}
        except Exception as error:  # whatever a model or an optimizer holds: the training goes on
            if self.config.strict:
                raise
            warnings.warn(f"a checkpoint was not saved: {error}", RuntimeWarning, stacklevel=3)
            return Job.failed(error)
        snapshot = Snapshot(
            self.state.global_step,
            self.state.epoch,
            dict(self.state.metrics),
            lambda: {path: source_of(tensors) for path, tensors in files.items()},
            is_best=is_best,
        )
        job = self._recorder.save(snapshot)
        self._tell_saved()
        return job

    def _collect(self) -> dict[str, Any]:
        """All but the model."""
        wanted = {
            "optimizer": self.config.save_optimizer_state,
            "scheduler": self.config.save_scheduler_state,
        }
        parts = {name: part.state_dict() for name, part in self._parts.items() if wanted.get(name, True)}
        states = gather_states(random_state()) if self.config.save_random_state else [None]
        return {
            "training": dict(vars(self.state)),
            "parts": parts,
            "random": states[0],
            "random_of_others": states[1:],
        }

    def _restore(self, found: dict[str, Any], load_optimizer: bool, load_scheduler: bool) -> None:
        wanted = {"optimizer": load_optimizer, "scheduler": load_scheduler}
        for name, part in self._parts.items():
            if name in found["parts"] and wanted.get(name, True):
                try:
                    _check_kind(part, found["parts"][name])
                    part.load_state_dict(found["parts"][name])
                except (ValueError, KeyError, TypeError, RuntimeError) as error:
                    raise UsageError(f"the state of '{name}' does not fit: {error}") from error
        ignored = sorted(name for name in set(found["parts"]) - set(self._parts) if wanted.get(name, True))
        if ignored:
            said = f"the checkpoint has the state of {', '.join(ignored)}; nothing was set that takes it"
            warnings.warn(said, RuntimeWarning, stacklevel=3)
        self.state = TrainingState.from_dict(found["training"])
        states = [found["random"], *found.get("random_of_others", ())]
        if len(states) != world_size() and states[0] is not None:
            warnings.warn(
                f"the checkpoint is of {len(states)} processes, these are {world_size()}: "
                "random generators cannot go on exactly",
                RuntimeWarning,
                stacklevel=3,
            )
        if rank() < len(states) and states[rank()] is not None:
            set_random_state(states[rank()])

    def _learning_rate(self) -> float:
        optimizer = self._parts.get("optimizer")
        return float(optimizer.param_groups[0]["lr"]) if optimizer is not None else float("nan")

    def _tell_saved(self) -> None:
        for one in self._recorder.take_saved():
            self._call("checkpoint_save", one.oid)

    def _call(self, event: str, *about: object) -> None:
        for callback in self._callbacks[event]:
            try:
                callback(self, *about)
            except Exception as error:
                if self.config.strict:
                    raise
                warnings.warn(f"a callback at {event} failed: {error}", RuntimeWarning, stacklevel=2)


def _check_kind(part: Any, state: Mapping[str, Any]) -> None:
    """Refuse the state of another kind of optimizer, which torch takes and stumbles over at the next step.

    Raises:
        ValueError: each of them has settings that the other one does not know.
    """
    own, saved = getattr(part, "param_groups", None), state.get("param_groups")
    if own and saved:
        known, given = set(own[0]) - {"initial_lr"}, set(saved[0]) - {"initial_lr"}
        if known - given and given - known:
            raise ValueError(
                f"it has {', '.join(sorted(given - known))}, not {', '.join(sorted(known - given))}"
            )
