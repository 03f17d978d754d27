"""What every remote store must do. A test class inherits this and gives a fixture ``place``."""

from __future__ import annotations

import hashlib
import os
import random
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol

import pytest

from coral_git import fsops
from coral_git.errors import CoralError, IntegrityError, PolicyError, RemoteError
from coral_git.limits import Limits
from coral_git.remotes.base import PackDownload, PackUpload, RemoteStore
from coral_git.types import PackId


class Place(Protocol):
    """One remote store of a kind, empty at first."""

    def open(
        self, limits: Limits = ..., before_git: Callable[[tuple[str, ...]], None] | None = None
    ) -> RemoteStore:
        """Open it anew. ``before_git`` is called before every git command, if there are any."""

    def damage(self, pack: PackId) -> None:
        """Make the stored pack differ from its name in one byte."""

    def left_behind(self) -> list[str]:
        """Names of temporary files and directories."""


def make_upload(folder: Path, seed: int, length: int = 5000) -> PackUpload:
    """A pack of random bytes; remote stores do not look inside."""
    data = random.Random(seed).randbytes(length)
    pack = PackId(hashlib.sha256(data).digest())
    path = folder / f"{pack.hex()}.pack"
    path.write_bytes(data)
    return PackUpload(pack, str(path), b"index of " + pack + random.Random(-seed).randbytes(64))


def in_child(action: Callable[[], None]) -> int:
    """Start a process for an action; it exits with 0, with 1 after an error, or by a signal."""
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        action()
        status = 0
    finally:
        os._exit(status)


def exit_code(process: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


class FailAt:
    """Raises, or kills this process, at the n-th event."""

    def __init__(self, number: int, error: Exception | None) -> None:
        self.left = number
        self.error = error

    def __call__(self, *_: object) -> None:
        self.left -= 1
        if self.left == 0:
            if self.error is None:
                os.kill(os.getpid(), signal.SIGKILL)
            else:
                raise self.error


class RemoteConformance:
    """The suite."""

    packs_per_put = 2

    @pytest.fixture
    def uploads(self, tmp_path: Path) -> list[PackUpload]:
        folder = tmp_path / "local"
        folder.mkdir()
        return [make_upload(folder, seed) for seed in range(1, 5)]

    def check_has(self, place: Place, uploads: list[PackUpload], tmp_path: Path) -> None:
        assert place.open().list_packs() == {upload.pack for upload in uploads}
        self.check_has_at_least(place, uploads, tmp_path)

    def check_has_at_least(self, place: Place, uploads: list[PackUpload], tmp_path: Path) -> None:
        remote = place.open()
        assert dict(remote.get_indexes(upload.pack for upload in uploads)) == {
            upload.pack: upload.index for upload in uploads
        }
        folder = tmp_path / f"got-{os.urandom(4).hex()}"
        folder.mkdir()
        remote.get_packs(
            [
                PackDownload(upload.pack, str(folder / upload.pack.hex()), os.path.getsize(upload.path))
                for upload in uploads
            ]
        )
        for upload in uploads:
            assert (folder / upload.pack.hex()).read_bytes() == Path(upload.path).read_bytes()

    def test_empty(self, place: Place) -> None:
        assert place.open().list_packs() == set()

    def test_put_list_get(self, place: Place, uploads: list[PackUpload], tmp_path: Path) -> None:
        first = uploads[0]
        remote = place.open()
        remote.put(first.path, first.index, first.pack)
        assert remote.list_packs() == {first.pack}
        assert remote.get_index(first.pack) == first.index
        target = tmp_path / "incoming"
        remote.get_pack(first.pack, str(target))
        assert target.read_bytes() == Path(first.path).read_bytes()
        remote.put_many(uploads)
        self.check_has(place, uploads, tmp_path)
        assert place.left_behind() == []

    def test_put_again(self, place: Place, uploads: list[PackUpload], tmp_path: Path) -> None:
        for count in (2, 3, 4, 4):
            place.open().put_many(uploads[:count])
        self.check_has(place, uploads, tmp_path)

    def test_nothing_to_do(self, place: Place) -> None:
        remote = place.open()
        remote.put_many([])
        remote.get_packs([])
        assert list(remote.get_indexes([])) == []

    def test_large_pack(self, place: Place, tmp_path: Path) -> None:
        upload = make_upload(tmp_path, 99, 3_000_001)
        place.open().put_many([upload])
        self.check_has(place, [upload], tmp_path)

    def test_unknown_pack(self, place: Place, uploads: list[PackUpload], tmp_path: Path) -> None:
        remote = place.open()
        remote.put_many(uploads[:1])
        unknown = uploads[1].pack
        with pytest.raises(RemoteError, match=unknown.hex()):
            remote.get_index(unknown)
        with pytest.raises(RemoteError, match=unknown.hex()):
            remote.get_pack(unknown, str(tmp_path / "incoming"))
        assert not (tmp_path / "incoming").exists()
        assert dict(remote.get_indexes([unknown, uploads[0].pack])) == {uploads[0].pack: uploads[0].index}

    def test_damaged_pack_is_not_delivered(
        self, place: Place, uploads: list[PackUpload], tmp_path: Path
    ) -> None:
        place.open().put_many(uploads)
        place.damage(uploads[2].pack)
        target = tmp_path / "incoming"
        with pytest.raises(IntegrityError, match=uploads[2].pack.hex()):
            place.open().get_pack(uploads[2].pack, str(target))
        assert not target.exists()
        place.open().get_pack(uploads[1].pack, str(target))
        assert target.read_bytes() == Path(uploads[1].path).read_bytes()
        assert place.left_behind() == []

    def test_damaged_pack_is_not_published(self, place: Place, uploads: list[PackUpload]) -> None:
        path = Path(uploads[0].path)
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(IntegrityError, match=uploads[0].pack.hex()):
            place.open().put_many(uploads[:1])
        assert place.open().list_packs() == set()
        assert place.left_behind() == []

    def test_too_long_pack_is_refused(self, place: Place, uploads: list[PackUpload], tmp_path: Path) -> None:
        place.open().put_many(uploads)
        target = tmp_path / "incoming"
        with pytest.raises(PolicyError, match="longer than 4999 bytes"):
            place.open(Limits(pack_max=4999)).get_pack(uploads[0].pack, str(target))
        assert not target.exists()

    def test_existing_target_is_kept(self, place: Place, uploads: list[PackUpload], tmp_path: Path) -> None:
        place.open().put_many(uploads[:1])
        target = tmp_path / "incoming"
        target.write_bytes(b"mine")
        with pytest.raises(CoralError):
            place.open().get_pack(uploads[0].pack, str(target))
        assert target.read_bytes() == b"mine"

    def test_two_processes_put_the_same(
        self, place: Place, uploads: list[PackUpload], tmp_path: Path
    ) -> None:
        children = [in_child(lambda: place.open().put_many(uploads)) for _ in range(2)]
        assert [exit_code(child) for child in children] == [0, 0]
        self.check_has(place, uploads, tmp_path)

    def test_two_processes_put_overlapping(
        self, place: Place, uploads: list[PackUpload], tmp_path: Path
    ) -> None:
        def put(part: list[PackUpload]) -> None:
            place.open().put_many(part)

        children = [in_child(partial(put, part)) for part in (uploads[:3], uploads[1:])]
        assert [exit_code(child) for child in children] == [0, 0]
        self.check_has(place, uploads, tmp_path)

    @pytest.mark.parametrize("kill", [False, True])
    def test_put_fails_at_every_write(self, place: Place, tmp_path: Path, kill: bool) -> None:
        """Whatever operation fails, what is listed is complete, and a retry succeeds."""
        self.fail_at_every_operation(place, tmp_path, kill, fsops_faults=True)

    def fail_at_every_operation(self, place: Place, tmp_path: Path, kill: bool, fsops_faults: bool) -> None:
        tried: list[PackUpload] = []
        for number in range(1, 100):
            pair = [make_upload(tmp_path, 1000 * number + serial) for serial in range(self.packs_per_put)]
            tried += pair
            if self.put_with_fault(place, pair, number, kill, fsops_faults):
                break
        else:
            pytest.fail("the operations do not end")
        assert number > 3
        listed = place.open().list_packs()
        self.check_has_at_least(place, [upload for upload in tried if upload.pack in listed], tmp_path)
        place.open().put_many(tried)
        self.check_has(place, tried, tmp_path)

    def put_with_fault(
        self, place: Place, uploads: list[PackUpload], number: int, kill: bool, fsops_faults: bool
    ) -> bool:
        """Whether a put went through although the n-th operation was to fail."""
        fault = FailAt(number, None if kill else OSError(5, "Input/output error"))

        def put() -> None:
            fsops.set_fault_hook(fault if fsops_faults else None)
            place.open(before_git=None if fsops_faults else fault).put_many(uploads)

        if kill:
            child = exit_code(in_child(put))
            assert child in (0, -signal.SIGKILL)
            return child == 0
        try:
            put()
        except CoralError:
            return False
        finally:
            fsops.set_fault_hook(None)
        return fault.left > 0
