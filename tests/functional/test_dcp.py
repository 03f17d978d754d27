"""Distributed checkpoints: saved by several processes, loaded by any number, whole whatever is killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import load_file

from coral_git import Repository
from coral_git.errors import CoralError, FormatVersionError, IntegrityError, UsageError
from coral_git.formats.safetensors_writer import safetensors_header
from coral_git.integrations.dcp import (
    CheckpointConfig,
    CoralStorageReader,
    CoralStorageWriter,
    consolidate,
    export_full,
    full_tensors,
    load_plain,
)
from coral_git.integrations.dcp_commit import NewDistributed, commit_distributed
from coral_git.integrations.dcp_index import INDEX, Chunk, Index, IndexedTensor, rank_file
from coral_git.integrations.dcp_torch import shard_data
from coral_git.pipeline.memory_source import MemorySource
from coral_git.repository import checkpointing
from coral_git.testing.faults import fail_each

from . import dcp_job

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")


class Done:
    """What a job of two processes has left behind, and then one of three.

    Attributes:
        repo: the repository.
        folder: what the processes wrote down.
    """

    def __init__(self, repo, folder: Path) -> None:
        self.repo = repo
        self.folder = folder
        source = Path(__file__).parents[2]
        path = os.pathsep.join(filter(None, [str(source), os.environ.get("PYTHONPATH")]))
        jobs = subprocess.run(
            [sys.executable, dcp_job.__file__, folder, repo.path],
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "LOCAL_WORLD_SIZE": "2"},
            capture_output=True,
            text=True,
            check=False,
        )
        self.said = jobs.stdout + jobs.stderr
        assert jobs.returncode == 0, self.said

    def note(self, name: str):
        return json.loads((self.folder / f"{name}.json").read_text())


@pytest.fixture(scope="module")
def done(make_shared, tmp_path_factory) -> Done:
    folder = tmp_path_factory.mktemp("job")
    repo = make_shared(lambda repo: repo.commit("empty"))
    result = Done(repo, folder)
    for file in (repo.path / ".git/coral/objects/incoming").iterdir():
        file.unlink()  # what the killed process was writing; gc removes it after a while
    return result


def blank_like(state):
    return dcp_job.blank(state)


# Jobs of several processes


def test_a_killed_process_leaves_whole_checkpoints_only(done):
    jobs = done.note("jobs")
    assert jobs["two"] == [0, -9], done.said
    assert done.note("killed-0") != "it was saved"
    kept = [f"refs/coral/checkpoints/fit/{step:012}" for step in (1, 2, 3, 4)]
    assert jobs["refs"] == [*kept, "refs/coral/runs/fit"]
    assert jobs["three"] == [0, 0, 0], done.said
    assert done.repo.git("rev-parse", "--verify", "refs/coral/checkpoints/fit/000000000005")


def test_what_fails_in_one_process_fails_in_all(done):
    for rank in (0, 1):
        odd, full = done.note(f"failures-{rank}")
        assert "'odd' cannot be kept" in odd
        assert "no space left" in full


@pytest.mark.parametrize("step", [1, 2, 3, 4])
def test_any_number_of_processes_loads_the_same_bits(done, step):
    saved = done.note(f"step-{step}")
    assert len(saved) > 30
    assert step != 1 or done.note("same-1") == saved
    assert done.note(f"loaded-{step}") == saved
    state = blank_like(dcp_job.state_of(*plain_training()))
    dcp.load(state, storage_reader=CoralStorageReader(done.repo.path, "fit"), checkpoint_id=step)
    assert dcp_job.digests(state) == saved
    assert dcp_job.digests(load_plain(done.repo.path, "fit", step=step)) == saved


def plain_training():
    model = dcp_job.network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    return model, optimizer


def test_steps_differ_and_are_numbered(done):
    notes = [json.dumps(done.note(f"step-{step}")) for step in (1, 2, 3, 4)]
    assert len(set(notes)) == 4
    assert done.note("step-5") == done.note("step-4")
    log = done.repo.git("log", "--format=%s", "refs/coral/runs/fit").splitlines()
    assert log == ["step 5", "step 4", "step 3", "step 2", "step 1", "start fit", "empty"]
    assert done.repo.coral("experiment", "show", "fit").count("loss") >= 1


def test_a_second_save_stores_differences(done):
    tensors = done.repo.manifest(f"refs/coral/checkpoints/fit/000000000002:{rank_file(0)}").tensors
    weight = next(one for one in tensors if one.name == "model.0.weight@0,0")
    with done.repo.store() as store:
        (entry,) = weight.objects
        location = store.locate(entry)
    assert location.base is not None
    assert location.entry_length < 0.6 * 4 * np.prod(weight.shape)


def test_nothing_is_pickled(done):
    """Only manifests, the index and attributes are in git; and no pickle is in the store."""
    revision = "refs/coral/checkpoints/fit/000000000004"
    names = done.repo.git("ls-tree", "-r", "--name-only", revision).splitlines()
    assert names == [".gitattributes", INDEX, rank_file(0), rank_file(1)]
    index = done.repo.blob(f"{revision}:{INDEX}")
    assert json.loads(index)["coral_distributed"] == 1
    assert index.isascii()
    for step in (1, 4):
        for rank in (0, 1):
            manifest = done.repo.manifest(f"refs/coral/checkpoints/fit/{step:012}:{rank_file(rank)}")
            assert manifest.format == "safetensors/1"
            assert {"BF16", "F8_E5M2", "F16", "F64", "BOOL", "I64", "U32"} & {
                one.dtype.name for one in manifest.tensors
            }


def test_copies_are_stored_once(done):
    index = json.loads(done.repo.blob(f"refs/coral/checkpoints/fit/000000000004:{INDEX}"))
    assert [len(index["tensors"][f"tensors.{name}"]["chunks"]) for name in ("columns", "copies", "tied")] == [
        2,
        1,
        1,
    ]
    assert [one[1] for one in index["tensors"]["tensors.columns"]["chunks"]] == [[0, 0], [0, 21]]


def test_others_read_one_ordinary_file(done, tmp_path):
    repo = done.repo
    expected = {
        name.removeprefix(".model."): one for name, one in done.note("step-3").items() if ".model." in name
    }
    out = tmp_path / "model.safetensors"
    assert export_full(repo.path, "fit", out, step=3, prefix="model.") == len(expected) == 6
    assert dcp_job.digests(load_file(out)) == {f".{name}": one for name, one in expected.items()}
    with pytest.raises(UsageError, match="exists"):
        export_full(repo.path, "fit", out, step=3)
    commit = consolidate(repo.path, "fit", step=3, prefix="model.", tag="shipped")
    assert repo.git("rev-parse", "shipped^{commit}") == commit
    assert repo.git("ls-tree", "-r", "--name-only", "shipped").split() == [
        ".gitattributes",
        "model.safetensors",
    ]
    assert repo.git("rev-parse", "shipped^") == repo.git(
        "rev-parse", "refs/coral/checkpoints/fit/000000000003"
    )
    repo.coral("export", "shipped:model.safetensors", tmp_path / "other.safetensors")
    assert (tmp_path / "other.safetensors").read_bytes() == out.read_bytes()
    with pytest.raises(UsageError, match="'shipped' exists already"):
        consolidate(repo.path, "fit", tag="shipped")


# One process


@pytest.fixture
def project(tmp_path, installed):
    with Repository(tmp_path / "models", init=True) as repository:
        yield repository


def save(project, state, step=None, *, run="fit", planner=None, **options) -> None:
    writer = CoralStorageWriter(project, run, **options)
    dcp.save(state, storage_writer=writer, checkpoint_id=step, planner=planner)


def load(project, state, run="fit", **which):
    dcp.load(state, storage_reader=CoralStorageReader(project, run, **which))
    return state


def test_which_checkpoint_is_loaded_and_which_are_kept(project, at, assert_healthy):
    config = CheckpointConfig(
        keep_last_n_checkpoints=2, keep_best_n_checkpoints=1, save_on_best_metric="loss"
    )
    repo = at(Path(project.path))
    for step, loss in enumerate((0.5, 0.1, 0.3, 0.4), 1):
        save(
            project,
            {"w": torch.full((4,), float(step))},
            step,
            metrics={"loss": loss},
            config=config,
            epoch=step,
        )
    kept = repo.git("for-each-ref", "--format=%(refname:lstrip=-1)", "refs/coral/checkpoints")
    assert [int(one) for one in kept.split()] == [2, 3, 4]
    assert repo.git("log", "-1", "--format=%s", "fit_best") == "Checkpoint at epoch 2, step 2"
    commit = repo.git("rev-parse", "refs/coral/checkpoints/fit/000000000003")
    best = {"best": True, "config": config}
    asked = ({}, best, {"step": 3}, {"commit_hash": commit[:12]}, {"revision": "fit_best"})
    found = [load(project, {"w": torch.zeros(4)}, **which)["w"][0].item() for which in asked]
    assert found == [4, 2, 3, 3, 2]
    state = {"w": torch.zeros(4)}
    reader = CoralStorageReader(project, "fit", config=config)
    for name, expected in (("best", 2), ("last", 4), (3, 3), ("fit_best", 2)):
        dcp.load(state, storage_reader=reader, checkpoint_id=name)
        assert state["w"][0] == expected
    assert repo.git("for-each-ref", "refs/heads") == ""
    assert repo.status() == "A  .gitattributes"
    with pytest.raises(dcp.CheckpointException, match="the run 'fit' has no such checkpoint"):
        load(project, {"w": torch.zeros(4)}, step=1)
    with pytest.raises(UsageError, match="a checkpoint of which run"):
        load_plain(project)
    with pytest.raises(UsageError, match="has no distributed checkpoint"):
        load_plain(project, revision="refs/coral/runs/fit")
    assert_healthy(repo)


def test_the_best_is_what_the_writer_said_and_an_id_is_for_one_load(project):
    config = CheckpointConfig(save_on_best_metric="accuracy", minimize_metric=False)
    for step, value in enumerate((0.1, 0.9, 0.3), 1):
        save(project, {"n": step}, step, metrics={"accuracy": value}, config=config)
    assert load_plain(project, "fit", best=True)["n"] == 2
    reader, found = CoralStorageReader(project, "fit"), {"n": 0}
    dcp.load(found, storage_reader=reader, checkpoint_id=1)
    assert found == {"n": 1}
    dcp.load(found, storage_reader=reader)
    assert found == {"n": 3}
    with pytest.raises(UsageError, match="has no such checkpoint"):
        load_plain(project, "fit", best=True, config=CheckpointConfig(save_on_best_metric="speed"))


def test_two_processes_are_not_taken_for_one(project):
    writer = CoralStorageWriter(project, "fit", step=1)
    writer.set_up_storage_writer(True)
    written = []
    for value in (1.0, 2.0):
        planner = dcp.DefaultSavePlanner()
        planner.set_up_planner({"w": torch.tensor([value])}, is_coordinator=True)
        plan, metadata = planner.create_global_plan([planner.create_local_plan()])
        written.append(writer.write_data(planner.finish_plan(plan[0]), planner).wait())
    with pytest.raises(CoralError, match="two processes have the same rank"):
        writer.finish(metadata, written)


def test_checkpoint_ids():
    accepts = CoralStorageWriter.validate_checkpoint_id
    assert [accepts(one) for one in (0, "17", 10**12, "1e3", "²", -1, Path("/tmp/x"), "/tmp/x", True)] == [
        True, True, False, False, False, False, False, False, False
    ]  # fmt: skip
    accepts = CoralStorageReader.validate_checkpoint_id
    assert [accepts(one) for one in (7, "main", "best", "-x", "a\nb", Path("/tmp/x"))] == [
        True, True, True, False, False, False
    ]  # fmt: skip


def test_what_cannot_be_kept_is_named(project, at):
    class Planner(dcp.DefaultSavePlanner):
        def lookup_object(self, index):
            found = super().lookup_object(index)
            return found.double() if index.fqn == "w" else found

    cases = (
        (
            {"a": {"b": object()}},
            None,
            "'a.b' cannot be kept: '' of the state of the training is of the type object",
        ),
        ({"z": torch.zeros(2, dtype=torch.complex128)}, None, "tensor 'z' has the dtype torch.complex128"),
        ({"z": torch.zeros(2, 2).to_sparse()}, None, "tensor 'z' is no plain tensor"),
        ({"z": (1, torch.zeros(2, 2).to_sparse())}, None, "tensor 'z@1' is no plain tensor"),
        ({"\udc80": torch.zeros(2)}, None, r"'\\udc80' cannot be the name of a tensor"),
        ({"x" * 1000: torch.zeros(2)}, None, "'x+' cannot be the name of a tensor"),
        ({"n": 10**5000}, None, "this state cannot be kept: Exceeds the limit"),
        ({"a@0": torch.zeros(2), "a": (torch.zeros(1),)}, None, "two tensors would be called 'a@0'"),
        ({"w": torch.zeros(2)}, Planner(), "tensor 'w' is not what was planned"),
    )
    for state, planner, message in cases:
        with pytest.raises(dcp.CheckpointException, match=message):
            save(project, state, planner=planner)
    with pytest.raises(UsageError, match="no number of a step"):
        save(project, {}, "one")
    with pytest.raises(UsageError, match="is no name of a metric"):
        save(project, {}, metrics={"a b": 1})
    with pytest.raises(dcp.CheckpointException, match="no name git would take"):
        save(project, {"w": torch.zeros(1)}, run="a..b")
    assert at(Path(project.path)).git("for-each-ref", "refs/coral/checkpoints") == ""


def test_what_a_clone_lacks_is_fetched(project, at, tmp_path, assert_healthy):
    table = torch.arange(1 << 20, dtype=torch.int32).reshape(-1, 64)
    save(project, {"table": table, "other": torch.ones(1000)}, 1)
    repo = at(Path(project.path))
    repo.git("commit", "-qm", "attributes")
    repo.git("init", "-q", "--bare", tmp_path / "remote.git")
    repo.git("remote", "add", "origin", tmp_path / "remote.git")
    repo.coral("experiment", "push", "fit")
    clone = at(tmp_path / "clone")
    repo.git("clone", "-q", tmp_path / "remote.git", clone.path, cwd=tmp_path)
    clone.git("fetch", "-q", "origin", "refs/coral/runs/*:refs/coral/runs/*")
    clone.git("fetch", "-q", "origin", "refs/coral/checkpoints/*:refs/coral/checkpoints/*")
    state = load(clone.path, {"other": torch.zeros(1000)})
    assert state["other"].sum() == 1000
    assert load(clone.path, {"table": torch.zeros_like(table)})["table"].equal(table)
    (joined,) = (one for one in full_tensors(clone.path, "fit") if one.name == "table")
    assert bytes(joined.read(40, 8)) == np.array([10, 11], "<i4").tobytes()
    assert_healthy(repo)


# Hostile indexes

W = {"dtype": "F32", "shape": [4, 2], "requires_grad": False, "chunks": [[0, [0, 0], [4, 2]]]}
INDEX_OF_W = {
    "coral_distributed": 1,
    "tensors": {"w": W},
    "values": {"v": {"rank": 0, "value": ["t", [1, ["x", "1"]]]}},
    "paths": {"w": ["w"], "v": ["v"]},
}


def changed(place: str, value: object) -> bytes:
    """The index with something else at a place."""
    index = json.loads(json.dumps(INDEX_OF_W))
    *path, last = place.split("/")
    inner = index
    for part in path:
        inner = inner[int(part) if part.isdigit() else part]
    if value is None:
        del inner[last]
    else:
        inner[int(last) if last.isdigit() else last] = value
    return json.dumps(index).encode()


HOSTILE: dict[str, Callable[[], bytes]] = {
    "no JSON": lambda: b"\x80\x04N.",
    "another dtype": lambda: changed("tensors/w/dtype", "I32"),
    "huge and claimed": lambda: changed(
        "tensors/w", {**W, "shape": [1 << 50], "chunks": [[0, [0], [1 << 50]]]}
    ),
    "another process": lambda: changed("tensors/w/chunks", [[1, [0, 0], [4, 2]]]),
    "other chunks": lambda: changed("tensors/w/chunks", [[0, [0, 0], [2, 2]], [0, [2, 0], [2, 2]]]),
    "an odd value": lambda: changed("values/v/value", ["?", 1]),
    "a missing tensor": lambda: changed("values/v/value", ["x", "2"]),
    "a float out of range": lambda: changed("values/v/value", ["f", "0x1p999999"]),
    "an odd key": lambda: changed("values/v/value", ["d", [[["l", []], 1]]]),
}


@pytest.fixture
def forge(project, at):
    """Puts other bytes where the index of a checkpoint was: ``forge(data)``."""
    save(project, {"w": torch.ones(4, 2), "v": (1, torch.arange(3))}, 1)
    repo = at(Path(project.path))
    ref = "refs/coral/checkpoints/fit/000000000001"
    whole = repo.git("rev-parse", ref)

    def put(data: bytes) -> None:
        blob = repo.git("hash-object", "-w", "--stdin", data=data)
        environment = {"GIT_INDEX_FILE": str(repo.path / ".git/forged")}
        repo.git("read-tree", whole, env=environment)
        repo.git("update-index", "--cacheinfo", f"100644,{blob},{INDEX}", env=environment)
        tree = repo.git("write-tree", env=environment)
        repo.git("update-ref", ref, repo.git("commit-tree", tree, "-p", whole, data=b"forged"))

    return put


def test_a_hostile_index_is_refused(project, forge):
    forge(json.dumps(INDEX_OF_W).encode())
    assert load_plain(project, "fit")["w"].sum() == 8
    for name, make in HOSTILE.items():
        forge(make())
        with pytest.raises((IntegrityError, UsageError)):  # noqa: PT012
            load_plain(project, "fit")
            pytest.fail(f"{name} was read")
        state = {"w": torch.zeros(4, 2), "v": None}
        with pytest.raises(dcp.CheckpointException):  # noqa: PT012
            load(project, state)
            pytest.fail(f"{name} was loaded")
    forge(changed("coral_distributed", 2))
    with pytest.raises(FormatVersionError, match="version 2"):
        load_plain(project, "fit")


def test_every_write_may_fail(tmp_path, at, installed, assert_healthy):
    def prepare() -> Repository:
        repository = Repository(tmp_path / f"models-{len(list(tmp_path.iterdir()))}", init=True)
        save(repository, {"w": torch.ones(300), "v": (1, torch.arange(3))}, 1)
        return repository

    def operate(repository: Repository) -> None:
        try:
            save(repository, {"w": torch.full((300,), 2.0), "v": (2, torch.arange(4))}, 2)
        except dcp.CheckpointException as error:
            raise CoralError("it was not saved") from error

    def verify(repository: Repository, ended_well: bool) -> None:
        repo = at(Path(repository.path))
        kept = repo.git("for-each-ref", "refs/coral/checkpoints").splitlines()
        assert len(kept) == 2 if ended_well else len(kept) in (1, 2)
        state = load_plain(repository, "fit")
        assert state["w"].sum() == 300 * len(kept)
        assert state["v"][1].tolist() == list(range(2 + len(kept)))
        save(repository, {"w": torch.full((300,), 5.0)}, 3)
        assert load_plain(repository, "fit")["w"].sum() == 1500
        assert_healthy(repo)
        repository.close()

    assert fail_each(operate, prepare, verify, step=5) > 2


def test_columns_are_put_together(project, at):
    """Rows that go through several files, read by several threads when they are stored as one."""
    table = torch.randn(2100, 701)
    cuts = [(0, 333), (333, 334), (334, 701)]
    save(project, {"table": table}, 1)
    workspace = project.new_workspace()
    files, chunks = {}, []
    for rank, (first, last) in enumerate(cuts):
        part = shard_data(f"table@0,{first}", table[:, first:last])
        header, ordered = safetensors_header([part], {})
        source = MemorySource(header, ordered)
        files[rank_file(rank).encode()] = checkpointing.store_file(workspace, "fit", rank_file(rank), source)
        chunks.append(Chunk(rank, (0, first), (2100, last - first)))
    tensor = IndexedTensor(part.dtype, (2100, 701), False, tuple(chunks))
    new = NewDistributed("fit", 2, None, {})
    commit_distributed(workspace, new, CheckpointConfig(), Index({"table": tensor}, {}, None), files)
    workspace.close()
    consolidate(project, "fit", tag="whole")
    assert project.get_weight("table", "whole").torch().equal(table)
    assert load_plain(project, "fit")["table"].equal(table)
    assert load(project, {"table": torch.zeros_like(table)}, step=2)["table"].equal(table)
    (joined,) = full_tensors(project, "fit")
    assert (
        bytes(joined.read(4 * 701 * 900 + 8, 1 << 20))
        == table.numpy().tobytes()[4 * 701 * 900 + 8 :][: 1 << 20]
    )


def test_files_for_the_index_and_for_a_branch(project, at):
    repo = at(Path(project.path))
    repo.git("rm", "-qf", ".gitattributes")
    save(project, {"w": torch.ones(3)}, 7, config=CheckpointConfig(auto_commit=False))
    assert repo.git("diff", "--cached", "--name-only").splitlines() == [".gitattributes", INDEX, rank_file(0)]
    repo.git("commit", "-qm", "by hand")
    assert load(project, {"w": torch.zeros(3)}, revision="HEAD")["w"].sum() == 3
    repo.git("checkout", "-f", "HEAD", "--", ".")
    assert (repo.path / rank_file(0)).read_bytes()[8:].startswith(b"{")  # a safetensors file, no manifest
    for step in (8, 9):
        save(project, {"w": torch.full((3,), float(step))}, step, config=CheckpointConfig(branch="trained"))
    assert repo.git("log", "--format=%s", "trained").splitlines()[:2] == [
        "checkpoint at step 9",
        "checkpoint at step 8",
    ]
    assert load_plain(project, revision="trained~1")["w"][0] == 8
    commit = consolidate(project, revision="trained", branch="plain", file="weights/w.safetensors")
    assert repo.git("ls-tree", "-r", "--name-only", commit).split() == [
        ".gitattributes",
        "weights/w.safetensors",
    ]
    repo.git("checkout", "-q", "plain")
    assert load_file(repo.path / "weights/w.safetensors")["w"].tolist() == [9, 9, 9]
    for options in (
        {},
        {"tag": "a", "branch": "b"},
        {"tag": "a", "file": "x.npz"},
        {"branch": "plain"},
        {"tag": "-x"},
    ):
        with pytest.raises(UsageError):
            consolidate(project, "fit", **options)


def test_only_what_is_needed_is_read_and_damage_is_noticed(project):
    table = torch.randn(600, 1000)  # three blocks; the one in the middle will be damaged
    save(project, {"table": table}, 1)
    (pack,) = (Path(project.path) / ".git/coral/objects/packs").glob("*.pack")
    data = bytearray(pack.read_bytes())
    for place in range(len(data) // 2, len(data) // 2 + 64):
        data[place] ^= 0xFF
    pack.chmod(0o644)
    pack.write_bytes(data)
    (joined,) = full_tensors(project, "fit")
    for first in (0, 599):
        assert bytes(joined.read(4000 * first, 4000)) == table[first].numpy().tobytes()
    with pytest.raises(CoralError, match="damaged"):
        load_plain(project, "fit")
    with pytest.raises(dcp.CheckpointException, match="damaged"):
        load(project, {"table": torch.zeros_like(table)})


def test_torch_is_asked_for(tmp_path):
    (tmp_path / "torch.py").write_text("raise ImportError('none')")
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
    words = [
        sys.executable,
        "-c",
        "import coral_git.integrations.dcp_consolidate, coral_git.integrations.dcp",
    ]
    done = subprocess.run(
        words, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    assert done.stderr.splitlines()[-1] == (
        "ImportError: coral_git.integrations.dcp needs torch: pip install torch"
    )
