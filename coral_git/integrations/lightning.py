"""Checkpoints of a Lightning training as a run: a callback, or a plugin below Lightning's own callbacks."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from coral_git.integrations.missing import missing

try:
    from lightning.pytorch.callbacks import Callback, Checkpoint
except ImportError as error:
    raise missing(error, "lightning", "lightning") from error

from coral_git.api.repository import Repository
from coral_git.errors import CoralError, UsageError
from coral_git.integrations.bridge import ExperimentBridge
from coral_git.integrations.checkpoint_config import CheckpointConfig
from coral_git.integrations.lightning_io import CoralCheckpointIO as CoralCheckpointIO
from coral_git.integrations.lightning_io import RunPaths, captured, check_strategy
from coral_git.integrations.lightning_io import resume_path as resume_path
from coral_git.integrations.lightning_state import snapshot_of
from coral_git.integrations.measured import numbers_of
from coral_git.integrations.recorder import RunRecorder
from coral_git.integrations.rng import random_state, set_random_state


class RandomState(Callback):
    """Keeps the random generators of the main process in checkpoints, which Lightning itself does not.

    They are set before the data are shuffled, and again at the first batch where an epoch is gone on with.
    """

    def __init__(self) -> None:
        super().__init__()
        self._random: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        """The random generators."""
        return {"random": random_state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the random generators, to set them when the training begins."""
        self._random = state_dict.get("random")

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Set the generators."""
        self._set(trainer)

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Set the generators in the middle of an epoch."""
        if batch_idx:
            self._set(trainer)
        self._random = None

    def _set(self, trainer: Any) -> None:
        if self._random is not None and trainer.is_global_zero:
            set_random_state(self._random)


class CoralCallback(RandomState, Checkpoint):
    """Keeps checkpoints of a Lightning training as a run, in the background, without files of Lightning.

    A checkpoint has all that Lightning saves, and the random generators. ``trainer.fit(ckpt_path=
    callback.resume_path())`` goes on from the last one.

    Args:
        repository: where checkpoints are kept.
        run: the name of the run; one of this name is continued.
        config: when to save (by steps of the optimizer, epochs, the best metric of those that were logged),
            and what is kept; after every epoch by default.
        parameters: what is tried, for ``git coral experiment``.
        experiment_bridge: another tracker, which is told of checkpoints.
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
        self.repository = repository
        self.run = run
        self.config = config or CheckpointConfig(save_every_n_epochs=1)
        self._parameters = parameters
        self._bridge = experiment_bridge
        self._recorder: RunRecorder | None = None
        self._saved_step = -1
        self._metrics: dict[str, float] = {}
        self._loops: dict[str, Any] | None = None
        self._is_best = False
        self._is_due = False

    def resume_path(self, *, step: int | None = None, best: bool = False) -> str | None:
        """What ``trainer.fit(ckpt_path=…)`` takes to go on from a checkpoint; None where there is none."""
        return resume_path(self.repository, self.run, step=step, best=best)

    def state_dict(self) -> dict[str, Any]:
        """The random generators, where they are wanted."""
        return super().state_dict() if self.config.save_random_state else {}

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Let the trainer read checkpoints of runs, and begin the run.

        Raises:
            UsageError: the strategy writes checkpoints of its own.
        """
        if stage == "fit":
            check_strategy(trainer.strategy)
        if not isinstance(trainer.strategy.checkpoint_io, RunPaths | CoralCheckpointIO):
            io = CoralCheckpointIO(self.repository, self.run)
            trainer.strategy.checkpoint_io = RunPaths(trainer.strategy.checkpoint_io, io)
        if stage == "fit" and trainer.is_global_zero and self._recorder is None:
            self._recorder = RunRecorder(
                self.repository, self.run, self.config, parameters=self._parameters, bridge=self._bridge
            )

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        """Save after so many steps."""
        every, step = self.config.save_every_n_steps, trainer.global_step
        if every and step and step % every == 0 and step != self._saved_step:
            self._save_or_wait(trainer)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Save when the metric is better than ever."""
        if not trainer.sanity_checking and trainer.state.fn == "fit" and self._judge(trainer):
            self._save_or_wait(trainer)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Have a checkpoint saved after so many epochs, and when the metric is better than ever."""
        every = self.config.save_every_n_epochs
        if self._judge(trainer) or (every and (trainer.current_epoch + 1) % every == 0):
            self._is_due = True
        if self._is_due:
            self._metrics = _measured(trainer)
            self._loops = (captured(trainer) or {}).get("loops")

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Save what is due of the epoch before, now that its schedulers have made their step, too.

        How far the loops are is what they said when it ended; Lightning would not go on from anywhere else.
        """
        if self._is_due:
            self._save(trainer)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Save what is due of the last epoch."""
        if self._is_due:
            self._save(trainer)

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        """Wait for the last checkpoint and end the run."""
        self._finish("finished")

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """End the run as failed."""
        self._finish("failed")

    def _judge(self, trainer: Any) -> bool:
        """Whether the metric is better than ever, in every process."""
        if not self.config.save_on_best_metric:
            return False
        is_better = self._recorder is not None and self._recorder.is_better(_measured(trainer))
        is_better = bool(trainer.strategy.broadcast(is_better))
        self._is_best = self._is_best or is_better
        return is_better

    def _save_or_wait(self, trainer: Any) -> None:
        """Save in the middle of an epoch; after its last batch, wait until it has ended."""
        self._metrics = _measured(trainer)
        if trainer.is_last_batch:
            self._is_due = True
        else:
            self._save(trainer)

    def _save(self, trainer: Any) -> None:
        """Store a checkpoint; every process has to come here."""
        is_best, self._is_best, self._is_due = self._is_best, False, False
        self._saved_step = trainer.global_step
        if self._recorder is not None:
            self._recorder.wait()  # before the copy is made, so that there is one of them in memory, not two
        checkpoint, loops = captured(trainer), self._loops
        self._loops = None
        if self._recorder is None:
            return
        if checkpoint is not None and loops is not None:
            checkpoint["loops"] = loops
        try:
            if checkpoint is None:
                kind = type(trainer.strategy).__name__
                raise UsageError(f"{kind} writes files of its own", hint="have it gather the whole state")
            snapshot = snapshot_of(checkpoint, self.repository.file)
        except CoralError as error:
            if self.config.strict:
                raise
            warnings.warn(f"a checkpoint was not saved: {error}", RuntimeWarning, stacklevel=2)
            return
        metrics = {**snapshot.metrics, **self._metrics}
        epoch = trainer.current_epoch
        self._recorder.save(snapshot._replace(metrics=metrics, epoch=epoch, is_best=is_best))
        self._recorder.take_saved()

    def _finish(self, status: str) -> None:
        recorder, self._recorder = self._recorder, None
        if recorder is not None:
            recorder.finish(status)


def _measured(trainer: Any) -> dict[str, float]:
    return numbers_of(trainer.callback_metrics)
