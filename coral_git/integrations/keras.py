"""Checkpoints of a training with Keras 3 as a run, whatever its backend."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coral_git.integrations.missing import missing

try:
    import keras
except ImportError as error:
    raise missing(error, "keras", "keras") from error

from coral_git.api.arrays import array_of, read_all, torch_of
from coral_git.api.repository import Repository
from coral_git.errors import UsageError
from coral_git.formats.base import TensorData
from coral_git.integrations.bridge import ExperimentBridge
from coral_git.integrations.checkpoint_config import STATE_FILE, CheckpointConfig
from coral_git.integrations.measured import numbers_of
from coral_git.integrations.recorder import RunRecorder, Snapshot
from coral_git.integrations.rng import random_state, set_random_state
from coral_git.integrations.sources import source_of
from coral_git.integrations.state import flatten, read_state
from coral_git.manifest.escape import printable


class CoralCallback(keras.callbacks.Callback):
    """Keeps checkpoints of ``model.fit`` as a run, in the background, off the branches.

    A checkpoint has all variables of the model (weights, statistics, states of its seed generators), those of
    the optimizer, and the random generators of Python, numpy and torch. The state of other callbacks is not
    in it.

    Args:
        repository: where checkpoints are kept.
        run: the name of the run; one of this name is continued.
        config: when to save (by steps, epochs, the best metric of the logs of an epoch), and what is kept;
            after every epoch by default.
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
        self._step = 0
        self._epoch = 0
        self._random: dict[str, Any] | None = None

    def restore(self, model: Any, *, step: int | None = None, best: bool = False) -> int:
        """Go on from a checkpoint; gives the ``initial_epoch`` for ``fit``, 0 where there is no checkpoint.

        Args:
            model: built, and compiled as before.
            step: the number of the checkpoint; that of the last one by default.
            best: whether the best one is meant, by ``save_on_best_metric``.

        Raises:
            UsageError: it does not fit the model.
            ObjectMissingError: an object cannot be had.
        """
        recorder = self._open()
        chosen = recorder.choose(step=step, best=best)
        if chosen is None:
            return 0
        state = read_state(recorder.tensors(chosen, STATE_FILE), _as_torch)
        stored = {one.name: one for one in recorder.tensors(chosen)}
        names = state["variables"]
        pairs = _paired(model, names, [stored[name] for name in names])
        optimizer = getattr(model, "optimizer", None)
        if optimizer is not None and state["optimizer"] is not None:
            if not optimizer.built:
                optimizer.build(model.trainable_variables)
            pairs += _in_order("the optimizer", optimizer.variables, state["optimizer"])
        for variable, value in pairs:
            variable.assign(_as_array(value) if isinstance(value, TensorData) else value)
        self._step, self._epoch, self._random = state["step"], state["epoch"], state["random"]
        return self._epoch

    def on_train_begin(self, logs: Any = None) -> None:
        """Begin the run, or go on with it."""
        self._open()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Set the random generators when a checkpoint is gone on from."""
        self._epoch = epoch
        found, self._random = self._random, None
        if found is not None:
            set_random_state(found)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Save after so many steps."""
        self._step += 1
        every = self.config.save_every_n_steps
        if every and self._step % every == 0:
            self._save(numbers_of(logs or {}), is_best=False)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Save after so many epochs, and when the metric is better than ever."""
        self._epoch = epoch + 1
        metrics = numbers_of(logs or {})
        is_best = self._open().is_better(metrics)
        every = self.config.save_every_n_epochs
        if is_best or (every and self._epoch % every == 0):
            self._save(metrics, is_best=is_best)

    def on_train_end(self, logs: Any = None) -> None:
        """Wait for the last checkpoint and end the run."""
        recorder, self._recorder = self._recorder, None
        if recorder is not None:
            recorder.finish()

    def _save(self, metrics: Mapping[str, float], *, is_best: bool) -> None:
        recorder, model = self._open(), self.model
        recorder.wait()  # before the copy is made, so that there is one of them in memory, not two
        variables = _named(model)
        optimizer = getattr(model, "optimizer", None) if self.config.save_optimizer_state else None
        state = {
            "step": self._step,
            "epoch": self._epoch,
            "variables": list(variables),
            "optimizer": None if optimizer is None else [_copy(one) for one in optimizer.variables],
            "random": random_state() if self.config.save_random_state else None,
        }
        values = {name: _copy(one) for name, one in variables.items()}
        files = {recorder.file: values, STATE_FILE: flatten(state)}
        recorder.save(
            Snapshot(
                self._step,
                self._epoch,
                metrics,
                lambda: {path: source_of(tensors) for path, tensors in files.items()},
                is_best=is_best,
            )
        )
        recorder.take_saved()

    def _open(self) -> RunRecorder:
        if self._recorder is None:
            self._recorder = RunRecorder(
                self.repository, self.run, self.config, parameters=self._parameters, bridge=self._bridge
            )
        return self._recorder


def _named(model: Any) -> dict[str, Any]:
    """The variables of a model by path, without the name of the model itself."""
    named: dict[str, Any] = {}
    for variable in model.variables:
        path = name = variable.path.removeprefix(f"{model.name}/")
        number = 2
        while name in named:
            name, number = f"{path}.{number}", number + 1
        named[name] = variable
    return named


def _paired(model: Any, names: list[str], stored: list[TensorData]) -> list[tuple[Any, Any]]:
    """Variables and what they become: by path, or in order where Keras has numbered the layers anew."""
    variables = _named(model)
    if set(variables) == set(names):
        return _in_order("the model", (variables[name] for name in names), stored)
    return _in_order("the model", variables.values(), stored)


def _in_order(of: str, variables: Iterable[Any], values: list[Any]) -> list[tuple[Any, Any]]:
    known = list(variables)
    for variable, value in zip(known, values, strict=False):
        if tuple(variable.shape) != tuple(value.shape):
            raise UsageError(
                f"variable '{printable(variable.path)}' is {tuple(variable.shape)},"
                f" the checkpoint has {tuple(value.shape)}"
            )
    if len(known) != len(values):
        raise UsageError(
            f"{of} has {len(known)} variables, the checkpoint {len(values)}", hint="is the model built?"
        )
    return list(zip(known, values, strict=True))


def _copy(variable: Any) -> NDArray[Any]:
    return np.array(keras.ops.convert_to_numpy(variable.value))


def _as_array(source: TensorData) -> NDArray[Any]:
    return array_of(read_all(source), source.dtype, source.shape)


def _as_torch(source: TensorData) -> Any:
    return torch_of(read_all(source), source.dtype, source.shape)
