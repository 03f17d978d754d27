import os
from pathlib import Path

import pytest

from coral_git import fsops
from coral_git.errors import FormatVersionError, IntegrityError, PolicyError, StorageFullError
from coral_git.limits import Limits
from coral_git.store.store import Store
from coral_git.types import PackId


@pytest.fixture
def sender(tmp_path):
    with Store.create(str(tmp_path / "sender")) as made:
        yield made


def receive(sender, store, pack, change=lambda data: data):
    """The bytes of a pack as an incoming file of another store."""
    path = store.layout.incoming_path("fetched")
    Path(path).write_bytes(change(Path(sender.layout.pack_path(pack)).read_bytes()))
    return path


def test_a_sound_pack_is_taken_in(sender, store, build):
    base, raw = build.raw(1), build.raw(2)
    pack = build.put_encoded(sender, build.encode(base), build.encode(raw, base))
    assert store.import_pack(receive(sender, store, pack), expected=pack) == pack
    assert store.read(build.object_id(raw), 1000) == raw
    assert build.contents(store) == build.contents(sender)
    assert store.import_pack(receive(sender, store, pack)) == pack
    assert build.incoming(store) == []


def test_a_pack_with_bases_elsewhere(sender, store, build):
    base, raw = build.raw(1), build.raw(2)
    first = build.put(sender, base)
    second = build.put_encoded(sender, build.encode(raw, base))
    for pack in (second, first):  # the base comes later
        store.import_pack(receive(sender, store, pack), expected=pack)
    assert store.read(build.object_id(raw), 1000) == raw


@pytest.mark.parametrize(
    "change",
    [
        lambda data: b"",
        lambda data: b"<html>not found</html>",
        lambda data: data[:-1],
        lambda data: data + b"\0",
        lambda data: data[:60] + b"\xff" + data[61:],
        lambda data: data[:-40] + b"\xff" + data[-39:],
        lambda data: data[:16] + data[-16:],
        lambda data: data[:16] + data[16:-16] * 2 + b"CORALEND" + b"\2" + bytes(7),
    ],
)
def test_a_bad_pack_is_refused_and_removed(sender, store, build, change):
    pack = build.put(sender, build.raw(1))
    for expected in (None, pack):
        with pytest.raises(IntegrityError):
            store.import_pack(receive(sender, store, pack, change), expected=expected)
    assert build.incoming(store) == []
    assert store.packs() == []


def test_another_pack_than_promised(sender, store, build):
    pack = build.put(sender, build.raw(1))
    with pytest.raises(IntegrityError, match="instead of"):
        store.import_pack(receive(sender, store, pack), expected=PackId(b"x" * 32))


def test_a_lie_about_an_id_is_found_before_it_can_poison(sender, store, build):
    honest, lie = build.raw(1), build.raw(2)
    pack = build.put_encoded(sender, build.encode(lie, object_id=build.object_id(honest)))
    with pytest.raises(IntegrityError, match="do not match its id"):
        store.import_pack(receive(sender, store, pack), expected=pack)
    assert not store.has(build.object_id(honest))
    store.import_pack(receive(sender, store, pack), decode=False)
    with pytest.raises(IntegrityError):
        store.read(build.object_id(honest), 1000)


def test_a_newer_pack_and_an_unknown_codec(sender, store, build):
    pack = build.put_encoded(sender, build.encode(build.raw(1))._replace(codec=250))
    with pytest.raises(FormatVersionError, match="250"):
        store.import_pack(receive(sender, store, pack))
    with pytest.raises(FormatVersionError, match="version 2"):
        store.import_pack(receive(sender, store, pack, lambda data: data[:8] + b"\2" + data[9:]))


def test_a_pack_over_the_cap(sender, build, tmp_path):
    pack = build.put(sender, build.raw(1))
    with Store.create(str(tmp_path / "small"), Limits(pack_max=100)) as store, pytest.raises(PolicyError):
        store.import_pack(receive(sender, store, pack))


def test_a_full_disk(sender, store, build):
    pack = build.put(sender, build.raw(1))
    incoming = receive(sender, store, pack)

    def full(name, path):
        if name == "write":
            raise OSError(28, "No space left on device")

    fsops.set_fault_hook(full)
    with pytest.raises(StorageFullError):
        store.import_pack(incoming)
    assert build.incoming(store) == []
    assert not os.path.exists(store.layout.pack_path(pack))
