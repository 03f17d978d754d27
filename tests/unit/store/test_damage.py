"""Flipped, cut, swapped, missing: found or repaired, never wrong bytes."""

import os
from pathlib import Path

import pytest

from coral_git.errors import CoralError, IntegrityError, ObjectMissingError
from coral_git.store.store import Store


def drop_cache(root):
    for suffix in ("", "-wal", "-shm"):
        Path(root, "cache.sqlite" + suffix).unlink(missing_ok=True)


@pytest.fixture
def damaged(store, build):
    """A store with a pack of three objects, one a delta; a function that replaces a file; the sound bytes."""
    base = build.raw(1, 40)
    raws = [base, base[:20] + b"new" + base[23:], build.raw(2, 30)]
    encoded = [build.encode(raw, block_size=32) for raw in (raws[0], raws[2])]
    pack = build.put_encoded(store, encoded[0], build.encode(raws[1], base, block_size=32), encoded[1])
    path, index = Path(store.layout.pack_path(pack)), Path(store.layout.index_path(pack))
    path.chmod(0o644)
    index.chmod(0o644)
    store.close()
    return store, raws, path, index


def outcomes(root, build, raws):
    """Read everything with a fresh store; True for right bytes, the error for an error."""
    found = []
    with Store.open(root, fsync=False) as fresh:
        for raw in raws:
            try:
                assert fresh.read(build.object_id(raw), 1000) == raw
                found.append(True)
            except (IntegrityError, ObjectMissingError) as error:
                found.append(error)
    return found


def test_every_flipped_byte_of_a_pack(damaged, build):
    store, raws, path, _ = damaged
    sound = path.read_bytes()
    assert outcomes(store.root, build, raws) == [True] * 3
    ends = [one.offset + one.entry_length for one in store.pack_objects(store.packs()[0].id)]
    for offset in range(len(sound)):
        broken = bytearray(sound)
        broken[offset] ^= 1 << offset % 8
        path.write_bytes(broken)
        found = outcomes(store.root, build, raws)
        if 16 <= offset < len(sound) - 16:  # header and trailer are not needed where the index is sound
            first, delta, last = (found[0] is True, found[1] is True, found[2] is True)
            hit = next(number for number, end in enumerate(ends) if offset < end)
            assert (first, delta, last) == (hit != 0, hit == 2, hit != 2)
        assert any(store.verify(store.packs()[0].id))
    path.write_bytes(sound)
    assert outcomes(store.root, build, raws) == [True] * 3


def test_every_truncation_of_a_pack(damaged, build):
    store, raws, path, _ = damaged
    sound = path.read_bytes()
    for length in range(0, len(sound), 3):
        path.write_bytes(sound[:length])
        assert True not in outcomes(store.root, build, raws)
        assert any(store.verify(store.packs()[0].id))
    path.write_bytes(sound + b"\0")
    assert True not in outcomes(store.root, build, raws)
    path.write_bytes(sound)
    assert outcomes(store.root, build, raws) == [True] * 3


def test_every_flipped_byte_and_truncation_of_an_index(damaged, build):
    store, raws, _, index = damaged
    sound = index.read_bytes()
    broken_ones = [sound[:length] for length in range(0, len(sound), 41)]
    for offset in range(0, len(sound), 7):
        broken = bytearray(sound)
        broken[offset] ^= 1 << offset % 8
        broken_ones.append(bytes(broken))
    for broken in (*broken_ones, b"", sound + b"\0", None):
        index.unlink()
        if broken is not None:
            index.write_bytes(broken)
        drop_cache(store.root)
        assert outcomes(store.root, build, raws) == [True] * 3
        assert index.read_bytes() == sound


def test_the_index_of_another_pack_is_replaced(damaged, build):
    store, raws, _, index = damaged
    other = build.put(store, build.raw(9))
    sound = index.read_bytes()
    index.write_bytes(Path(store.layout.index_path(other)).read_bytes())
    store.close()
    drop_cache(store.root)
    assert outcomes(store.root, build, raws) == [True] * 3
    assert index.read_bytes() == sound


def test_an_index_is_never_made_from_a_damaged_pack(damaged, build):
    store, raws, path, index = damaged
    data = bytearray(path.read_bytes())
    data[200] ^= 1
    path.write_bytes(data)
    index.unlink()
    drop_cache(store.root)
    assert [type(one) for one in outcomes(store.root, build, raws)] == [ObjectMissingError] * 3
    assert not index.exists()


def test_an_index_alone_is_ignored(damaged, build):
    store, raws, path, _ = damaged
    path.unlink()
    assert [type(one) for one in outcomes(store.root, build, raws)] == [ObjectMissingError] * 3


def test_swapped_packs(store, build):
    raws = [build.raw(1), build.raw(2)]
    one, two = (build.put(store, raw) for raw in raws)
    assert outcomes(store.root, build, raws) == [True] * 2
    paths = [Path(store.layout.pack_path(pack)) for pack in (one, two)]
    data = [path.read_bytes() for path in paths]
    for path, other in zip(paths, reversed(data), strict=True):
        path.chmod(0o644)
        path.write_bytes(other)
    store.close()
    assert [isinstance(one, CoralError) for one in outcomes(store.root, build, raws)] == [True] * 2


def test_a_sound_copy_serves_where_another_has_a_damaged_header(store, build):
    raw = build.raw(1)
    first = build.put(store, raw)
    second = build.put(store, build.raw(2), raw)
    for pack, other in ((first, second), (second, first)):
        path = Path(store.layout.pack_path(pack))
        sound = path.read_bytes()
        location = next(one for one in store.pack_objects(pack) if one.raw_length == len(raw))
        broken = bytearray(sound)
        for offset in (location.offset + 20, location.offset + 130):
            broken[offset] ^= 1
        path.chmod(0o644)
        path.write_bytes(broken)
        store.close()
        assert store.read(build.object_id(raw), 1000) == raw, other
        path.write_bytes(sound)
        store.close()


def test_a_wrong_cache_is_a_hint_only(store, build):
    import sqlite3

    raw = build.raw(1)
    build.put(store, build.raw(2), raw)
    store.close()
    for change in (
        "offset = 16",
        "offset = offset + 1",
        "raw_length = 7",
        "base = id",
        "entry_length = 4",
        "codec = 9",
    ):
        with sqlite3.connect(store.layout.cache) as connection:
            connection.execute(f"UPDATE objects SET {change}")
        connection.close()
        with Store.open(store.root) as fresh:
            try:
                assert fresh.read(build.object_id(raw), 1000) == raw
            except CoralError as error:
                raise AssertionError(change) from error


def test_a_link_in_place_of_a_pack_is_not_followed(store, build, tmp_path):
    pack = build.put(store, build.raw(1))
    path = store.layout.pack_path(pack)
    os.rename(path, tmp_path / "elsewhere")
    os.symlink(tmp_path / "elsewhere", path)
    store.close()
    with pytest.raises(CoralError):
        store.read(build.object_id(build.raw(1)), 1000)
