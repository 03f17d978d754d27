"""When a training saves checkpoints, and how far it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from coral_git.errors import UsageError

STATE_FILE = "training_state.safetensors"
"""The file of a checkpoint that has all but the model."""

_COUNTS = (
    "save_every_n_steps",
    "save_every_n_epochs",
    "keep_last_n_checkpoints",
    "keep_best_n_checkpoints",
    "keep_checkpoint_every_n_epochs",
    "early_stopping_patience",
)


@dataclass
class CheckpointConfig:
    """When checkpoints are saved, what is in them, and which are kept.

    Attributes:
        save_every_n_steps: save after so many steps.
        save_every_n_epochs: save after so many epochs.
        save_on_best_metric: save when this metric is better than ever; it also says which checkpoint is best.
        minimize_metric: whether less of that metric is better.
        keep_last_n_checkpoints: how many of the latest are kept; all of them by default.
        keep_best_n_checkpoints: how many of the best are kept besides.
        keep_checkpoint_every_n_epochs: keep those of every so many epochs besides.
        save_optimizer_state: whether the optimizer is saved.
        save_scheduler_state: whether the scheduler is saved.
        save_random_state: whether the random generators of torch, numpy and Python are saved.
        free_dropped: whether the store is freed of checkpoints that are not kept while the training goes on;
            else ``git coral gc`` does it.
        use_incremental_saves: whether tensors are stored as differences to earlier ones; else whole, which
            is read and written faster and takes more room.
        auto_commit: whether a checkpoint is a commit of the run; else its files, and the lines of
            ``.gitattributes`` that a checkout of them needs, are put into the index of the repository, and
            whoever trains commits them.
        commit_message_template: with ``{epoch}``, ``{step}``, ``{loss}`` and the names of metrics.
        tag_best_checkpoints: whether the tag ``<run>_best`` follows the best checkpoint.
        branch: a branch that every checkpoint is appended to; it is not to be checked out anywhere. What is
            on it stays, so dropping checkpoints frees nothing then.
        strict: whether a checkpoint that cannot be saved stops the training; else there is a warning.
        early_stopping_patience: ``CoralTrainer`` and ``Checkpointer`` say to stop after so many epochs
            without a better metric; the other frameworks have callbacks of their own for that.
        early_stopping_threshold: what counts as better.

    Raises:
        UsageError: a number is less than 1, or there is nothing to stop by.

    Example:
        >>> CheckpointConfig(save_every_n_epochs=5, keep_best_n_checkpoints=3).save_every_n_epochs
        5
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
    free_dropped: bool = True
    use_incremental_saves: bool = True
    auto_commit: bool = True
    commit_message_template: str = "Checkpoint at epoch {epoch}, step {step}"
    tag_best_checkpoints: bool = True
    branch: str = ""
    strict: bool = False
    early_stopping_patience: int | None = None
    early_stopping_threshold: float = 0.0

    def __post_init__(self) -> None:
        for name in _COUNTS:
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < 1):
                raise UsageError(f"bad {name} {value!r}: it is 1 or more, or None")
        if self.early_stopping_patience is not None and self.save_on_best_metric is None:
            raise UsageError(
                "early_stopping_patience of which metric?", hint="name it by save_on_best_metric"
            )


@dataclass
class TrainingState:
    """How far a training is.

    Attributes:
        epoch: epochs that have ended.
        global_step: steps that were made.
        loss: the last loss.
        metrics: the last value of each metric.
        learning_rate: that of the first group of parameters of the optimizer; NaN without one.
        best: the best value so far of the metric that decides; None before there is one.
        epochs_without_better: how many epochs have passed since.
    """

    epoch: int = 0
    global_step: int = 0
    loss: float = float("nan")
    metrics: dict[str, float] = field(default_factory=dict)
    learning_rate: float = float("nan")
    best: float | None = None
    epochs_without_better: int = 0

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TrainingState:
        """A state from its fields; what it does not know is left out."""
        known = {one.name for one in fields(cls)}
        return cls(**{name: value for name, value in data.items() if name in known})
