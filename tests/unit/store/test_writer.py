import errno
import os
from pathlib import Path

import pytest

from coral_git import fsops
from coral_git.errors import IntegrityError, ObjectMissingError, PolicyError, StorageFullError
from coral_git.limits import Limits
from coral_git.store.store import Store


def test_nothing_is_visible_before_finish(store, build):
    raw = build.raw(1)
    with store.writer() as writer:
        assert not writer.contains(build.object_id(raw))
        writer.add(build.encode(raw))
        assert writer.contains(build.object_id(raw))
        assert not store.has(build.object_id(raw))
        assert store.packs() == []
    assert build.incoming(store) == []
    assert store.packs() == []


def test_an_exception_discards(store, build):
    def interrupted():
        with store.writer() as writer:
            writer.add(build.encode(build.raw(1)))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert build.incoming(store) == []
    assert store.packs() == []


def test_finish_without_objects_writes_nothing(store):
    with store.writer() as writer:
        assert writer.finish() == []
    assert store.packs() == []


def test_the_session_is_over_after_finish(store, build):
    with store.writer() as writer:
        writer.add(build.encode(build.raw(1)))
        writer.finish()
        with pytest.raises(ValueError, match="over"):
            writer.add(build.encode(build.raw(2)))
        with pytest.raises(ValueError, match="over"):
            writer.finish()
    assert len(store.packs()) == 1


def test_an_object_is_written_once_per_session(store, build):
    raw = build.raw(1)
    with store.writer() as writer:
        length = writer.add(build.encode(raw))
        assert writer.add(build.encode(raw)) == 0
        (pack,) = writer.finish()
    (location,) = store.pack_objects(pack)
    assert location.entry_length == length
    assert os.path.getsize(store.layout.pack_path(pack)) == 16 + length + 16


def test_packs_rotate_at_the_target_and_stay_below_the_cap(tmp_path, build):
    limits = Limits(pack_target=1000, pack_max=1500)
    with Store.create(str(tmp_path), limits) as store:
        raws = [build.raw(number, 150 + 40 * number) for number in range(20)]
        with store.writer() as writer:
            for raw in raws:
                writer.add(build.encode(raw))
            assert store.packs() == []
            packs = writer.finish()
        sizes = [os.path.getsize(store.layout.pack_path(pack)) for pack in packs]
        assert len(packs) > 3
        assert max(sizes) <= 1500
        assert all(store.read(build.object_id(raw), 2000) == raw for raw in raws)


def test_an_object_larger_than_a_pack_is_refused(tmp_path, build):
    with Store.create(str(tmp_path), Limits(pack_max=400)) as store:
        with store.writer() as writer, pytest.raises(PolicyError, match="more than a pack"):
            writer.add(build.encode(build.raw(1, 500)))
        with (
            Store.create(str(tmp_path), Limits(part_bytes=10, table_bytes=10)) as tiny,
            tiny.writer() as writer,
            pytest.raises(PolicyError, match="too many"),
        ):
            writer.add(build.encode(build.raw(1, 11)))


def test_equal_sessions_write_equal_packs(store, build):
    first = build.put(store, build.raw(1), build.raw(2))
    before = build.contents(store)
    assert build.put(store, build.raw(1), build.raw(2)) == first
    assert build.contents(store) == before


def test_a_damaged_pack_of_the_same_name_is_set_aside(store, build):
    pack = build.put(store, build.raw(1))
    path = Path(store.layout.pack_path(pack))
    sound = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(sound[:-1] + b"\1")
    assert build.put(store, build.raw(1)) == pack
    assert path.read_bytes() == sound
    assert [one.read_bytes() for one in Path(store.layout.quarantine).iterdir()] == [sound[:-1] + b"\1"]
    assert store.read(build.object_id(build.raw(1)), 1000) == build.raw(1)


def test_a_damaged_pack_counts_again_for_other_readers_once_it_is_whole(store, build):
    pack = build.put(store, build.raw(1))
    path = Path(store.layout.pack_path(pack))
    sound = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(sound[:100])
    with Store.open(store.root) as other:
        other.refresh()
        assert not other.has(build.object_id(build.raw(1)))
        with store.writer() as writer:
            assert not writer.contains(build.object_id(build.raw(1)))
            writer.add(build.encode(build.raw(1)))
            assert writer.finish() == [pack]
        assert other.read(build.object_id(build.raw(1)), 1000) == build.raw(1)


def test_contains_looks_at_the_entry_itself(store, build):
    """A writer must not rely on an object whose entry is not there, whatever cache and index say."""
    raw = build.raw(1)
    pack = build.put(store, raw)
    path = Path(store.layout.pack_path(pack))
    data = bytearray(path.read_bytes())
    data[16 + 50] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)
    with store.writer() as writer:
        assert store.has(build.object_id(raw))
        assert not writer.contains(build.object_id(raw))
        writer.add(build.encode(raw))
        writer.add(build.encode(build.raw(2)))
        writer.finish()
    assert store.read(build.object_id(raw), 1000) == raw


def test_contains_freshens_old_packs(store, build):
    raw = build.raw(1)
    path = store.layout.pack_path(build.put(store, raw))
    os.utime(path, (1_000_000, 1_000_000))
    with store.writer() as writer:
        assert writer.contains(build.object_id(raw))
    assert os.stat(path).st_mtime > 1_600_000_000
    os.utime(path, (1_000_000, 1_000_000))
    assert store.freshen(build.object_id(raw))
    touched = os.stat(path).st_mtime_ns
    assert touched > 1_600_000_000 * 10**9
    assert store.freshen(build.object_id(raw))
    assert os.stat(path).st_mtime_ns == touched
    assert not store.freshen(build.object_id(b"nobody"))


def test_copy_is_verbatim(store, build):
    base, raw = build.raw(1), build.raw(2)
    pack = build.put_encoded(store, build.encode(base), build.encode(raw, base))
    with store.writer() as writer:
        for location in store.pack_objects(pack):
            assert writer.copy(location) == location.entry_length
        assert writer.finish() == [pack]


def test_copy_verifies_checksums(store, build):
    raw = build.raw(1)
    pack = build.put(store, raw)
    location = store.locate(build.object_id(raw))
    path = Path(store.layout.pack_path(pack))
    sound = path.read_bytes()
    path.chmod(0o644)
    for offset in range(16, len(sound) - 16):
        broken = bytearray(sound)
        broken[offset] ^= 0x40
        path.write_bytes(broken)
        with store.writer() as writer, pytest.raises(IntegrityError):
            writer.copy(location)
    assert build.incoming(store) == []


def test_copy_of_an_object_that_is_gone(store, build):
    pack = build.put(store, build.raw(1))
    location = store.locate(build.object_id(build.raw(1)))
    os.unlink(store.layout.pack_path(pack))
    store.close()
    with store.writer() as writer, pytest.raises(ObjectMissingError):
        writer.copy(location)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk(store, build, code):
    def full(name, path):
        if name == "write":
            raise OSError(code, os.strerror(code))

    fsops.set_fault_hook(full)
    with store.writer() as writer, pytest.raises(StorageFullError, match="incoming"):
        writer.add(build.encode(build.raw(1)))
    assert build.incoming(store) == []
    fsops.set_fault_hook(None)
    build.put(store, build.raw(1))


def test_a_missing_incoming_directory_is_made_again(store, build):
    os.rmdir(store.layout.incoming)
    build.put(store, build.raw(1))


def test_fsync_order(store, build):
    """Pack bytes, index bytes, pack name, index name, directory."""
    steps = []
    fsops.set_fault_hook(lambda name, path: steps.append((name, os.path.basename(path).partition("-")[0])))
    pack = build.put(store, build.raw(1))
    wanted = [
        ("create", "pack"), ("write", "pack"), ("write", "pack"), ("write", "pack"), ("fsync", "pack"),
        ("create", "index"), ("write", "index"), ("fsync", "index"),
        ("link", f"{pack.hex()}.pack"), ("unlink", "pack"), ("link", f"{pack.hex()}.idx"),
        ("unlink", "index"), ("fsync-directory", "packs"),
    ]  # fmt: skip
    assert steps == wanted
    steps.clear()
    with Store.open(store.root, fsync=False) as fast:
        build.put(fast, build.raw(2))
    assert not [name for name, _ in steps if name.startswith("fsync")]
