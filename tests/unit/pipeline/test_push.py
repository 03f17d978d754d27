"""Pushing to a remote store in a directory: proof, resumption, and nothing left behind."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from coral_git.errors import ObjectMissingError, RemoteError
from coral_git.git.revisions import Blob
from coral_git.pipeline import inventory as inventories
from coral_git.pipeline.encode import Encoder
from coral_git.pipeline.fetch import fetch_objects
from coral_git.pipeline.history import Place
from coral_git.pipeline.inventory import Inventory
from coral_git.pipeline.parallel import Workers
from coral_git.pipeline.part_source import part_of_bytes
from coral_git.pipeline.push import push_objects
from coral_git.pipeline.workspace import Workspace
from coral_git.remotes.base import PackUpload
from coral_git.remotes.directory import DirectoryRemote, create
from coral_git.types import ObjectId, PackId


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")


def open_workspace(path: Path) -> Workspace:
    subprocess.run(["git", "init", "-q", path], check=True)
    return Workspace.open(str(path))


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return open_workspace(tmp_path / "repo")


@pytest.fixture
def remote(tmp_path: Path) -> DirectoryRemote:
    create(str(tmp_path / "remote"))
    return DirectoryRemote(str(tmp_path / "remote"), name="nas")


def store(workspace: Workspace, pieces: Sequence[bytes], base: ObjectId | None = None) -> list[ObjectId]:
    bases = () if base is None else (base,)
    with Workers(2) as workers, workspace.store.writer() as writer:
        ids = Encoder(workspace.store, workers).store_parts(
            (part_of_bytes(piece, bases) for piece in pieces), writer
        )
        writer.finish()
    return ids


def named(workspace: Workspace, ids: Sequence[ObjectId]) -> dict[ObjectId, Place]:
    return {one: Place(workspace, Blob("0" * 40, b"file"), one) for one in ids}


def test_a_push_sends_what_lacks_and_nothing_twice(workspace: Workspace, remote: DirectoryRemote) -> None:
    ids = store(workspace, [os.urandom(1000) for _ in range(5)])
    report = push_objects(workspace, Inventory(workspace, remote), named(workspace, ids[:3]))
    assert (report.named, report.sent, report.packs) == (3, 3, 1)
    assert report.sent_bytes == sum(path.stat().st_size for path in Path(remote.url, "packs").iterdir())
    report = push_objects(workspace, Inventory(workspace, remote), named(workspace, ids))
    assert (report.named, report.sent) == (5, 2)
    report = push_objects(workspace, Inventory(workspace, remote), named(workspace, ids))
    assert (report.sent, report.packs, report.sent_bytes) == (0, 0, 0)


def test_dry_run_sends_nothing(workspace: Workspace, remote: DirectoryRemote) -> None:
    ids = store(workspace, [b"x" * 1000])
    report = push_objects(workspace, Inventory(workspace, remote), named(workspace, ids), dry_run=True)
    assert (report.sent, report.packs) == (1, 0)
    assert report.sent_bytes > 0
    assert remote.list_packs() == set()


class FailingRemote(DirectoryRemote):
    """Fails at the n-th call of ``put_many``, or loses what it was given."""

    calls = 0
    fail_at = 0
    loses = False

    def put_many(self, uploads: Sequence[PackUpload]) -> None:
        self.calls += 1
        if self.calls == self.fail_at:
            raise RemoteError("the connection broke")
        if not self.loses:
            super().put_many(uploads)


def test_an_interrupted_push_goes_on_where_it_ended(workspace: Workspace, tmp_path: Path) -> None:
    create(str(tmp_path / "remote"))
    remote = FailingRemote(str(tmp_path / "remote"))
    ids = store(workspace, [os.urandom(5000) for _ in range(4)])
    remote.fail_at = 3
    with pytest.raises(RemoteError, match="broke"):
        push_objects(workspace, Inventory(workspace, remote), named(workspace, ids), batch_bytes=6000)
    assert not [name for name in os.listdir(workspace.store_root) if name.startswith("outgoing")]
    remote.fail_at = 0
    report = push_objects(workspace, Inventory(workspace, remote), named(workspace, ids), batch_bytes=6000)
    assert (report.sent, report.packs) == (2, 2)


def test_the_same_push_makes_the_same_packs(workspace: Workspace, tmp_path: Path) -> None:
    ids = store(workspace, [os.urandom(5000) for _ in range(4)])
    packs = []
    for name in ("one", "two"):
        create(str(tmp_path / name))
        remote = DirectoryRemote(str(tmp_path / name))
        push_objects(workspace, Inventory(workspace, remote), named(workspace, ids))
        packs.append(remote.list_packs())
    assert packs[0] == packs[1]


def test_a_remote_that_loses_packs_is_found_out(workspace: Workspace, tmp_path: Path) -> None:
    create(str(tmp_path / "remote"))
    remote = FailingRemote(str(tmp_path / "remote"))
    remote.loses = True
    with pytest.raises(RemoteError, match="does not list"):
        push_objects(workspace, Inventory(workspace, remote), named(workspace, store(workspace, [b"x" * 99])))


def test_a_missing_object_is_named_and_nothing_is_sent(workspace: Workspace, remote: DirectoryRemote) -> None:
    ids = [*store(workspace, [b"x" * 99]), ObjectId(b"?" * 32)]
    with pytest.raises(ObjectMissingError, match=r"file: object \(3f3f"):
        push_objects(workspace, Inventory(workspace, remote), named(workspace, ids))
    assert remote.list_packs() == set()


def test_folders_of_killed_pushes_are_removed(workspace: Workspace, remote: DirectoryRemote) -> None:
    ids = store(workspace, [b"x" * 99])
    done = subprocess.Popen(["true"])
    done.wait()
    dead = Path(workspace.store_root, f"outgoing-{done.pid}-1-00000000")
    alive = Path(workspace.store_root, f"outgoing-{os.getppid()}-1-00000000")
    for folder in (dead, alive):
        (folder / "objects").mkdir(parents=True)
        (folder / "objects" / "x.pack").write_bytes(b"x")
    push_objects(workspace, Inventory(workspace, remote), named(workspace, ids))
    assert not dead.exists()
    assert alive.exists()


def test_fetch_brings_the_bases_of_all_it_brings(
    workspace: Workspace, remote: DirectoryRemote, tmp_path: Path
) -> None:
    first = os.urandom(50_000)
    base = store(workspace, [first])
    push_objects(workspace, Inventory(workspace, remote), named(workspace, base))
    other = os.urandom(3000)
    child = store(workspace, [first[:-1] + bytes([first[-1] ^ 1])], base[0])
    extra = store(workspace, [other])
    assert workspace.store.locate(child[0]).base == base[0]
    push_objects(workspace, Inventory(workspace, remote), named(workspace, [*child, *extra]))
    second = open_workspace(tmp_path / "second")
    assert fetch_objects(second, extra, [remote], quiet=True) == []
    for one in (*base, *child, *extra):
        assert b"".join(bytes(block) for block in second.store.reader(one).verified_blocks())


def test_a_damaged_index_hides_only_its_own_pack(
    workspace: Workspace, remote: DirectoryRemote, capsys: pytest.CaptureFixture[str]
) -> None:
    found: list[PackId] = []
    ids = []
    for _ in range(2):
        ids += store(workspace, [os.urandom(2000)])
        push_objects(workspace, Inventory(workspace, remote), named(workspace, ids[-1:]))
        found += [pack for pack in remote.list_packs() if pack not in found]
    path = Path(remote.url, "idx", f"{found[0].hex()}.idx")
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    cached = Path(workspace.store_root, inventories._CACHE, f"{found[0].hex()}.idx")
    cached.write_bytes(b"")
    inventory = Inventory(workspace, remote)
    assert ids[0] not in inventory
    assert ids[1] in inventory
    assert "damaged" in capsys.readouterr().err
    push_objects(workspace, Inventory(workspace, remote), named(workspace, ids))
    assert ids[0] in Inventory(workspace, remote)
