"""Checkpoints of Keras as a run; a training goes on bit for bit."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

os.environ["KERAS_BACKEND"] = "torch"
pytest.importorskip("torch")
keras = pytest.importorskip("keras")

from coral_git import Repository  # noqa: E402
from coral_git.errors import UsageError  # noqa: E402
from coral_git.integrations.keras import CoralCallback  # noqa: E402
from coral_git.integrations.pytorch import CheckpointConfig  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")


@pytest.fixture
def project(tmp_path, installed):
    with Repository(tmp_path / "models", init=True) as repository:
        yield repository


def network(width: int = 6):
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(width, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.3),
            keras.layers.Dense(1),
        ]
    )
    schedule = keras.optimizers.schedules.ExponentialDecay(0.05, 3, 0.9)
    model.compile(keras.optimizers.Adam(schedule), "mse")
    return model


def fit(model, epochs: int, *callbacks, **options) -> list[float]:
    rows = np.random.default_rng(1).standard_normal((24, 4)).astype("float32")
    history = model.fit(
        rows, rows[:, :1], batch_size=8, epochs=epochs, verbose=0, callbacks=list(callbacks), **options
    )
    return history.history["loss"]


def test_a_training_goes_on_bit_for_bit(project, at, assert_healthy):
    whole = network()
    losses = fit(whole, 4)
    callback = CoralCallback(project, "fit", parameters={"width": 6})
    model = network()
    assert callback.restore(model) == 0
    assert fit(model, 2, callback) == losses[:2]
    for step, epoch in ((3, 1), (6, 2)):
        again, other = network(), CoralCallback(project, "fit")
        assert other.restore(again, step=step) == epoch
        assert fit(again, 4, other, initial_epoch=epoch) == losses[epoch:]
        assert all(map(np.array_equal, again.get_weights(), whole.get_weights()))
    repo = at(Path(project.path))
    assert "finished" in repo.coral("experiment", "list")
    shown = repo.git("cat-file", "blob", "refs/coral/checkpoints/fit/000000000012:model.safetensors")
    assert "dense" in shown
    assert "seed_generator_state" in shown
    assert_healthy(repo)


def test_what_is_kept_and_what_does_not_fit(project, at):
    config = CheckpointConfig(
        save_every_n_steps=2, save_on_best_metric="score", minimize_metric=False, keep_last_n_checkpoints=1,
        keep_best_n_checkpoints=1,
    )  # fmt: skip

    class Score(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["score"] = [1, 5, 2][epoch]
            logs["no number"] = "x"

    fit(network(), 3, Score(), CoralCallback(project, "fit", config))
    refs = at(Path(project.path)).git(
        "for-each-ref", "--format=%(refname:lstrip=-1)", "refs/coral/checkpoints"
    )
    assert refs.split() == ["000000000006", "000000000008"]
    assert CoralCallback(project, "fit", config).restore(network(), best=True) == 2
    assert CoralCallback(project, "fit", config).restore(network()) == 2
    with pytest.raises(UsageError, match=r"variable '.*kernel' is \(4, 7\), the checkpoint has \(4, 6\)"):
        CoralCallback(project, "fit").restore(network(7))
    with pytest.raises(UsageError, match="the model has 0 variables"):
        CoralCallback(project, "fit").restore(keras.Sequential([keras.layers.Dense(2)]))
