"""``coral_git.Repository`` and ``coral_git.open``: git and programs see the same repository."""

from __future__ import annotations

import doctest
import importlib
import json
import threading
from pathlib import Path
from pkgutil import iter_modules

import numpy as np
import pytest
import torch
from safetensors.numpy import load as load_safetensors
from safetensors.torch import load as load_torch

import coral_git
from coral_git import DeltaConfig, DeltaType, MergeStrategy, Repository, WeightTensor, api
from coral_git.errors import LockedError, NotARepositoryError, UsageError
from coral_git.store.locks import exclusive_lock


@pytest.fixture
def project(tmp_path, installed):
    with Repository(tmp_path / "models", init=True) as repository:
        yield repository


@pytest.mark.parametrize(
    "module", ["errors", "types", *(f"api.{one.name}" for one in iter_modules(api.__path__))]
)
def test_examples_of_docstrings(installed, module):
    done = doctest.testmod(importlib.import_module(f"coral_git.{module}"))
    assert done.failed == 0


def test_every_class_that_programs_import_has_an_example():
    exported = [getattr(coral_git, name) for name in coral_git.__all__ if name != "__version__"]
    assert not [one for one in exported if ">>> " not in (one.__doc__ or "")]


def test_a_session(project, at, assert_healthy):
    random = np.random.default_rng(0)
    first = random.standard_normal((64, 48), np.float32)
    half = torch.ones(8, dtype=torch.bfloat16)
    ids = project.stage_weights({"layer1": first, "half": half, "named": WeightTensor(np.arange(3), "other")})
    base = project.commit("base", metrics={"accuracy": 0.873}, tags=["baseline"], environment=True)
    assert ids["layer1"] == WeightTensor(first, "x").compute_hash()
    assert base.is_root_commit
    assert (base.metadata.message, base.metadata.tags, base.metadata.metrics) == (
        "base",
        ("baseline",),
        {"accuracy": 0.873},
    )
    assert base.metadata.environment["python"]
    project.create_branch("exp")
    project.checkout("exp")
    project.stage_weights({"layer1": first + 1})
    project.commit("exp", author="Ada", email="ada@example.org")
    project.checkout("main")
    assert np.array_equal(project.get_weight("layer1").data, first)
    project.stage_weights({"layer1": first + 3})
    project.commit("main")
    merged = project.merge("exp", "average both", strategy=MergeStrategy.AVERAGE)
    assert merged.status == "merged"
    assert np.allclose(project.get_weight("layer1", "HEAD").data, first + 2, rtol=1e-6)
    assert torch.equal(project.get_weight("half", "HEAD").torch(), half)
    assert project.get_commit("HEAD").is_merge_commit
    assert project.get_commit("exp").metadata.author == "Ada"
    version = project.tag_version("v1.0", "Production", metrics={"accuracy": 0.9})
    assert (version.description, version.metrics) == ("Production", {"accuracy": 0.9})
    assert [one.name for one in project.list_tags("v*")] == ["v1.0"]
    found = project.find_commits(metric_filter={"accuracy": (">", 0.8)}, tag_filter=["baseline"])
    assert [one.commit_hash for one in found] == [base.commit_hash]
    assert [one.commit_hash for one in project.find_commits(tag_filter=["v1.0"])] == [version.commit_hash]
    assert project.list_branches() == ["exp", "main"]
    assert project.log(1)[0].metadata.message.startswith("average both")
    repo = at(Path(project.path))
    assert repo.status() == ""
    assert load_torch(repo.read("model.safetensors"))["named"].tolist() == [0, 1, 2]
    assert_healthy(repo)


def test_no_file_of_the_work_tree_is_needed(project, at):
    project.stage_weights({"w": np.zeros(4, np.float32)})
    project.commit("one")
    assert not (at(Path(project.path)).path / "model.safetensors").exists()
    assert project.list_weights("HEAD") == ["w"]
    at(Path(project.path)).git("checkout", "--", "model.safetensors")
    project.stage_weights({"v": np.ones(2)})
    assert sorted(load_safetensors(at(Path(project.path)).read("model.safetensors"))) == ["v", "w"]
    at(Path(project.path)).write("model.safetensors", b"mine")
    project.stage_weights({"u": np.ones(2)}, replace=True)
    assert at(Path(project.path)).read("model.safetensors") == b"mine"
    assert project.list_weights() == ["u"]


def test_what_is_staged_is_stored_as_differences(project, at):
    random = np.random.default_rng(1)
    start = random.standard_normal((256, 256), np.float32)
    project.stage_weights({"w": start})
    project.commit("one")
    project.stage_weights({"w": start + np.float32(1e-4) * random.standard_normal(start.shape, np.float32)})
    project.commit("two")
    usage = json.loads(at(Path(project.path)).coral("du", "HEAD", "--json"))
    assert usage[0]["unique_bytes"] < 0.6 * start.nbytes


def test_the_delta_type_that_is_asked_for(tmp_path, installed, at):
    config = DeltaConfig(delta_type=DeltaType.FLOAT32_RAW)
    with Repository(tmp_path / "raw", init=True, delta_config=config) as project:
        project.stage_weights({"w": np.zeros((256, 256), np.float32)})
        project.commit("one")
        codecs = json.loads(at(Path(project.path)).coral("du", "--codecs", "--json"))
    assert "raw" in {one["name"] for one in codecs if one["raw_bytes"] > 200_000}


def test_open_reads_what_is_asked_for(project, monkeypatch):
    weights = {f"layers.{n}.w": np.full((300, 20), n, np.float32) for n in range(3)}
    project.stage_weights(weights)
    project.commit("one")
    with coral_git.open(f"{project.path}@HEAD:model.safetensors") as file:
        assert list(file) == list(weights)
        assert len(file) == 3
        assert np.array_equal(file["layers.1.w"], weights["layers.1.w"])
        assert file.get_torch("layers.2.w").sum() == 12000
        part = file.get_slice("layers.2.w")
        assert (part.get_shape(), part.get_dtype()) == ((300, 20), "F32")
        assert part[10:12].shape == (2, 20)
        assert part[-1].tolist() == [2.0] * 20
        with pytest.raises(KeyError):
            file["nothing"]
        assert part[::2, :3].shape == (150, 3)
        assert part[5, ..., -2:].tolist() == [2.0, 2.0]
    with coral_git.open(f"{project.path}:model.safetensors") as file:
        assert "layers.0.w" in file
    monkeypatch.chdir(project.path)
    with coral_git.open("HEAD:model.safetensors") as file:
        assert file["layers.0.w"].shape == (300, 20)


def test_open_takes_globs(project):
    weights = {f"layers.{n}.{kind}": np.full((3, 2), n, np.float32) for n in range(3) for kind in "wb"}
    weights["layers.*"] = np.zeros(1, np.float32)
    project.stage_weights(weights)
    project.commit("one")
    with coral_git.open(f"{project.path}@HEAD:model.safetensors") as file:
        group = file["layers.1.*"]
        assert list(group) == file.keys("layers.1.*") == ["layers.1.w", "layers.1.b"]
        assert {name: value.tolist() for name, value in dict(group).items()} == {
            "layers.1.w": [[1, 1]] * 3,
            "layers.1.b": [[1, 1]] * 3,
        }
        assert group.get_torch("layers.1.b").shape == (3, 2)
        assert file["layers.*"].shape == (1,)  # a tensor is called so
        assert len(file.get_tensors("layers.*")) == 7
        assert list(file["layers.[01].w"]) == ["layers.0.w", "layers.1.w"]
        assert "layers.1.*" not in file
        assert not file.get_tensors("nothing*")
        for name in ("nothing.*", "layers.1"):
            with pytest.raises(KeyError):
                file[name]
        with pytest.raises(KeyError):
            group["layers.2.w"]


def test_only_what_is_asked_for_is_fetched(project, at, tmp_path):
    weights = {f"w{n}": np.random.default_rng(n).standard_normal((128, 128), np.float32) for n in range(3)}
    for name, value in weights.items():
        project.stage_weights({name: value})
        project.commit(name)
    source = at(Path(project.path))
    source.git("init", "-q", "--bare", tmp_path / "hub")
    source.git("remote", "add", "origin", tmp_path / "hub")
    source.coral("push", "origin", "main")
    source.run("clone", "-q", tmp_path / "hub", tmp_path / "clone", env={"CORAL_SKIP_SMUDGE": "1"})
    with coral_git.open(f"{tmp_path / 'clone'}@HEAD:model.safetensors") as file:
        assert np.array_equal(file["w1"], weights["w1"])
        assert np.array_equal(file["w[02]"]["w2"], weights["w2"])  # w0 came with it
    source.git("-C", tmp_path / "clone", "remote", "remove", "origin")
    with coral_git.open(f"{tmp_path / 'clone'}@HEAD:model.safetensors") as file:
        assert np.array_equal(file["w0"], weights["w0"])


def test_threads_may_read_at_the_same_time(project):
    weights = {f"w{n}": np.full(5000, n, np.float32) for n in range(8)}
    project.stage_weights(weights)
    project.commit("one")
    failures = []

    def read(name):
        for _ in range(10):
            if not np.array_equal(project.get_weight(name, "HEAD").data, weights[name]):
                failures.append(name)

    threads = [threading.Thread(target=read, args=(name,)) for name in weights]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_a_second_writer_is_told(project):
    with (
        exclusive_lock(f"{project.path}/.git/coral-write.lock", "stage weights"),
        pytest.raises(LockedError, match=r"coral-write"),
    ):
        project.stage_weights({"w": np.zeros(2)})


def test_bad_input(project, tmp_path):
    with pytest.raises(UsageError, match="is not tracked"):
        project.stage_weights({"w": np.zeros(2)}, file="model.txt")
    with pytest.raises(UsageError, match="no file of weights"):
        project.get_weight("w", file="gone.safetensors")
    project.stage_weights({"w": np.zeros(2)})
    project.commit("one")
    with pytest.raises(UsageError, match="there is no tensor 'v'"):
        project.get_weight("v")
    with pytest.raises(UsageError, match="nothing to commit"):
        project.commit("again")
    with pytest.raises(UsageError, match="unknown comparison"):
        project.find_commits(metric_filter={"a": ("~", 1)})
    with pytest.raises(UsageError, match="is no name of a metric"):
        project.commit("bad", metrics={"a b": 1})
    project.tag_version("t")
    with pytest.raises(UsageError, match="exists already"):
        project.tag_version("t")


def test_what_is_no_repository_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NotARepositoryError, match=r"'nowhere@v1:model\.safetensors' names no repository"):
        coral_git.open("nowhere@v1:model.safetensors")


def test_tensors_have_texts_for_names(project):
    with pytest.raises(UsageError, match="the name of a tensor is a text, not 1"):
        project.stage_weights({1: np.zeros(2)})
    with pytest.raises(UsageError, match="a list is no mapping of names to arrays"):
        project.stage_weights([np.zeros(2)])
    assert project.workspace.git.run("ls-files", "model.safetensors") == b""
