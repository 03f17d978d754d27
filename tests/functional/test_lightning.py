"""Checkpoints of Lightning as a run: the callback, the plugin, and trainings that go on bit for bit."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

import pytest

pl = pytest.importorskip("lightning.pytorch")

import torch  # noqa: E402
from lightning.pytorch.callbacks import ModelCheckpoint  # noqa: E402
from lightning.pytorch.plugins.io import AsyncCheckpointIO  # noqa: E402
from lightning.pytorch.strategies import (  # noqa: E402
    DDPStrategy,
    FSDPStrategy,
    ModelParallelStrategy,
    SingleDeviceStrategy,
)

from coral_git import Repository  # noqa: E402
from coral_git.errors import UsageError  # noqa: E402
from coral_git.integrations.lightning import (  # noqa: E402
    CoralCallback,
    CoralCheckpointIO,
    RandomState,
    resume_path,
)
from coral_git.integrations.lightning_io import check_strategy  # noqa: E402
from coral_git.integrations.pytorch import CheckpointConfig, load  # noqa: E402

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers", "ignore:Be aware", "ignore:.*LeafSpec"
)


@pytest.fixture
def project(tmp_path, installed):
    with Repository(tmp_path / "models", init=True) as repository:
        yield repository


class Small(pl.LightningModule):
    """A network with dropout, a schedule by epochs, and the losses it has seen."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.save_hyperparameters()
        torch.manual_seed(0)
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(4, width),
            torch.nn.BatchNorm1d(width),
            torch.nn.Dropout(0.3),
            torch.nn.Linear(width, 2),
        )
        self.losses: list[float] = []

    def training_step(self, batch, number):
        loss = torch.nn.functional.mse_loss(self.layers(batch[0]), batch[0][:, :2])
        self.losses.append(loss.item())
        return loss

    def validation_step(self, batch, number):
        self.log("val", float(abs(self.current_epoch - 1)))

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=1e-2)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)]


def fit(folder: Path, epochs: int, *callbacks, resume=None, loader=None, **options) -> tuple:
    rows = torch.randn(24, 4, generator=torch.Generator().manual_seed(5))
    data = torch.utils.data.TensorDataset(rows)
    model = Small()
    trainer = pl.Trainer(
        default_root_dir=folder, max_epochs=epochs, callbacks=list(callbacks), logger=False,
        accelerator="cpu",
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0, **options,
    )  # fmt: skip
    torch.manual_seed(7)
    loader = loader or torch.utils.data.DataLoader(data, 8, shuffle=True)
    trainer.fit(model, loader, torch.utils.data.DataLoader(data, 24), ckpt_path=resume)
    return model, trainer


def test_the_callback_goes_on_bit_for_bit(project, at, tmp_path, assert_healthy):
    config = CheckpointConfig(
        save_every_n_epochs=1, save_on_best_metric="val", keep_last_n_checkpoints=2,
        keep_best_n_checkpoints=1, strict=True,
    )  # fmt: skip
    whole, _ = fit(tmp_path, 4, CoralCallback(project, "whole", config, parameters={"lr": 0.01}))
    assert not list(tmp_path.rglob("*.ckpt"))
    assert resume_path(project, "whole", step=6) == resume_path(project, "whole", best=True)
    assert resume_path(project, "whole", step=3) is None  # not among the last two, nor the best
    assert resume_path(project, "whole", metric="min:val") == resume_path(project, "whole", step=6)
    assert resume_path(project, "whole", metric="accuracy") is None

    callback = CoralCallback(project, "fit", CheckpointConfig(save_every_n_epochs=1, strict=True))
    assert callback.resume_path() is None
    first, _ = fit(tmp_path, 2, callback)
    assert callback.resume_path(best=True) is None  # nobody has said what is best
    assert first.losses == whole.losses[:6]
    for step in (3, 6):
        again, _ = fit(
            tmp_path, 4, CoralCallback(project, f"from-{step}"), resume=callback.resume_path(step=step)
        )
        assert again.losses == whole.losses[step:]
    other = Small()
    load(other, project, ref=callback.resume_path().removeprefix("coral:"))
    assert all(map(torch.equal, first.state_dict().values(), other.state_dict().values()))
    repo = at(Path(project.path))
    assert repo.coral("experiment", "list").count("finished") == 4
    assert "val" in repo.coral("experiment", "show", "whole")
    assert_healthy(repo)


class Resumable:
    """A data loader that can go on where it was."""

    def __init__(self) -> None:
        self.position = 0
        self.is_resumed = False

    def __len__(self) -> int:
        return 3

    def __iter__(self):
        if not self.is_resumed:
            self.position = 0
        self.is_resumed = False
        while self.position < 3:
            self.position += 1
            yield [torch.full((8, 4), float(self.position))]

    def state_dict(self):
        return {"position": self.position}

    def load_state_dict(self, state):
        self.position, self.is_resumed = state["position"], True


def test_the_callback_in_the_middle_of_an_epoch(project, tmp_path):
    config = CheckpointConfig(save_every_n_steps=1)
    whole, _ = fit(tmp_path, 2, CoralCallback(project, "fit", config), loader=Resumable())
    for step in (2, 3):
        callback = CoralCallback(project, f"from-{step}")
        resume = resume_path(project, "fit", step=step)
        again, _ = fit(tmp_path, 2, callback, resume=resume, loader=Resumable())
        assert again.losses == whole.losses[step:]


@pytest.mark.parametrize("is_async", [False, True])
def test_the_plugin_below_model_checkpoint(project, at, tmp_path, assert_healthy, is_async):
    def plugin():
        io = CoralCheckpointIO(project, "fit")
        return AsyncCheckpointIO(io) if is_async else io

    kept = ModelCheckpoint(tmp_path / "kept", monitor="val", save_top_k=1, save_last=True)
    whole, _ = fit(tmp_path, 3, kept, RandomState(), plugins=[plugin()])
    names = sorted(one.name for one in (tmp_path / "kept").iterdir())
    assert names == ["epoch=1-step=6.ckpt", "last.ckpt"]
    assert (tmp_path / "kept" / "last.ckpt").read_text().startswith("coral checkpoint 1\nrun fit\nstep 6\n")
    repo = at(Path(project.path))
    assert kept_steps(repo) == ["000000000006", "000000000006.2"]

    loaded = CoralCheckpointIO(project, "fit").load_checkpoint(kept.best_model_path)
    assert loaded["callbacks"]["RandomState"]["random"]["torch"].dtype == torch.uint8
    assert loaded["hyper_parameters"] == {"width": 8}
    assert loaded["state_dict"].keys() == whole.state_dict().keys()
    again, _ = fit(
        tmp_path, 3, ModelCheckpoint(tmp_path / "other"), RandomState(), resume=kept.best_model_path,
        plugins=[plugin()],
    )  # fmt: skip
    assert again.losses == whole.losses[6:]
    CoralCheckpointIO(project, "fit").remove_checkpoint(kept.best_model_path)
    assert not Path(kept.best_model_path).exists()
    assert_healthy(repo)


def kept_steps(repo) -> list[str]:
    return repo.git("for-each-ref", "--format=%(refname:lstrip=-1)", "refs/coral/checkpoints").split()


@pytest.mark.parametrize("name", ["last", "{epoch}-last"])
def test_links_to_checkpoints(project, at, tmp_path, assert_healthy, name):
    """Lightning makes a link anew or removes it, and another training saves over the last one."""
    folder, repo = tmp_path / "kept", at(Path(project.path))
    for epochs, kind in ((2, "link"), (3, True)):
        kept = ModelCheckpoint(folder, filename="{epoch}", save_top_k=-1, save_last=kind)
        kept.CHECKPOINT_NAME_LAST = name
        (resume,) = folder.glob("*last.ckpt") if folder.exists() else [None]
        assert resume is None or resume.is_symlink()
        fit(tmp_path, epochs, kept, resume=resume, plugins=[CoralCheckpointIO(project, "fit")])
    assert not Path(kept.last_model_path).is_symlink()
    assert kept_steps(repo) == ["000000000003", "000000000006", "000000000009", "000000000009.2"]
    assert_healthy(repo)


@pytest.mark.parametrize("duplicate", [shutil.copy, os.link])
def test_two_files_of_one_checkpoint(project, at, tmp_path, duplicate):
    io, repo = CoralCheckpointIO(project, "fit"), at(Path(project.path))
    one, two = tmp_path / "one.ckpt", tmp_path / "two.ckpt"
    for remove in (io.remove_checkpoint, lambda path: io.save_checkpoint({"global_step": 2}, path)):
        io.save_checkpoint({"global_step": 1}, one)
        duplicate(one, two)
        remove(one)
        assert "000000000001" in kept_steps(repo)
        assert io.load_checkpoint(two) == {"global_step": 1}
        remove(two)
        assert "000000000001" not in kept_steps(repo)
    io.teardown()


class OwnFiles(SingleDeviceStrategy):
    """Writes checkpoints itself."""

    def save_checkpoint(self, checkpoint, filepath, storage_options=None):
        raise AssertionError


def test_strategies_that_write_checkpoints_of_their_own(project, at, tmp_path):
    with pytest.raises(UsageError, match="OwnFiles writes checkpoints of its own") as refused:
        fit(tmp_path, 1, CoralCallback(project, "fit"), strategy=OwnFiles("cpu"))
    assert "gather the state" in refused.value.hint
    assert at(Path(project.path)).git("for-each-ref", "refs/coral") == ""
    for refusing, gathering in (
        (FSDPStrategy(state_dict_type="sharded"), FSDPStrategy(state_dict_type="full")),
        (ModelParallelStrategy(), ModelParallelStrategy(save_distributed_checkpoint=False)),
    ):
        check_strategy(gathering)
        with pytest.raises(UsageError, match="writes checkpoints of its own"):
            check_strategy(refusing)
    check_strategy(DDPStrategy())
    with pytest.raises(UsageError, match="is a folder, which the strategy has written itself"):
        CoralCheckpointIO(project, "fit").remove_checkpoint(tmp_path)


def test_what_is_no_checkpoint_of_a_run(project, tmp_path):
    io = CoralCheckpointIO(project, "fit")
    (tmp_path / "some.ckpt").write_bytes(b"PK\3\4 a pickle of torch")
    with pytest.raises(UsageError, match="is no checkpoint of coral-git"):
        io.load_checkpoint(tmp_path / "some.ckpt")
    with pytest.raises(UsageError, match="there is no checkpoint"):
        io.load_checkpoint("coral:" + "0" * 40)
    with pytest.raises(UsageError, match="no path of this machine"):
        io.save_checkpoint({}, "s3://bucket/one.ckpt")
    with pytest.raises(UsageError, match=r"'checkpoint\.hyper_parameters\.net' of the state .* type Linear"):
        io.save_checkpoint({"hyper_parameters": {"net": torch.nn.Linear(1, 1)}}, tmp_path / "one.ckpt")
    assert not (tmp_path / "one.ckpt").exists()
    io.remove_checkpoint(tmp_path / "some.ckpt")
    io.teardown()
    state = {
        "epoch": 1,
        "global_step": 5,
        "state_dict": {"w": torch.ones(2, dtype=torch.bfloat16), "_extra_state": 3},
    }
    io.save_checkpoint(state, tmp_path / "one.ckpt")
    io.save_checkpoint({**state, "epoch": 2}, tmp_path / "two.ckpt")
    found = io.load_checkpoint(tmp_path / "one.ckpt", map_location="meta")
    assert (found["epoch"], list(found["state_dict"])) == (1, ["w", "_extra_state"])
    assert found["state_dict"]["w"].device.type == "meta"
    assert io.load_checkpoint(tmp_path / "two.ckpt")["epoch"] == 2
    io.teardown()
