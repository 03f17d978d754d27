"""When a training saves checkpoints, and how far it is."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class CheckpointConfig:
    """When checkpoints are saved, what is in them, and which are kept.

    Attributes:
        save_every_n_steps: save after so many steps.
        save_every_n_epochs: save after so many epochs.
        save_on_best_metric: save when this metric is better than ever.
        minimize_metric: whether less of that metric is better.
        keep_last_n_checkpoints: how many of the latest are kept; all of them by default.
        keep_best_n_checkpoints: how many of the best are kept besides.
        keep_checkpoint_every_n_epochs: keep those of every so many epochs besides.
        save_optimizer_state: whether the optimizer is saved.
        save_scheduler_state: whether the scheduler is saved.
        save_random_state: whether the random generators of torch, numpy and Python are saved.
        commit_message_template: with ``{epoch}``, ``{step}``, ``{loss}`` and the names of metrics.
        strict: whether a checkpoint that cannot be saved stops the training; else there is a warning.
        early_stopping_patience: stop after so many epochs without a better metric.
        early_stopping_threshold: what counts as better.
    """

    save_every_n_steps: int | None = None
    save_every_n_epochs: int | None = None
    save_on_best_metric: str | None = None
    minimize_metric: bool = True
    keep_last_n_checkpoints: int | None = None
    keep_best_n_checkpoints: int | None = None
    keep_checkpoint_every_n_epochs: int | None = None
    save_optimizer_state: bool = True
    save_scheduler_state: bool = True
    save_random_state: bool = True
    commit_message_template: str = "Checkpoint at epoch {epoch}, step {step}"
    strict: bool = False
    early_stopping_patience: int | None = None
    early_stopping_threshold: float = 0.0


@dataclass
class TrainingState:
    """How far a training is.

    Attributes:
        epoch: epochs that have ended.
        global_step: steps that were made.
        loss: the last loss.
        metrics: the last value of each metric.
        best: the best value so far of the metric that decides; None before there is one.
        epochs_without_better: how many epochs have passed since.
    """

    epoch: int = 0
    global_step: int = 0
    loss: float = float("nan")
    metrics: dict[str, float] = field(default_factory=dict)
    best: float | None = None
    epochs_without_better: int = 0
