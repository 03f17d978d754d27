import os
from pathlib import Path

import pytest

from coral_git.errors import ObjectMissingError
from coral_git.store.store import Store


def throw_away(store, pack, when="1700000000"):
    """What the first phase of gc does."""
    trash = Path(store.layout.trash, when)
    trash.mkdir(parents=True, exist_ok=True)
    for path in (store.layout.pack_path(pack), store.layout.index_path(pack)):
        if os.path.exists(path):
            os.rename(path, trash / os.path.basename(path))


@pytest.mark.parametrize("fresh", [True, False])
def test_a_wanted_pack_comes_back(store, build, fresh):
    raw, other = build.raw(1), build.raw(2)
    wanted, unwanted = build.put(store, raw), build.put(store, other)
    os.utime(store.layout.pack_path(wanted), (1_000_000, 1_000_000))
    for pack in (wanted, unwanted):
        throw_away(store, pack)
    reading = Store.open(store.root) if fresh else store
    assert reading.find_missing([build.object_id(raw)]) == []
    assert [info.id for info in reading.packs()] == [wanted]
    assert reading.packs()[0].mtime > 1_600_000_000
    assert os.path.exists(store.layout.index_path(wanted))
    assert reading.read(build.object_id(raw), 1000) == raw
    assert store.read(build.object_id(other), 1000) == other
    reading.close()


@pytest.mark.parametrize("ask", ["has", "locate", "read", "contains", "freshen"])
def test_every_question_brings_it_back(store, build, ask):
    raw = build.raw(1)
    throw_away(store, build.put(store, raw))
    object_id = build.object_id(raw)
    if ask == "contains":
        with store.writer() as writer:
            assert writer.contains(object_id)
    elif ask == "read":
        assert store.read(object_id, 1000) == raw
    else:
        assert getattr(store, ask)(object_id)
    assert len(store.packs()) == 1


def test_a_base_comes_back_too(store, build):
    base, raw = build.raw(1), build.raw(2)
    throw_away(store, build.put(store, base))
    build.put_encoded(store, build.encode(raw, base))
    assert store.read(build.object_id(raw), 1000) == raw
    assert len(store.packs()) == 2


def test_without_an_index_and_with_a_damaged_one(store, build):
    for number, damage in enumerate((os.unlink, lambda path: Path(path).write_bytes(b"CORALIDX"))):
        raw = build.raw(number)
        pack = build.put(store, raw)
        index = store.layout.index_path(pack)
        os.chmod(index, 0o644)
        damage(index)
        throw_away(store, pack)
        with Store.open(store.root) as fresh:
            for path in Path(store.root).glob("cache.sqlite*"):
                path.unlink()
            assert fresh.read(build.object_id(raw), 1000) == raw


def test_deleted_from_the_trash_is_missing(store, build):
    raw = build.raw(1)
    pack = build.put(store, raw)
    throw_away(store, pack)
    store.refresh()
    for path in Path(store.layout.trash, "1700000000").iterdir():
        path.unlink()
    assert store.find_missing([build.object_id(raw)]) == [build.object_id(raw)]
    with pytest.raises(ObjectMissingError):
        store.read(build.object_id(raw), 1000)


def test_strange_names_in_the_trash_are_ignored(store, build):
    pack = build.put(store, build.raw(1))
    throw_away(store, pack, when="yesterday")
    Path(store.layout.trash, "1700000000").write_text("a file")
    assert Store.open(store.root).find_missing([build.object_id(build.raw(1))]) != []


def test_a_twin_in_the_trash_does_not_matter(store, build):
    raw = build.raw(1)
    pack = build.put(store, raw)
    throw_away(store, pack)
    with Store.open(store.root) as other:
        assert build.put(other, raw) == pack
    assert store.read(build.object_id(raw), 1000) == raw
    assert list(Path(store.layout.trash, "1700000000").iterdir()) != []
