"""``CoralTrainer``: checkpoints off the branches, in the background; a training goes on exactly."""

from __future__ import annotations

import doctest
import errno
import importlib
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from coral_git import Repository, fsops
from coral_git.errors import GitError, UsageError
from coral_git.integrations.pytorch import CheckpointConfig, CoralTrainer, load, save
from coral_git.maintenance.gc import free_dropped
from coral_git.repository import checkpointing


@pytest.fixture
def project(tmp_path, installed):
    with Repository(tmp_path / "models", init=True) as repository:
        yield repository


def network(seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    layers = [torch.nn.Linear(24, 48), torch.nn.BatchNorm1d(48), torch.nn.ReLU(), torch.nn.Dropout(0.1)]
    return torch.nn.Sequential(*layers, torch.nn.Linear(48, 4))


def prepare(repository, name="fit", **config):
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 3, 0.5)
    trainer = CoralTrainer(model, repository, name, CheckpointConfig(**config), parameters={"lr": 1e-3})
    trainer.set_optimizer(optimizer)
    trainer.set_scheduler(scheduler)
    return trainer, optimizer, scheduler


def train(trainer, optimizer, scheduler, steps: int) -> list[float]:
    losses = []
    for _ in range(steps):
        batch = torch.randn(16, 24)
        loss = torch.nn.functional.cross_entropy(trainer.model(batch), batch[:, :4].argmax(1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        trainer.step(loss.item())
        losses.append(loss.item())
    return losses


def test_a_training_goes_on_bit_for_bit(project, at, assert_healthy):
    trainer, *rest = prepare(project, save_every_n_steps=4)
    whole = train(trainer, *rest, 12)
    trainer.wait()
    for step in (4, 8):
        again, *others = prepare(project)
        assert again.load_checkpoint(step=step)
        assert again.state.global_step == step
        assert train(again, *others, 12 - step) == whole[step:]
    trainer.finish()
    repo = at(Path(project.path))
    assert repo.git("for-each-ref", "refs/heads") == ""
    assert not (repo.path / "model.safetensors").exists()
    assert repo.coral("experiment", "list").split()[1] == "finished"
    assert_healthy(repo)


def test_what_the_user_works_on_is_not_touched(project, at):
    project.stage_weights({"w": torch.zeros(3)})
    project.commit("base")
    repo = at(Path(project.path))
    repo.write("train.py", b"half written")
    repo.git("add", "train.py")
    before = repo.git("rev-parse", "HEAD"), repo.status(), repo.git("ls-files", "--stage")
    trainer, *rest = prepare(project, save_every_n_steps=2)
    train(trainer, *rest, 4)
    trainer.wait()
    assert (repo.git("rev-parse", "HEAD"), repo.status(), repo.git("ls-files", "--stage")) == before


def test_which_checkpoints_are_kept(project, at):
    trainer, *rest = prepare(
        project, save_every_n_steps=1, keep_last_n_checkpoints=2, keep_best_n_checkpoints=1,
        save_on_best_metric="score", minimize_metric=False,
    )  # fmt: skip
    for score in (1, 5, 2, 3, 4, 0):
        trainer.update_metrics(score=score)
        train(trainer, *rest, 1)
    assert [one["step"] for one in trainer.list_checkpoints()] == [2, 5, 6]
    fresh, *_ = prepare(project, save_on_best_metric="score", minimize_metric=False)
    assert fresh.load_checkpoint(load_best=True)
    assert (fresh.state.global_step, fresh.state.metrics["score"]) == (2, 5)
    assert len(trainer.run.steps) == 6
    repo = at(Path(project.path))
    said = repo.run("coral", "experiment", "promote", "fit/1", "first", code=2).stderr.decode()
    assert "no checkpoint of step 1" in said
    assert "kept: 2, 5, 6" in said
    repo.coral("experiment", "promote", "fit/best", "winner", "--metric", "max:score")
    repo.git("checkout", "-q", "winner")
    other = network(1)
    assert load(other, project, ref="winner") == []
    assert (repo.path / "model.safetensors").stat().st_size > 4000
    repo.coral("experiment", "delete", "fit")
    assert repo.git("for-each-ref", "refs/coral") == ""


def length_of(folder: Path) -> int:
    return sum(one.stat().st_size for one in folder.rglob("*.pack"))


def test_dropped_checkpoints_free_the_store_while_training_goes_on(project, at, safetensors, assert_healthy):
    repo = at(Path(project.path))
    packs, trash = (repo.path / ".git/coral" / name for name in ("objects/packs", "trash"))
    repo.write("model.safetensors", safetensors({"old": np.arange(5000, dtype=np.float32)}))
    repo.git("add", "-A")
    repo.git("reset", "-q")  # nothing but an unreachable blob names it, and it was not dropped
    trainer, *rest = prepare(project, save_every_n_steps=1, keep_last_n_checkpoints=1)
    train(trainer, *rest, 1)
    trainer.wait()
    first = length_of(packs)
    repo.git("tag", "kept", trainer.list_checkpoints()[0]["commit_hash"])
    train(trainer, *rest, 29)
    trainer.finish()
    whole = length_of(packs) + length_of(trash)
    assert length_of(packs) < whole / 2
    workspace = project.new_workspace()
    assert free_dropped(workspace, now=time.time() + 1800).deleted == 0
    assert free_dropped(workspace, now=time.time() + 3601).freed_bytes > whole / 2
    workspace.close()
    assert first < length_of(packs) < 6 * first
    assert length_of(trash) == 0
    repo.git("checkout", "-q", "kept", "--", "model.safetensors")
    assert_healthy(repo)


def test_gc_frees_what_was_dropped_and_nothing_that_is_named(project, at, assert_healthy):
    trainer, *rest = prepare(project, save_every_n_steps=1, keep_last_n_checkpoints=1, free_dropped=False)
    train(trainer, *rest, 6)
    trainer.finish()
    repo = at(Path(project.path))
    packs = repo.path / ".git/coral/objects/packs"
    before = length_of(packs)
    repo.coral("gc", "-q")
    assert length_of(packs) == before  # younger than the grace time
    repo.coral("gc", "--prune", "now", "-q")
    assert length_of(packs) < before / 2
    assert_healthy(repo)
    repo.coral("experiment", "delete", "fit")
    repo.coral("gc", "--prune", "now", "-q")
    assert length_of(packs) == 0
    notes = repo.path / ".git/coral/dropped"
    assert len(list(notes.iterdir())) == 6
    repo.git("reflog", "expire", "--expire=now", "--all")
    repo.git("gc", "-q", "--prune=now")
    repo.coral("gc", "-q")
    assert list(notes.iterdir()) == []


def test_a_checkpoint_that_was_dropped_comes_back_when_it_is_named_again(project, at, assert_healthy):
    trainer, *rest = prepare(project, save_every_n_steps=1, keep_last_n_checkpoints=1)
    train(trainer, *rest, 1)
    first = trainer.list_checkpoints()[0]["commit_hash"]
    train(trainer, *rest, 1)
    trainer.finish()
    repo = at(Path(project.path))
    assert length_of(repo.path / ".git/coral/trash") > 0
    repo.git("branch", "again", first)
    other = network(1)
    assert load(other, project, ref="again") == []
    assert_healthy(repo)


def test_who_goes_back_goes_on_from_there(project):
    trainer, *rest = prepare(project, save_every_n_steps=1, keep_last_n_checkpoints=2)
    train(trainer, *rest, 6)
    assert trainer.load_checkpoint(step=5)
    trainer.state.global_step = 2
    train(trainer, *rest, 1)
    assert [one["step"] for one in trainer.list_checkpoints()] == [6, 3]
    fresh, *_ = prepare(project)
    assert fresh.load_checkpoint()
    assert fresh.state.global_step == 3


def test_epochs_best_metrics_and_early_stopping(project):
    trainer, *_ = prepare(
        project, save_on_best_metric="val", minimize_metric=True, early_stopping_patience=2,
        commit_message_template="epoch {epoch}: {val} {nothing}",
    )  # fmt: skip
    seen = []
    trainer.add_callback("best_metric", lambda _, value: seen.append(value))
    trainer.add_callback("epoch_end", lambda trainer: seen.append(f"epoch {trainer.state.epoch}"))
    for epoch, value in enumerate((3.0, 2.0, 2.5, 2.25)):
        trainer.epoch_end(epoch, val=value)
        trainer.state.global_step += 1
    assert trainer.training_stopped
    assert seen == [3.0, "epoch 1", 2.0, "epoch 2", "epoch 3", "epoch 4"]
    assert [one["message"] for one in trainer.list_checkpoints()] == [
        "epoch 1: 3.0 {nothing}",
        "epoch 2: 2.0 {nothing}",
    ]
    assert trainer.get_training_summary()["best_metric"] == 2.0
    with pytest.raises(UsageError, match="no event 'lunch'"):
        trainer.add_callback("lunch", print)


def test_a_save_that_fails_warns_and_the_training_goes_on(project, monkeypatch):
    def fail(*_, **__):
        raise GitError("the disk is gone")

    trainer, *rest = prepare(project, save_every_n_steps=1)
    with monkeypatch.context() as patched:
        patched.setattr(checkpointing, "commit_checkpoint", fail)
        train(trainer, *rest, 1)
        with pytest.warns(RuntimeWarning, match="not saved: step 1 of the run 'fit': the disk is gone"):
            trainer.wait()
    train(trainer, *rest, 1)
    trainer.wait()
    assert [one["step"] for one in trainer.list_checkpoints()] == [2]


def test_a_save_that_fails_stops_a_strict_training(project, monkeypatch):
    def fail(*_, **__):
        raise GitError("the disk is gone")

    monkeypatch.setattr(checkpointing, "commit_checkpoint", fail)
    trainer, *rest = prepare(project, save_every_n_steps=1, strict=True)
    train(trainer, *rest, 1)
    with pytest.raises(GitError, match="the disk is gone"):
        trainer.wait()


def test_killed_in_the_middle(project, at, tmp_path, assert_healthy):
    script = tmp_path / "train.py"
    script.write_text(
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import test_trainer as t\n"
        "from coral_git import Repository\n"
        "trainer, *rest = t.prepare(Repository(sys.argv[2]), save_every_n_steps=1)\n"
        "print('ready', flush=True)\n"
        "t.train(trainer, *rest, 10_000)\n"
    )
    process = subprocess.Popen(
        [sys.executable, script, Path(__file__).parent, project.path], stdout=subprocess.PIPE, cwd=tmp_path
    )
    assert process.stdout is not None
    process.stdout.readline()
    repo = at(Path(project.path))
    while len(repo.git("for-each-ref", "refs/coral/checkpoints").splitlines()) < 3:
        assert process.poll() is None
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    trainer, *_ = prepare(project)
    for one in trainer.list_checkpoints():
        again, *others = prepare(project)
        assert again.load_checkpoint(one["commit_hash"])
        assert again.state.global_step == one["step"]
        assert len(train(again, *others, 1)) == 1
    repo.coral("gc", "--prune", "now", "-q")  # what the killed process was writing
    assert_healthy(repo)


def test_models_are_saved_and_loaded(project):
    model, other = network(0), network(1)
    commit = save(torch.compile(model, backend="eager"), project, "first", metrics={"loss": 1.5})
    assert project.get_commit(commit).metadata.metrics == {"loss": 1.5}
    assert load(other, project) == []
    assert all(map(torch.equal, model.state_dict().values(), other.state_dict().values()))
    half = network(2).to(torch.bfloat16)
    load(half, project, ref=commit)
    assert torch.equal(half[0].weight, model[0].weight.to(torch.bfloat16))
    smaller = torch.nn.Sequential(torch.nn.Linear(24, 48))
    with pytest.raises(UsageError, match="do not have the same tensors"):
        load(smaller, project)
    assert "4.weight" in load(smaller, project, strict=False)
    with pytest.raises(UsageError, match=r"tensor '0.weight' is \(48, 24\), not \(48, 23\)"):
        load(torch.nn.Sequential(torch.nn.Linear(23, 48)), project, strict=False)


def test_there_is_nothing_to_go_on_from(project):
    trainer, *_ = prepare(project)
    assert not trainer.load_checkpoint()
    assert not trainer.load_checkpoint(load_best=True)


class Tied(torch.nn.Module):
    """A head that is the embedding, a layer that is compiled alone, and a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(64, 16, dtype=torch.bfloat16)
        self.inner = torch.compile(torch.nn.Linear(16, 16, dtype=torch.bfloat16), backend="eager")
        self.head = torch.nn.Linear(16, 64, bias=False, dtype=torch.bfloat16)
        self.head.weight = self.embed.weight
        self.register_buffer("seen", torch.tensor(7))


def test_tied_compiled_and_16_bit_weights_come_back(project, at, assert_healthy):
    torch.manual_seed(0)
    model = Tied()
    trainer = CoralTrainer(model, project, "tied")
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    trainer.set_scaler(scaler)
    trainer.add_state("loader", torch.nn.Embedding(2, 2))
    with pytest.raises(UsageError, match="there is a state 'loader' already"):
        trainer.add_state("loader", torch.nn.Embedding(2, 2))
    with pytest.raises(UsageError, match="int has no state_dict"):
        trainer.add_state("number", 3)
    saved = trainer.save_checkpoint().result()
    names = ["embed.weight", "head.weight", "inner.bias", "inner.weight", "seen"]
    assert sorted(project.list_weights(saved.oid)) == names
    tensors = project.get_all_weights(saved.oid)
    assert tensors["head.weight"].compute_hash() == tensors["embed.weight"].compute_hash()
    torch.manual_seed(1)
    other = Tied()
    again = CoralTrainer(other, project, "tied")
    other_scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    again.set_scaler(other_scaler)
    assert again.load_checkpoint()
    assert all(map(torch.equal, model.state_dict().values(), other.state_dict().values()))
    assert other.head.weight is other.embed.weight
    assert other_scaler.get_scale() == 1024.0
    assert_healthy(at(Path(project.path)))


def test_the_best_checkpoint_has_a_tag_and_callbacks_hear_of_commits(project, at):
    trainer, *_ = prepare(project, save_on_best_metric="val", save_every_n_steps=2)
    heard = []
    trainer.add_callback("checkpoint_save", lambda _, commit: heard.append(commit))
    trainer.register_checkpoint_callback(lambda state, commit: heard.append((state.epoch, commit)))
    for value in (3.0, 2.0, 2.5):
        trainer.step(value)
        trainer.epoch_end(val=value)
    trainer.wait()
    found = trainer.list_checkpoints()
    assert [(one["step"], one["epoch"], one["is_best"]) for one in found] == [(1, 1, False), (2, 2, True)]
    assert at(Path(project.path)).git("rev-parse", "fit_best^{commit}") == found[1]["commit_hash"]
    assert heard[-1] == (3, found[1]["commit_hash"])
    assert heard[0] == found[0]["commit_hash"]
    summary = trainer.get_training_summary()
    assert (summary["model_name"], summary["num_parameters"]) == ("Sequential", 1492)
    assert (summary["best_checkpoint"], summary["learning_rate"]) == (found[1]["commit_hash"], 1e-3)


def test_checkpoints_stored_whole_take_more(project, at):
    taken = {}
    for name, is_incremental in (("whole", False), ("small", True)):
        trainer, *rest = prepare(project, name, save_every_n_steps=1, use_incremental_saves=is_incremental)
        before = length_of(Path(project.path))
        train(trainer, *rest, 4)
        trainer.finish()
        taken[name] = length_of(Path(project.path)) - before
    assert taken["small"] < 0.95 * taken["whole"]


def test_without_auto_commit_the_index_has_it(project, at, assert_healthy):
    repo = at(Path(project.path))
    trainer, *rest = prepare(project, auto_commit=False, save_every_n_steps=2)
    train(trainer, *rest, 2)
    trainer.wait()
    assert trainer.list_checkpoints() == []
    assert repo.git("ls-files").split() == [
        ".gitattributes", "model.safetensors", "training_state.safetensors",
    ]  # fmt: skip
    project.commit("by hand")
    assert load(network(1), project) == []
    assert_healthy(repo)


@pytest.mark.parametrize("strict", [False, True])
def test_a_state_that_cannot_be_kept_is_named(project, strict):
    class Odd:
        def state_dict(self):
            return {"object": object()}

        def load_state_dict(self, state):
            raise AssertionError

    trainer, *rest = prepare(project, save_every_n_steps=1, strict=strict)
    trainer.add_state("odd", Odd())
    expected = "'parts.odd.object' of the state of the training is of the type object"
    if strict:
        with pytest.raises(UsageError, match=expected):
            train(trainer, *rest, 1)
    else:
        with pytest.warns(RuntimeWarning, match=expected):
            assert len(train(trainer, *rest, 1)) == 1
    assert trainer.list_checkpoints() == []


def test_odd_configurations_are_refused():
    with pytest.raises(UsageError, match="bad keep_last_n_checkpoints 0"):
        CheckpointConfig(keep_last_n_checkpoints=0)
    with pytest.raises(UsageError, match="early_stopping_patience of which metric"):
        CheckpointConfig(early_stopping_patience=3)
    with pytest.raises(UsageError, match=r"bad save_every_n_steps 0\.5"):
        CheckpointConfig(save_every_n_steps=0.5)


def test_who_continues_on_a_branch_keeps_what_is_saved(project):
    config = {"save_every_n_steps": 1, "keep_last_n_checkpoints": 2, "branch": "kept"}
    trainer, *rest = prepare(project, **config)
    train(trainer, *rest, 5)
    trainer.wait()
    again, *others = prepare(project, **config)
    train(again, *others, 2)
    assert [one["step"] for one in again.list_checkpoints()] == [1, 2]


def test_the_best_checkpoint_has_the_metric_or_there_is_none(project):
    trainer, *rest = prepare(project, save_every_n_steps=1, save_on_best_metric="val")
    train(trainer, *rest, 2)
    assert not trainer.load_checkpoint(load_best=True)
    trainer.update_metrics(val=1.0)
    train(trainer, *rest, 1)
    assert trainer.load_checkpoint(load_best=True)
    assert trainer.state.global_step == 3


def test_what_fails_after_a_checkpoint_is_saved_is_no_loss(project, at):
    repo = at(Path(project.path))
    repo.git("update-ref", "refs/tags/fit_best/taken", repo.git("commit-tree", repo.git("mktree"), "-m", "x"))
    trainer, *rest = prepare(project, save_on_best_metric="val", keep_last_n_checkpoints=1)
    told = []
    trainer.add_callback("checkpoint_save", lambda _, commit: told.append(commit))
    train(trainer, *rest, 1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.epoch_end(val=1.0)
        trainer.wait()
    assert [str(one.message)[:41] for one in caught] == ["the checkpoint at step 1 is saved, but th"]
    assert [one["commit_hash"] for one in trainer.list_checkpoints()] == told


def test_the_tag_of_the_best_checkpoint_is_not_signed(project, at):
    repo = at(Path(project.path))
    for key, value in (("tag.gpgSign", "true"), ("gpg.program", "false")):
        repo.git("config", key, value)
    trainer, *rest = prepare(project, save_on_best_metric="val")
    train(trainer, *rest, 1)
    trainer.epoch_end(val=1.0)
    trainer.wait()
    assert repo.git("tag") == "fit_best"
    repo.coral("experiment", "promote", "fit/best", "chosen")
    assert repo.git("rev-parse", "chosen") == repo.git("rev-parse", "fit_best^{commit}")


def test_a_run_that_had_ended_ends_again(project):
    said = []

    class Bridge:
        def start(self, run, parameters):
            said.append("start")

        def log_checkpoint(self, commit_hash, step, metrics):
            said.append(step)

        def finish(self, status):
            said.append(status)

    for _ in range(2):
        trainer = CoralTrainer(network(), project, "twice", experiment_bridge=Bridge())
        with trainer:
            trainer.load_checkpoint()
            trainer.step(0.5)
            trainer.save_checkpoint()
        assert trainer.run.status == "finished"
    assert said == ["start", 1, "finished", "start", 2, "finished"]


def test_odd_models_and_metrics_are_named(project):
    class Graph(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("edges", torch.eye(3).to_sparse())

    trainer = CoralTrainer(Graph(), project, "odd")
    with pytest.warns(RuntimeWarning, match="tensor 'edges' is no plain tensor"):
        trainer.save_checkpoint()
    with pytest.raises(UsageError, match="'top 1' is no name of a metric"):
        trainer.step(0.5, **{"top 1": 0.5})


def test_views_that_are_conjugated_come_back_so(project):
    class Waves(torch.nn.Module):
        def __init__(self):
            super().__init__()
            values = torch.arange(4.0).view(torch.complex64)
            self.register_buffer("one", values)
            self.register_buffer("two", values.conj())

    model, other = Waves(), Waves()
    trainer = CoralTrainer(model, project, "waves")
    trainer.save_checkpoint().result()
    with torch.no_grad():
        other.one.zero_()
    other.two = torch.zeros(2, dtype=torch.complex64)
    assert CoralTrainer(other, project, "waves").load_checkpoint()
    assert torch.equal(other.two, model.one.conj())


def test_a_checkpoint_that_does_not_fit_changes_nothing(project):
    trainer, *rest = prepare(project, save_every_n_steps=1)
    train(trainer, *rest, 2)
    trainer.wait()
    model = network(1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    again = CoralTrainer(model, project, "fit")
    again.set_optimizer(torch.optim.SGD(model.parameters(), lr=1e-3))
    with pytest.raises(UsageError, match=r"the state of 'optimizer' does not fit: it has .*betas"):
        again.load_checkpoint()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    for wrong in ({"step": 99}, {"commit_hash": "deadbeef"}):
        with pytest.raises(UsageError, match="the run 'fit' has no such checkpoint"):
            again.load_checkpoint(**wrong)
    with pytest.warns(RuntimeWarning, match="has the state of optimizer, scheduler; nothing was set"):
        assert CoralTrainer(model, project, "fit").load_checkpoint()


def test_who_saves_nothing_hears_of_it(project):
    trainer, *rest = prepare(project, save_on_best_metric="val_los")
    train(trainer, *rest, 1)
    trainer.epoch_end(val_loss=1.0)
    with pytest.warns(RuntimeWarning, match="'val_los' was never measured, but loss, val_loss"):
        trainer.finish()


def test_what_a_program_stores_in_a_clone_is_pushed(project, at, tmp_path, assert_healthy):
    project.stage_weights({"w": torch.zeros(3)})
    project.commit("base")
    hub, clone = tmp_path / "hub.git", tmp_path / "clone"
    repo = at(Path(project.path))
    repo.git("init", "-q", "--bare", "-b", repo.git("branch", "--show-current"), hub)
    repo.git("push", "-q", hub, "HEAD")
    repo.git("clone", "-q", hub, clone, env={"CORAL_SKIP_SMUDGE": "1"})
    (clone / ".git/hooks/pre-push").unlink(missing_ok=True)
    with Repository(clone) as copy:
        assert copy.list_weights("HEAD") == ["w"]
        trainer, *rest = prepare(copy, save_every_n_steps=1)
        train(trainer, *rest, 1)
        trainer.finish()
    other = at(clone)
    other.coral("experiment", "promote", "fit/last", "mine")
    other.git("push", "-q", "origin", "mine")
    last = tmp_path / "last"
    repo.git("clone", "-q", "-b", "mine", hub, last)
    assert (last / "model.safetensors").stat().st_size > 4000
    assert_healthy(at(last), missing=True)


def test_a_full_disk_gives_back_what_was_dropped(project, at, assert_healthy):
    trainer, *rest = prepare(project, save_every_n_steps=1, keep_last_n_checkpoints=1)
    train(trainer, *rest, 5)
    trainer.wait()
    before = length_of(Path(project.path))
    full = iter([True])

    def refuse(name: str, path: str) -> None:
        if name == "write" and "incoming" in path and next(full, False):
            raise OSError(errno.ENOSPC, "no space left on device")

    fsops.set_fault_hook(refuse)
    try:
        train(trainer, *rest, 1)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            trainer.wait()
    finally:
        fsops.set_fault_hook(None)
    assert next(full, None) is None
    assert [one["step"] for one in trainer.list_checkpoints()] == [6]
    assert length_of(Path(project.path)) < before
    assert_healthy(at(Path(project.path)))


@pytest.mark.parametrize("module", ["trainer", "models", "checkpoint_config", "checkpointer"])
def test_examples_of_docstrings(installed, module):
    found = doctest.testmod(importlib.import_module(f"coral_git.integrations.{module}"))
    assert (found.failed, found.attempted > 0) == (0, True)


DISTRIBUTED = """
import sys
import torch, torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
sys.path.insert(0, sys.argv[1])
import test_trainer as t
from coral_git import Repository

rank = int(sys.argv[4])
dist.init_process_group("gloo", init_method=f"file://{sys.argv[3]}", rank=rank, world_size=2)

def prepare(**config):
    trainer, *rest = t.prepare(Repository(sys.argv[2]), **config)
    trainer.model = DistributedDataParallel(trainer.model)
    return trainer, *rest

trainer, *rest = prepare(save_every_n_steps=3)
torch.manual_seed(100 + rank)
whole = t.train(trainer, *rest, 6)
again, *others = prepare()
torch.manual_seed(5)
assert again.load_checkpoint(step=3)
assert t.train(again, *others, 3) == whole[3:], rank
best, *rest = prepare(save_on_best_metric="val", early_stopping_patience=1)
for value in ((1.0, 1.0), (0.5, 2.0), (0.75, 0.25)):
    best.epoch_end(val=value[rank])
assert best.training_stopped and best.state.best == 0.5, (rank, best.state)
trainer.finish()
dist.destroy_process_group()
"""


def test_several_processes_save_one_checkpoint_and_go_on_each_for_itself(
    project, at, tmp_path, assert_healthy
):
    script = tmp_path / "train.py"
    script.write_text(DISTRIBUTED)
    words = [sys.executable, script, Path(__file__).parent, project.path, tmp_path / "meeting"]
    processes = [subprocess.Popen([*words, str(number)], cwd=tmp_path) for number in range(2)]
    assert [process.wait(120) for process in processes] == [0, 0]
    alone, *_ = prepare(project)
    assert [one["step"] for one in alone.list_checkpoints()] == [3, 6, 0]
    with pytest.warns(RuntimeWarning, match="of 2 processes, these are 1"):
        assert alone.load_checkpoint()
    assert "0.weight" in project.list_weights(alone.list_checkpoints()[0]["commit_hash"])
    assert_healthy(at(Path(project.path)))
