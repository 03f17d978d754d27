"""Checkpoints of a plain training loop, with few words."""

from __future__ import annotations

from typing import Any, Self

import torch

from coral_git.api.repository import Repository
from coral_git.integrations.bridge import ExperimentBridge
from coral_git.integrations.checkpoint_config import CheckpointConfig
from coral_git.integrations.trainer import CoralTrainer


class Checkpointer:
    """Keeps checkpoints of a loop as a run: a ``CoralTrainer`` with everything said at once.

    Args:
        model: what is trained.
        repo: where checkpoints are kept.
        experiment: the name of the run; one of this name is continued.
        every_n_epochs: save after so many epochs; 0 for never.
        every_n_steps: save after so many steps; 0 for never.
        on_best: save at the end of an epoch in which this metric is better than ever.
        minimize: whether less of that metric is better.
        keep_last: how many of the latest are kept.
        keep_best: how many of the best are kept besides. With 0 for both all are kept.
        resume: whether to go on from the last checkpoint, where there is one.
        tracker: another tracker, which is told of checkpoints.
        optimizer: is saved and restored, too.
        scheduler: is saved and restored, too.

    Attributes:
        trainer: the trainer that does it.
        resumed: whether a checkpoint was gone on from.

    Example:
        >>> import tempfile
        >>> repo = Repository(tempfile.mkdtemp(), init=True)
        >>> model = torch.nn.Linear(2, 1)
        >>> with Checkpointer(model, repo, "fit", every_n_epochs=1) as checkpoints:
        ...     checkpoints.step(loss=0.5)
        ...     checkpoints.end_epoch(val_loss=0.25)
        >>> with Checkpointer(model, repo, "fit", resume=True) as checkpoints:
        ...     checkpoints.epoch, checkpoints.global_step
        (1, 1)
    """

    def __init__(
        self,
        model: torch.nn.Module,
        repo: Repository,
        experiment: str,
        *,
        every_n_epochs: int = 0,
        every_n_steps: int = 0,
        on_best: str | None = None,
        minimize: bool = True,
        keep_last: int = 5,
        keep_best: int = 3,
        resume: bool = False,
        tracker: ExperimentBridge | None = None,
        optimizer: torch.optim.Optimizer | None = None,
        scheduler: Any = None,
    ) -> None:
        config = CheckpointConfig(
            save_every_n_epochs=every_n_epochs or None,
            save_every_n_steps=every_n_steps or None,
            save_on_best_metric=on_best,
            minimize_metric=minimize,
            keep_last_n_checkpoints=keep_last or None,
            keep_best_n_checkpoints=keep_best or None,
        )
        self.trainer = CoralTrainer(model, repo, experiment, config, experiment_bridge=tracker)
        if optimizer is not None:
            self.trainer.set_optimizer(optimizer)
        if scheduler is not None:
            self.trainer.set_scheduler(scheduler)
        self.resumed = resume and self.trainer.load_checkpoint()

    @property
    def epoch(self) -> int:
        """Epochs that have ended, which is the number of the one to train now, from 0."""
        return self.trainer.state.epoch

    @property
    def global_step(self) -> int:
        """Steps that were made."""
        return self.trainer.state.global_step

    @property
    def best_commit(self) -> str | None:
        """The id of the commit of the best checkpoint that is kept; None before there is one."""
        return self.trainer.best_commit

    def log(self, **metrics: float) -> None:
        """Say what was measured, for the next checkpoint."""
        self.trainer.update_metrics(**metrics)

    def step(self, loss: float | None = None, **metrics: float) -> None:
        """Tell that a step of the optimizer was made."""
        self.trainer.step(loss, **metrics)

    def end_epoch(self, **metrics: float) -> None:
        """Tell that an epoch has ended."""
        self.trainer.epoch_end(None, **metrics)

    def save(self) -> str | None:
        """Save now and wait for it; gives the id of the commit, None (after a warning) when it failed."""
        job = self.trainer.save_checkpoint()
        self.trainer.wait()
        saved = job.result() if job.error is None else None
        return None if saved is None else saved.oid

    def load(self, commit: str | None = None, *, step: int | None = None, best: bool = False) -> bool:
        """Go on from a checkpoint: the last one, the best one, that of a step, or of a commit.

        Returns:
            Whether there was one; False where the run has none yet, or none that is the best.

        Raises:
            UsageError: the run has no checkpoint of that step or commit, or it does not fit.
        """
        return self.trainer.load_checkpoint(commit, step=step, load_best=best)

    def finish(self, status: str = "finished") -> None:
        """Wait for the last checkpoint and end the run."""
        self.trainer.finish(status)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *about: object) -> None:
        """End the run: as failed when an error comes through."""
        self.trainer.__exit__(kind, *about)
