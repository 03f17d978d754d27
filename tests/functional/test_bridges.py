"""Other trackers are told of checkpoints, and do not stop a training when they fail."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from coral_git import Repository  # noqa: E402
from coral_git.integrations.pytorch import CheckpointConfig, CoralTrainer  # noqa: E402


@pytest.fixture
def project(tmp_path, installed):
    with Repository(tmp_path / "models", init=True) as repository:
        yield repository


def train(project, bridge, name: str = "fit", **config) -> list[str]:
    """Two steps with checkpoints; gives their commits."""
    options = CheckpointConfig(save_every_n_steps=1, **config)
    model = torch.nn.Linear(2, 1)
    bridged = {"parameters": {"lr": 0.1}, "experiment_bridge": bridge}
    with CoralTrainer(model, project, name, options, **bridged) as trainer:
        for loss in (0.5, 0.25):
            trainer.step(loss, **{"f1@5": loss * 2})
        return [one["commit_hash"] for one in trainer.list_checkpoints()]


def test_mlflow(project, at, tmp_path, monkeypatch, assert_healthy):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    mlflow = pytest.importorskip("mlflow")
    from coral_git.integrations.mlflow import MLflowBridge

    place = (tmp_path / "mlruns").as_uri()
    first, last = train(project, MLflowBridge("tries", tracking_uri=place))
    assert mlflow.active_run() is None
    client = mlflow.MlflowClient(place)
    experiment = client.get_experiment_by_name("tries")
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.status, run.info.run_name) == ("FINISHED", "fit")
    assert run.data.params == {"lr": "0.1"}
    told = {key: value for key, value in run.data.tags.items() if key.startswith("coral")}
    assert told == {
        "coral.run": "fit",
        "coral.commit": last,
        "coral.commit.1": first,
        "coral.commit.2": last,
    }
    history = client.get_metric_history(run.info.run_id, "f1_5")
    assert [(one.step, one.value) for one in history] == [(1, 1.0), (2, 0.5)]

    with mlflow.start_run() as joined:
        mlflow.log_param("lr", "mine")
        _, commit = train(project, MLflowBridge(), "other")
        assert mlflow.active_run().info.run_id == joined.info.run_id
    data = client.get_run(joined.info.run_id).data
    assert (data.tags["coral.commit"], data.params["lr"]) == (commit, "mine")
    assert_healthy(at(Path(project.path)))


def test_wandb(project, tmp_path, monkeypatch):
    for name, value in {"MODE": "offline", "SILENT": "true", "DIR": str(tmp_path), "CONSOLE": "off"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    wandb = pytest.importorskip("wandb")
    from coral_git.integrations.wandb import WandbBridge

    with wandb.init(project="tries", settings=wandb.Settings(x_disable_stats=True)) as joined:
        _, commit = train(project, WandbBridge())
        assert wandb.run is joined
        assert joined.summary["coral/commit"] == commit
        assert joined.config["coral_run"] == "fit"
        assert (joined.summary["coral/step"], joined.summary["coral/loss"]) == (2, 0.25)
    train(project, WandbBridge("tries", settings=wandb.Settings(x_disable_stats=True)), "other")
    assert wandb.run is None
    assert len(list((tmp_path / "wandb").glob("offline-run-*"))) == 2
    assert "WANDB_API_KEY" not in os.environ


class Broken:
    """Another tracker, which is down."""

    def start(self, run, parameters):
        raise ConnectionError("the server is down")

    def log_checkpoint(self, commit_hash, step, metrics):
        raise ConnectionError("the server is still down")

    def finish(self, status):
        raise ConnectionError("the server is down for good")


def test_a_tracker_that_fails_warns_and_the_training_goes_on(project, at, assert_healthy):
    with pytest.warns(RuntimeWarning) as warned:
        assert len(train(project, Broken())) == 2
    messages = [str(one.message) for one in warned]
    assert messages[0] == "Broken failed: the server is down"
    assert messages.count("Broken failed: the server is still down") == 2
    assert messages[-1] == "Broken failed: the server is down for good"
    repo = at(Path(project.path))
    assert "finished" in repo.coral("experiment", "list")
    with pytest.raises(ConnectionError, match="the server is down"):
        train(project, Broken(), "strict", strict=True)
    assert_healthy(repo)
