"""``Checkpointer`` for plain loops, and the names of the original Coral."""

from __future__ import annotations

import doctest
import importlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from coral_git import Repository  # noqa: E402
from coral_git.errors import UsageError  # noqa: E402
from coral_git.integrations.pytorch import (  # noqa: E402
    Checkpointer,
    PyTorchIntegration,
    load_model_from_coral,
    save_model_to_coral,
)


@pytest.fixture
def project(tmp_path, installed):
    with Repository(tmp_path / "models", init=True) as repository:
        yield repository


def network(seed: int = 0):
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(6, 12), torch.nn.Dropout(0.2), torch.nn.Linear(12, 2))


def train(project, name: str, epochs: int, stop: int | None = None, **options) -> list[float]:
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    losses = []
    with Checkpointer(
        model,
        project,
        name,
        every_n_epochs=1,
        on_best="val",
        optimizer=optimizer,
        scheduler=scheduler,
        **options,
    ) as checkpoints:
        for epoch in range(checkpoints.epoch, epochs):
            for _ in range(3):
                batch = torch.randn(8, 6)
                loss = torch.nn.functional.mse_loss(model(batch), batch[:, :2])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                checkpoints.step(loss=loss.item())
                losses.append(loss.item())
            scheduler.step()
            checkpoints.log(rate=scheduler.get_last_lr()[0])
            checkpoints.end_epoch(val=abs(epoch - 2))
            if epoch == stop:
                raise KeyboardInterrupt
    return losses


def test_a_loop_goes_on_from_the_last_checkpoint(project, at, assert_healthy):
    whole = train(project, "whole", 5)
    with pytest.raises(KeyboardInterrupt):
        train(project, "fit", 5, stop=1, resume=True)  # there is nothing yet to go on from
    assert train(project, "fit", 5, resume=True) == whole[6:]
    assert train(project, "fit", 5) == whole
    model = network()
    with Checkpointer(model, project, "fit", on_best="val", keep_last=9, keep_best=0) as checkpoints:
        assert checkpoints.load(best=True)
        assert (checkpoints.epoch, checkpoints.trainer.state.metrics["val"]) == (3, 0)
        best = checkpoints.best_commit
        assert [one["commit_hash"] for one in checkpoints.trainer.list_checkpoints() if one["step"] == 9] == [
            best
        ]
        checkpoints.step()
        kept = checkpoints.save()
        assert checkpoints.load(kept)
        with pytest.raises(UsageError, match="the run 'fit' has no such checkpoint"):
            checkpoints.load(step=1000)
    repo = at(Path(project.path))
    assert repo.coral("experiment", "list").count("finished") == 2
    assert_healthy(repo)


def test_the_names_of_the_original_coral(project):
    model, other = network(), network(1)
    assert not load_model_from_coral(other, project)
    first = save_model_to_coral(model, project, "first", "tiny", loss=0.5, data="none")
    said = project.get_commit(first).metadata
    assert (said.metrics, tuple(said.tags)) == ({"loss": 0.5}, ("tiny", "data=none"))
    assert load_model_from_coral(other, project, first)
    assert all(map(torch.equal, model.state_dict().values(), other.state_dict().values()))
    with pytest.raises(UsageError, match="do not have the same tensors"):
        load_model_from_coral(torch.nn.Linear(6, 12), project)

    weights = PyTorchIntegration.model_to_weights(model)
    assert weights["0.weight"].metadata.layer_type == "Linear"
    another = network(2)
    PyTorchIntegration.weights_to_model(weights, another)
    assert np.array_equal(another[2].weight.detach().numpy(), weights["2.weight"].data)
    state = PyTorchIntegration.get_random_state()
    number = torch.rand(1)
    PyTorchIntegration.set_random_state(state)
    assert torch.rand(1) == number
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    kept = PyTorchIntegration.save_optimizer_state(optimizer)
    fresh = torch.optim.SGD(model.parameters(), lr=0.1)
    PyTorchIntegration.load_optimizer_state(fresh, kept)
    assert fresh.param_groups[0]["lr"] == 0.5
    scheduler = torch.optim.lr_scheduler.StepLR(fresh, 2)
    PyTorchIntegration.load_scheduler_state(scheduler, PyTorchIntegration.save_scheduler_state(scheduler))


@pytest.mark.parametrize("module", ["checkpointer", "trainer"])
def test_examples_of_the_docstrings(installed, module):
    done = doctest.testmod(importlib.import_module(f"coral_git.integrations.{module}"))
    assert done.attempted > 2
    assert done.failed == 0


NEEDED = {
    "pytorch": ("torch", "torch"),
    "huggingface": ("transformers", "transformers"),
    "lightning": ("lightning", "lightning"),
    "keras": ("keras", "keras"),
    "mlflow": ("mlflow", "mlflow"),
    "wandb": ("wandb", "wandb"),
}


def test_what_is_said_when_a_framework_is_missing():
    program = (
        "import sys\n"
        "for module, needed, extra in [line.split() for line in sys.argv[1:]]:\n"
        "    sys.modules[needed] = None\n"
        "    try:\n"
        "        __import__(f'coral_git.integrations.{module}')\n"
        "    except ImportError as error:\n"
        "        print(error)\n"
    )
    asked = [f"{module} {needed} {extra}" for module, (needed, extra) in NEEDED.items()]
    done = subprocess.run([sys.executable, "-c", program, *asked], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        f"coral_git.integrations.{module} needs {needed}: pip install 'coral-git[{extra}]'"
        for module, (needed, extra) in NEEDED.items()
    ]
