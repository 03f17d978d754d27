"""The directory as a remote store."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from coral_git.errors import FormatVersionError, IntegrityError, RemoteError
from coral_git.remotes import directory
from coral_git.remotes.directory import DirectoryRemote

from .conformance import RemoteConformance, make_upload
from .conftest import DirectoryPlace


class TestDirectory(RemoteConformance):
    @pytest.fixture(params=["path", "file url"])
    def place(self, request: pytest.FixtureRequest, tmp_path: Path, user: Path) -> DirectoryPlace:
        path = tmp_path / "remote store"
        directory.create(str(path))
        location = str(path) if request.param == "path" else "file://" + str(path).replace(" ", "%20")
        return DirectoryPlace(path, location, user)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "store"
    directory.create(str(path))
    return path


def test_layout(root: Path, tmp_path: Path) -> None:
    """The names and bytes that docs/format/directory-remote.md promises."""
    upload = make_upload(tmp_path, 7)
    DirectoryRemote(str(root)).put_many([upload])
    name = hashlib.sha256(Path(upload.path).read_bytes()).hexdigest()
    assert sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()) == [
        "coral-store",
        f"idx/{name}.idx",
        f"packs/{name}.pack",
    ]
    assert (root / "coral-store").read_bytes() == b"coral directory 1\n"
    assert (root / "packs" / f"{name}.pack").stat().st_mode & 0o777 & ~0o444 == 0


def test_create_again(root: Path, tmp_path: Path) -> None:
    upload = make_upload(tmp_path, 7)
    DirectoryRemote(str(root)).put_many([upload])
    directory.create(str(root))
    assert DirectoryRemote(str(root)).list_packs() == {upload.pack}


def test_create_refuses_a_directory_in_use(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(RemoteError, match="not empty"):
        directory.create(str(tmp_path))


def test_create_goes_on_after_a_crash(tmp_path: Path) -> None:
    path = tmp_path / "store"
    (path / "packs").mkdir(parents=True)
    directory.create(str(path))
    assert DirectoryRemote(str(path)).list_packs() == set()


@pytest.mark.parametrize("exists", [True, False])
def test_unmounted(tmp_path: Path, exists: bool) -> None:
    path = tmp_path / "mount point"
    if exists:
        path.mkdir()
    remote = DirectoryRemote(str(path))
    upload = make_upload(tmp_path, 7)
    for action in (
        remote.list_packs,
        lambda: remote.put_many([upload]),
        lambda: remote.get_index(upload.pack),
    ):
        with pytest.raises(RemoteError, match="no remote store in") as caught:
            action()
        assert "mount" in caught.value.hint
    assert not path.exists() or os.listdir(path) == []


def test_newer_version(root: Path) -> None:
    (root / "coral-store").write_bytes(b"coral directory 2\n")
    with pytest.raises(FormatVersionError):
        DirectoryRemote(str(root)).list_packs()


def test_foreign_marker(root: Path) -> None:
    (root / "coral-store").write_bytes(b"something else\n")
    with pytest.raises(IntegrityError):
        DirectoryRemote(str(root)).list_packs()


def test_foreign_names_are_ignored(root: Path, tmp_path: Path) -> None:
    upload = make_upload(tmp_path, 7)
    remote = DirectoryRemote(str(root))
    remote.put_many([upload])
    name = upload.pack.hex()
    for foreign in (name, f"{name}.pack.bak", f"{name.upper()}.pack", f".{name}.pack", "é.pack"):
        (root / "packs" / foreign).write_bytes(b"")
        (root / "idx" / foreign.replace(".pack", ".idx")).write_bytes(b"")
    assert remote.list_packs() == {upload.pack}


def test_pack_without_index_is_not_listed(root: Path, tmp_path: Path) -> None:
    upload = make_upload(tmp_path, 7)
    remote = DirectoryRemote(str(root))
    remote.put_many([upload])
    (root / "idx" / f"{upload.pack.hex()}.idx").unlink()
    assert remote.list_packs() == set()
    remote.put_many([upload])
    assert remote.list_packs() == {upload.pack}


def test_put_repairs_a_damaged_pack(root: Path, tmp_path: Path) -> None:
    upload = make_upload(tmp_path, 7)
    remote = DirectoryRemote(str(root))
    (root / "packs" / f"{upload.pack.hex()}.pack").write_bytes(b"torn")
    (root / "idx" / f"{upload.pack.hex()}.idx").write_bytes(b"")
    remote.put_many([upload])
    remote.get_pack(upload.pack, str(tmp_path / "incoming"))
    assert remote.get_index(upload.pack) == upload.index


def test_old_incoming_files_are_swept(root: Path, tmp_path: Path) -> None:
    old, new = root / "packs" / "incoming-1-1-00", root / "packs" / "incoming-2-1-00"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (1_000_000_000, 1_000_000_000))
    DirectoryRemote(str(root)).put_many([make_upload(tmp_path, 7)])
    assert not old.exists()
    assert new.exists()


@pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
def test_read_only(root: Path, tmp_path: Path) -> None:
    (root / "packs").chmod(0o555)
    with pytest.raises(RemoteError, match="permission denied"):
        DirectoryRemote(str(root)).put_many([make_upload(tmp_path, 7)])


def test_text_for_terminals_is_escaped(tmp_path: Path) -> None:
    remote = DirectoryRemote(str(tmp_path / "a\x1b[31mb"))
    with pytest.raises(RemoteError) as caught:
        remote.list_packs()
    for text in (remote.name, remote.url, caught.value.message):
        assert text.isprintable()
