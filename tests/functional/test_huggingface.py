"""The folders of ``transformers.Trainer`` come back byte for byte, and trainings go on from them."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")

import torch  # noqa: E402

from coral_git import Repository, fsops  # noqa: E402
from coral_git.errors import CoralError, PolicyError, UsageError  # noqa: E402
from coral_git.integrations.huggingface import CoralTrainerCallback, restore_checkpoint  # noqa: E402
from coral_git.integrations.pytorch import CheckpointConfig  # noqa: E402
from coral_git.repository import checkpointing  # noqa: E402


@pytest.fixture
def project(tmp_path, installed):
    with Repository(tmp_path / "models", init=True) as repository:
        yield repository


class Words(torch.utils.data.Dataset):
    """Random sentences."""

    def __init__(self) -> None:
        self.ids = torch.randint(0, 60, (24, 8), generator=torch.Generator().manual_seed(3))

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, number: int) -> dict:
        return {"input_ids": self.ids[number], "labels": self.ids[number]}


def network() -> torch.nn.Module:
    transformers.set_seed(1)
    shape = {"n_layer": 1, "n_head": 2, "n_embd": 16, "vocab_size": 64, "n_positions": 8}
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**shape, bos_token_id=0, eos_token_id=0))


class Spy(transformers.TrainerCallback):
    """Copies what the trainer has written, before the trainer or anybody else can delete it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_save(self, args, state, control, **_):
        name = f"checkpoint-{state.global_step}"
        shutil.copytree(Path(args.output_dir, name), self.folder / name)


class Scribbler(transformers.TrainerCallback):
    """Writes a file into a folder that is being stored."""

    def on_save(self, args, state, control, **_):
        if state.global_step == 6:
            (Path(args.output_dir) / "checkpoint-6" / "README.md").write_text("written later")


def prepare(out: Path, *callbacks, **arguments):
    chosen = {
        "max_steps": 6, "per_device_train_batch_size": 4, "logging_steps": 1, "report_to": [], "seed": 7,
        "disable_tqdm": True, "use_cpu": True, "save_steps": 2, **arguments,
    }  # fmt: skip
    return transformers.Trainer(
        network(),
        transformers.TrainingArguments(str(out), **chosen),
        train_dataset=Words(),
        eval_dataset=Words(),
        callbacks=list(callbacks),
    )


def losses(trainer) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def content(folder: Path) -> dict[str, bytes]:
    return {str(one.relative_to(folder)): one.read_bytes() for one in folder.rglob("*") if one.is_file()}


def test_folders_come_back_byte_for_byte_and_a_training_goes_on(project, at, tmp_path, assert_healthy):
    spied = tmp_path / "spied"
    keeper = CoralTrainerCallback(project, "fit", parameters={"lr": 1}, keep_local=False)
    trainer = prepare(tmp_path / "out", Spy(spied), keeper, Scribbler(), save_total_limit=1)
    trainer.train()
    whole = losses(trainer)
    left = content(tmp_path / "out")
    assert left == {"checkpoint-6/README.md": b"written later"}  # what was not stored stays

    names = {"model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin"}
    for step in (2, 4, 6):
        path = restore_checkpoint(project, "fit", tmp_path / "back", step=step)
        assert path == str(tmp_path / "back" / f"checkpoint-{step}")
        assert content(Path(path)) == content(spied / f"checkpoint-{step}")
        assert names < content(Path(path)).keys()

    again = prepare(tmp_path / "again", CoralTrainerCallback(project, "fit"))
    again.train(resume_from_checkpoint=str(tmp_path / "back" / "checkpoint-2"))
    assert losses(again) == whole
    assert (tmp_path / "again" / "checkpoint-6" / "optimizer.pt").exists()

    repo = at(Path(project.path))
    run = repo.coral("experiment", "show", "fit")
    assert "loss" in run
    files = repo.git("ls-tree", "-r", "--name-only", "refs/coral/checkpoints/fit/000000000006").split()
    assert "checkpoint/optimizer.pt" in files
    assert repo.git("for-each-ref", "refs/heads") == ""
    assert_healthy(repo)


def test_which_checkpoints_are_kept_and_which_is_best(project, at, tmp_path, assert_healthy):
    config = CheckpointConfig(keep_last_n_checkpoints=1, keep_best_n_checkpoints=1, strict=True)
    keeper = CoralTrainerCallback(project, "fit", config)
    rising = {"learning_rate": 50.0, "max_grad_norm": 1e9, "lr_scheduler_type": "constant"}
    best = {"metric_for_best_model": "loss", "greater_is_better": False}
    trainer = prepare(
        tmp_path / "out", keeper, max_steps=3, save_steps=1, eval_strategy="steps", eval_steps=1,
        **rising, **best,
    )  # fmt: skip
    trainer.train()
    measured = {
        entry["step"]: entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry
    }
    best = min(measured, key=measured.__getitem__)
    assert best != 3
    path = restore_checkpoint(project, "fit", tmp_path / "back", best=True)
    assert path.endswith(f"checkpoint-{best}")
    assert restore_checkpoint(project, "fit", tmp_path / "back", metric="max:eval_loss") != path
    with pytest.raises(UsageError, match="no such checkpoint"):
        restore_checkpoint(project, "fit", tmp_path, step=77)
    repo = at(Path(project.path))
    assert len(repo.git("for-each-ref", "refs/coral/checkpoints").splitlines()) == 2
    assert repo.coral("experiment", "list").split()[1] == "finished"
    assert_healthy(repo)


@pytest.mark.parametrize("has_old", [False, True])
def test_without_auto_commit_the_index_has_the_folder(project, at, tmp_path, assert_healthy, has_old):
    repo, spied = at(Path(project.path)), tmp_path / "spied"
    if has_old:
        repo.write("checkpoint/old.txt", b"of the one before")
        repo.git("add", "checkpoint")
    keeper = CoralTrainerCallback(project, "fit", CheckpointConfig(auto_commit=False, strict=True))
    trainer = prepare(tmp_path / "out", Spy(spied), keeper, max_steps=2)
    trainer.train()
    assert "checkpoint/old.txt" not in repo.git("ls-files").split()
    repo.git("commit", "-qm", "by hand")
    repo.git("checkout", "-f", "HEAD", "--", ".")
    (repo.path / "checkpoint" / "old.txt").unlink(missing_ok=True)
    assert content(repo.path / "checkpoint") == content(spied / "checkpoint-2")
    assert_healthy(repo)


def test_what_is_in_the_way_is_not_overwritten(project, tmp_path):
    keeper = CoralTrainerCallback(project, "fit")
    prepare(tmp_path / "out", keeper, max_steps=1, save_strategy="no").train()
    for wanted in ({"best": True}, {"metric": "accuracy"}, {"metric": "max:loss", "step": 2}):
        with pytest.raises(UsageError, match="the run 'fit' has no such checkpoint"):
            restore_checkpoint(project, "fit", tmp_path / "out", **wanted)
    folder = Path(restore_checkpoint(project, "fit", tmp_path / "out"))
    assert folder == tmp_path / "out" / "checkpoint-1"  # saved in the end
    (folder / "config.json").unlink()
    before = content(folder)
    assert content(Path(restore_checkpoint(project, "fit", tmp_path / "out"))).keys() > before.keys()
    (folder / "config.json").write_text("{}")
    with pytest.raises(UsageError, match=r"config\.json' is there and is another one"):
        restore_checkpoint(project, "fit", tmp_path / "out")
    assert (folder / "config.json").read_text() == "{}"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / "checkpoint-1").symlink_to(elsewhere)
    with pytest.raises(PolicyError, match="symbolic link"):
        restore_checkpoint(project, "fit", tmp_path / "link")
    assert list(elsewhere.iterdir()) == []
    with pytest.raises(UsageError, match="load_best_model_at_end needs"):
        prepare(
            tmp_path / "best", CoralTrainerCallback(project, "fit", keep_local=False),
            load_best_model_at_end=True, eval_strategy="steps", eval_steps=2,
        ).train()  # fmt: skip


@pytest.mark.parametrize("strict", [False, True])
def test_a_folder_that_cannot_be_removed_is_named(project, tmp_path, monkeypatch, strict):
    def refuse(name, path):
        if name == "unlink" and path.endswith("config.json"):
            raise PermissionError(errno.EACCES, "denied", path)

    monkeypatch.setattr(fsops, "_fault_hook", refuse)
    keeper = CoralTrainerCallback(project, "fit", CheckpointConfig(strict=strict), keep_local=False)
    trainer = prepare(tmp_path / "out", keeper, max_steps=2, save_steps=1)
    with pytest.raises(CoralError) if strict else pytest.warns(RuntimeWarning) as said:
        trainer.train()
    shown = [str(said.value)] if strict else [str(one.message) for one in said]
    assert any("cannot remove" in one and "out/checkpoint-1'" in one for one in shown)
    assert trainer.state.global_step == 2
    assert (tmp_path / "out" / "checkpoint-1" / "config.json").exists()


def test_what_could_not_be_verified_is_not_removed(project, tmp_path, monkeypatch):
    keeper = CoralTrainerCallback(project, "fit", keep_local=False)
    trainer = prepare(tmp_path / "out", keeper, max_steps=2)
    commit = checkpointing.commit_checkpoint

    def damage(*args, **options):
        for pack in Path(project.path, ".git/coral/objects/packs").glob("*.pack"):
            pack.chmod(0o600)
            with pack.open("r+b") as file:
                file.seek(pack.stat().st_size // 3)
                file.write(bytes(4000))
        return commit(*args, **options)

    monkeypatch.setattr(checkpointing, "commit_checkpoint", damage)
    with pytest.warns(RuntimeWarning, match="a checkpoint was not saved: .*object"):
        trainer.train()
    assert (tmp_path / "out" / "checkpoint-2" / "model.safetensors").exists()
    link = tmp_path / "out" / "checkpoint-2" / "link"
    link.symlink_to("config.json")
    keeper.on_train_begin(trainer.args, trainer.state, trainer.control)
    with pytest.warns(RuntimeWarning, match="link' cannot be kept"):
        keeper.on_save(trainer.args, trainer.state, trainer.control)
