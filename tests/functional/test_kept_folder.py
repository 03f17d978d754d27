"""Folders of trainers in checkpoints of runs, byte for byte, whatever is in them and whatever fails."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from coral_git import Repository
from coral_git.errors import CoralError, PolicyError, UsageError
from coral_git.history.checkpoints import list_checkpoints
from coral_git.integrations.recorder import RunRecorder, Snapshot
from coral_git.repository import kept_folder
from coral_git.repository.kept_folder import OpenedFolder, restore_folder, verify_folder
from coral_git.testing.faults import fail_each


@pytest.fixture
def project(tmp_path, installed):
    with Repository(tmp_path / "models", init=True) as repository:
        yield repository


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {str(one.relative_to(folder)): one.read_bytes() for one in folder.rglob("*") if one.is_file()}


def keep(recorder: RunRecorder, folder: Path, step: int) -> str:
    """Store a folder as a checkpoint; gives the id of the commit."""
    opened = OpenedFolder(str(folder))
    snapshot = Snapshot(
        step, 0, {}, lambda: {f"kept/{name}": source for name, source in opened.stored.items()},
        {f"kept/{name}": data for name, data in opened.plain.items()}, folder="kept", close=opened.close,
    )  # fmt: skip
    return recorder.save_now(snapshot).oid


@pytest.fixture
def files(safetensors) -> dict[str, bytes]:
    random = np.random.default_rng(0)
    weights = safetensors({"w": random.standard_normal((40, 50), np.float32)})
    return {
        "model.safetensors": weights,
        "global_step5/zero states.pt": random.bytes(700),
        "config.json": b'{"a": 1}\r\n',
        "empty": b"",
        "ünï\ncode.txt": b"x",
        ".hidden": b"hidden",
        "long.json": b"[" + b"1," * 3000 + b"1]",
        "no suffix": random.bytes(6000),
    }


def test_whatever_is_in_a_folder_comes_back(project, at, tmp_path, files, monkeypatch, assert_healthy):
    monkeypatch.setattr(kept_folder, "PLAIN_BYTES", 5000)
    repo = at(Path(project.path))
    first = write(tmp_path / "first", files)
    repo.git("commit", "-qm", "base")
    recorder = RunRecorder(project, "fit")
    one = keep(recorder, first, 1)
    manifest = repo.blob(f"{one}:kept/model.safetensors")
    second = write(tmp_path / "second", {"model.safetensors": manifest, "a.json": manifest, "new.bin": b"\0"})
    two = keep(recorder, second, 2)
    recorder.finish()
    with closing(project.new_workspace()) as workspace:
        for commit, folder in ((one, first), (two, second)):
            verify_folder(workspace, commit, "kept", content(folder).keys())
            path = restore_folder(workspace, commit, "kept", str(tmp_path / "back"), folder.name)
            assert content(Path(path)) == content(folder)
    assert repo.blob(f"{one}:kept/.hidden") == b"hidden"
    assert repo.blob(f"{one}:kept/config.json").startswith(
        b"# coral 1"
    )  # as long.json, which is called alike
    assert repo.blob(f"{one}:kept/no suffix").startswith(b"# coral 1")
    repo.coral("experiment", "promote", "fit/1", "winner")
    repo.git("checkout", "-q", "winner")
    assert content(repo.path / "kept") == files
    assert repo.status() == ""
    assert_healthy(repo)


def test_what_only_an_earlier_tree_had_is_left_out(project, at, tmp_path, files):
    repo = at(Path(project.path))
    write(repo.path, {"kept/old.txt": b"of a branch", "train.py": b"code"})
    repo.git("add", "--all")
    repo.git("commit", "-qm", "base")
    recorder = RunRecorder(project, "fit")
    commit = keep(recorder, write(tmp_path / "first", {"config.json": b"{}"}), 1)
    recorder.close()
    assert repo.git("ls-tree", "-r", "--name-only", commit).split() == [
        ".gitattributes",
        "kept/config.json",
        "train.py",
    ]


def test_a_restore_that_fails_is_done_again(project, at, tmp_path, files, assert_healthy):
    first = write(tmp_path / "first", files)
    recorder = RunRecorder(project, "fit")
    commit = keep(recorder, first, 1)
    recorder.close()
    numbers = iter(range(1000))
    elsewhere = write(tmp_path / "elsewhere", {"untouched": b"1"})
    with closing(project.new_workspace()) as workspace:

        def restore(root: Path) -> None:
            restore_folder(workspace, commit, "kept", str(root), "back", last="config.json")

        def verify(root: Path, completed: bool) -> None:
            there = content(root / "back") if (root / "back").exists() else {}
            assert completed == (there == files)
            assert completed or "config.json" not in there
            assert all(files[name] == data for name, data in there.items())
            restore(root)
            assert content(root / "back") == files
            assert not os.listdir(workspace.paths.git_dir + "/coral-tmp")

        assert fail_each(restore, lambda: tmp_path / f"root{next(numbers)}", verify, step=3) > 8
    assert content(elsewhere) == {"untouched": b"1"}
    assert_healthy(at(Path(project.path)))


def test_a_tree_that_leads_elsewhere_is_refused(project, at, tmp_path):
    repo = at(Path(project.path))
    blob = repo.git("hash-object", "-w", "--stdin", data=b"evil")
    link = repo.git("mktree", "-z", data=f"120000 blob {blob}\tlink\0".encode())
    inner = repo.git("mktree", "-z", data=f"100644 blob {blob}\tfile\0".encode())
    up = repo.git("mktree", "-z", data=f"040000 tree {inner}\t..\0".encode())
    with closing(project.new_workspace()) as workspace:
        for tree, error in ((link, UsageError), (up, PolicyError)):
            root = repo.git("mktree", "-z", data=f"040000 tree {tree}\tkept\0".encode())
            commit = repo.git("commit-tree", root, "-m", "evil")
            with pytest.raises(error):
                restore_folder(workspace, commit, "kept", str(tmp_path / "root"), "back")
        with pytest.raises(UsageError, match="has no folder"):
            restore_folder(workspace, commit, "other", str(tmp_path / "root"), "back")
    assert not [one for one in (tmp_path / "root").rglob("*") if one.is_file()]
    assert not (tmp_path / "file").exists()


def test_what_cannot_be_kept(project, tmp_path, files):
    with pytest.raises(CoralError, match="read the folder"):
        OpenedFolder(str(tmp_path / "nothing"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="there are no files"):
        OpenedFolder(str(tmp_path / "empty"))
    folder = write(tmp_path / "first", files)
    (folder / "link").symlink_to(tmp_path)
    with pytest.raises(UsageError, match="link' cannot be kept"):
        OpenedFolder(str(folder))
    (folder / "link").unlink()
    opened = OpenedFolder(str(folder))
    with (folder / "model.safetensors").open("ab") as file:
        file.write(b"more")
    with pytest.raises(CoralError, match="changed while it was stored"):
        opened.stored["model.safetensors"].check_unchanged()
    opened.close()
    opened.remove()
    assert content(folder).keys() == {"model.safetensors"}


def test_two_checkpoints_of_a_step(project, tmp_path):
    recorder = RunRecorder(project, "fit")
    commits = []
    for number in range(3):
        opened = OpenedFolder(str(write(tmp_path / str(number), {"a.json": b"%d" % number})))
        snapshot = Snapshot(7, 0, {}, dict, {"a.json": opened.plain["a.json"]}, keeps_earlier=True)
        commits.append(recorder.save_now(snapshot).oid)
    with closing(project.new_workspace()) as workspace:
        assert [one.oid for one in list_checkpoints(workspace.git, "fit")] == commits
    assert recorder.choose(step=7).commit_hash == commits[-1]
    recorder.drop(commits[0])
    assert [one.commit_hash for one in recorder.checkpoints()] == commits[1:]
    recorder.close()
