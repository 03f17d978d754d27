"""Checkpoints without a framework; every write of saving and freeing fails once, or the process ends."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from coral_git import Repository
from coral_git.api.arrays import tensor_data
from coral_git.errors import UsageError
from coral_git.formats.safetensors_writer import safetensors_header
from coral_git.history.checkpoints import list_checkpoints
from coral_git.integrations.recorder import RunRecorder
from coral_git.maintenance.gc import free_dropped
from coral_git.pipeline.memory_source import MemorySource
from coral_git.pipeline.workspace import Workspace
from coral_git.repository import experiments
from coral_git.repository.checkpointing import (
    NewCheckpoint,
    commit_checkpoint,
    drop_checkpoints,
    stage_checkpoint,
    store_file,
)
from coral_git.testing.faults import fail_each
from coral_git.testing.health import assert_store_healthy

FILE = "model.safetensors"
FAULTS = [{"mode": "error", "code": errno.ENOSPC}, {"mode": "kill"}]


def source(seed: int) -> MemorySource:
    weights = np.random.default_rng(7).standard_normal(3000).astype(np.float32)
    weights[: 100 * seed] += np.float32(1e-3)
    return MemorySource(
        *safetensors_header([tensor_data("w", weights), tensor_data("n", np.int64(seed))], {})
    )


def save(workspace: Workspace, step: int, **said: object) -> None:
    blob = store_file(workspace, "fit", FILE, source(step))
    commit_checkpoint(
        workspace, NewCheckpoint("fit", step, {"loss": 1 / step}, **said), {FILE.encode(): blob}
    )


@pytest.fixture
def copies(tmp_path, installed):
    """Gives copies of a repository with a run of two checkpoints, one for each call."""
    with Repository(tmp_path / "template", init=True) as repository:
        workspace = repository.new_workspace()
        experiments.start(workspace, "fit", environment=False)
        for step in (1, 2):
            save(workspace, step)
        workspace.close()
    numbers = itertools.count()

    def copy() -> Path:
        path = tmp_path / f"run-{next(numbers)}"
        shutil.copytree(tmp_path / "template", path, symlinks=True)
        return path

    return copy


def run(path: Path, work) -> None:
    workspace = Workspace.open(str(path))
    try:
        work(workspace)
    finally:
        workspace.close()


def steps(path: Path) -> list[int]:
    workspace = Workspace.open(str(path))
    return [one.step for one in list_checkpoints(workspace.git, "fit")]


def restored(path: Path, step: int) -> bytes:
    repository = Repository(path)
    with repository:
        return repository.get_weight("w", f"refs/coral/checkpoints/fit/{step:012}").data.tobytes()


@pytest.mark.parametrize("fault", FAULTS, ids=["enospc", "kill"])
def test_saving(copies, fault):
    def verify(path: Path, completed: bool) -> None:
        assert steps(path) == [1, 2, 4] if completed else steps(path) in ([1, 2], [1, 2, 4])
        assert_store_healthy(str(path))
        run(path, lambda workspace: save(workspace, 4))
        assert restored(path, 4) in source(4).read_at(0, source(4).size)

    assert (
        fail_each(lambda path: run(path, lambda workspace: save(workspace, 4)), copies, verify, **fault) > 4
    )


@pytest.mark.parametrize("fault", FAULTS, ids=["enospc", "kill"])
def test_dropping_and_freeing(copies, fault):
    def drop(workspace: Workspace) -> None:
        drop_checkpoints(workspace, list_checkpoints(workspace.git, "fit")[:1])
        free_dropped(workspace)

    def verify(path: Path, completed: bool) -> None:
        assert steps(path) == [2] if completed else steps(path) in ([1, 2], [2])
        assert_store_healthy(str(path))
        run(path, drop if len(steps(path)) == 2 else free_dropped)
        assert restored(path, 2) in source(2).read_at(0, source(2).size)

    assert fail_each(lambda path: run(path, drop), copies, verify, step=2, **fault) > 3


def test_the_index_gets_the_attributes_too(copies, at):
    path = copies()
    repo = at(path)

    def stage(workspace: Workspace) -> None:
        blobs = {name: store_file(workspace, "fit", os.fsdecode(name), source(4)) for name in names}
        stage_checkpoint(workspace, blobs, {})

    def staged() -> list[str]:
        return repo.git("show", ":.gitattributes").splitlines()

    names = [b"sub/one.pt", b"bare"]
    repo.write(".gitattributes", b"*.txt text\n")
    repo.git("add", ".gitattributes")
    repo.write(".gitattributes", b"not staged\n")
    run(path, stage)
    first, *lines = staged()
    assert first == "*.txt text"
    assert [line.split()[:2] for line in lines] == [["*.pt", "filter=coral"], ["/bare", "filter=coral"]]
    workspace = Workspace.open(str(path))
    stage(workspace)
    assert staged() == [first, *lines]
    repo.git("add", ".gitattributes")
    names.append(b"one.bin")
    stage(workspace)  # by a process that has read the index before
    assert [line.split()[0] for line in staged()] == ["not", "*.pt", "/bare", "*.bin"]
    workspace.close()
    assert repo.read(".gitattributes") == b"not staged\n"
    entry = repo.git("ls-files", "-s", ".gitattributes")
    stages = "\n".join(entry.replace(" 0\t", f" {number}\t") for number in (1, 2))
    repo.git("update-index", "--force-remove", ".gitattributes")
    repo.git("update-index", "--index-info", data=stages.encode())
    with pytest.raises(UsageError, match=r"'\.gitattributes' is in conflict"):
        run(path, stage)
    assert len(repo.git("ls-files", "-u").splitlines()) == 2


def test_a_branch_gets_the_checkpoints_too(copies, at, assert_healthy):
    path = copies()
    repo = at(path)
    repo.write("train.py", b"code\n")
    repo.git("add", "train.py")
    repo.git("commit", "-qm", "code")
    before = repo.git("rev-parse", "HEAD"), repo.status()
    run(path, lambda workspace: [save(workspace, step, branch="weights", epoch=step) for step in (4, 5)])
    assert repo.git("log", "--format=%s", "weights").splitlines() == [
        "checkpoint at step 5",
        "checkpoint at step 4",
        "code",
    ]
    assert repo.git("show", "weights:train.py") == "code"
    assert (repo.git("rev-parse", "HEAD"), repo.status()) == before
    with pytest.raises(UsageError, match="branch 'main' is checked out"):
        run(path, lambda workspace: save(workspace, 6, branch="main"))
    run(path, lambda workspace: drop_checkpoints(workspace, list_checkpoints(workspace.git, "fit")))
    repo.coral("gc", "--prune", "now", "-q")
    repo.git("switch", "-q", "weights")
    assert os.path.getsize(path / FILE) == source(5).size
    assert_healthy(repo)


SECOND = """
import sys
from coral_git import Repository
from coral_git.integrations.recorder import RunRecorder
recorder = RunRecorder(Repository(sys.argv[1]), "fit")
print("ready", flush=True)
sys.stdin.read()
"""


def test_a_second_process_that_trains_a_run_is_warned(copies):
    path = copies()
    words = [sys.executable, "-c", SECOND, str(path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"ready\n"
        with Repository(path) as repository:
            with pytest.warns(RuntimeWarning, match="another process trains the run 'fit', too") as caught:
                RunRecorder(repository, "fit").close()
            assert f"process {other.pid}" in str(caught[0].message)
        other.kill()
    with Repository(path) as repository, warnings.catch_warnings():
        warnings.simplefilter("error")
        first, second = RunRecorder(repository, "fit"), RunRecorder(repository, "fit")
        first.close()
        second.close()
        RunRecorder(repository, "fit").close()
