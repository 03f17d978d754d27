import itertools
import os
import sys
import threading
from pathlib import Path

import pytest

from coral_git.errors import (
    FormatVersionError,
    IntegrityError,
    NotARepositoryError,
    ObjectMissingError,
    PolicyError,
)
from coral_git.limits import Limits
from coral_git.store.store import Store


def test_open_needs_a_store(tmp_path):
    with pytest.raises(NotARepositoryError):
        Store.open(str(tmp_path))
    with pytest.raises(NotARepositoryError):
        Store.open(str(tmp_path / "missing"))


def test_create_twice_keeps_what_is_there(store, build):
    raw = build.raw(1)
    build.put(store, raw)
    assert Store.create(store.root).read(build.object_id(raw), 1000) == raw


def test_a_newer_store_is_refused_by_number(store):
    Path(store.layout.format).write_bytes(b"coral store 2\n")
    with pytest.raises(FormatVersionError, match="version 2"):
        Store.open(store.root)
    Path(store.layout.format).write_bytes(b"something else")
    with pytest.raises(NotARepositoryError):
        Store.open(store.root)


def test_opening_reads_nothing_but_the_format_file(store):
    assert not os.path.exists(store.layout.cache)


@pytest.mark.parametrize("length", [0, 1, 127, 128, 129, 1000])
def test_round_trip(store, build, length):
    raw = build.raw(length, length)
    pack = build.put(store, raw)
    object_id = build.object_id(raw)
    assert store.has(object_id)
    assert store.read(object_id, length) == raw
    location = store.locate(object_id)
    assert (location.pack, location.raw_length, location.base, location.offset) == (pack, length, None, 16)
    assert store.depth(object_id) == 0
    assert store.find_missing([object_id]) == []


def test_random_access(store, build):
    raw = build.raw(7, 1000)
    build.put(store, raw)
    reader = store.reader(build.object_id(raw))
    assert (reader.raw_length, reader.block_size, reader.block_count) == (1000, 128, 8)
    for start in range(0, 1001, 37):
        for length in (0, 1, 100, 128, 300, 5000):
            assert reader.read(start, length) == raw[start : start + length]
    assert reader.read(2000, 5) == b""
    with pytest.raises(IndexError):
        reader.block(8)


def test_delta_chain(store, build):
    versions = [build.raw(1, 1000)]
    for number in range(1, 6):
        versions.append(versions[-1][:500] + build.raw(number + 50, 3) + versions[-1][503:])
    build.put(store, versions[0])
    for base, raw in itertools.pairwise(versions):
        build.put_encoded(store, build.encode(raw, base))
    for depth, raw in enumerate(versions):
        object_id = build.object_id(raw)
        assert store.depth(object_id) == depth
        assert store.read(object_id, 1000) == raw
        assert [one.object_id for one in store.chain(object_id)] == [
            build.object_id(one) for one in versions[depth::-1]
        ]


def test_every_block_of_a_chain_is_decoded_once(store, build):
    """Windows over all blocks of the base, 12 levels: naive recursion would decode 8 ** 12 blocks."""
    versions = [build.raw(number, 1000) for number in range(12)]
    build.put(store, versions[0])
    for base, raw in itertools.pairwise(versions):
        build.put_encoded(store, build.encode(raw, base))
    reader = store.reader(build.object_id(versions[-1]))
    assert b"".join(reader.verified_blocks()) == versions[-1]
    assert reader.read(500, 100) == versions[-1][500:600]


def test_base_offset(store, build):
    base = build.raw(1, 900)
    raw = base[300:800]
    build.put(store, base)
    build.put_encoded(store, build.encode(raw, base, base_offset=300))
    assert store.read(build.object_id(raw), 500) == raw


def test_chains_beyond_the_limit_are_refused(tmp_path, build):
    with Store.create(str(tmp_path), Limits(chain_depth_read=3)) as store:
        versions = [build.raw(number) for number in range(5)]
        build.put(store, versions[0])
        for base, raw in itertools.pairwise(versions):
            build.put_encoded(store, build.encode(raw, base))
        assert store.read(build.object_id(versions[3]), 1000) == versions[3]
        with pytest.raises(IntegrityError, match="deep"):
            store.reader(build.object_id(versions[4]))


def test_cycles_and_missing_bases_are_refused(store, build):
    one, two, three = (build.raw(number) for number in range(3))
    build.put_encoded(store, build.encode(one, two), build.encode(two, one))
    with pytest.raises(IntegrityError, match="cycle"):
        store.reader(build.object_id(one))
    build.put_encoded(store, build.encode(three, b"never stored"))
    with pytest.raises(ObjectMissingError, match="needs its base"):
        store.read(build.object_id(three), 1000)


def test_an_object_is_not_its_own_base(store, build):
    raw = build.raw(1)
    with store.writer() as writer, pytest.raises(ValueError, match="own base"):
        writer.add(build.encode(raw, raw))


def test_missing_objects_are_named(store, build):
    object_id = build.object_id(b"nobody")
    assert not store.has(object_id)
    assert store.find_missing([object_id, object_id]) == [object_id]
    for ask in (store.locate, store.reader, store.depth):
        with pytest.raises(ObjectMissingError, match=object_id.hex()):
            ask(object_id)


def test_read_is_limited_and_verified(store, build):
    raw = build.raw(1)
    build.put(store, raw)
    with pytest.raises(PolicyError, match="299 are allowed"):
        store.read(build.object_id(raw), 299)
    liar = build.object_id(b"another object")
    build.put_encoded(store, build.encode(raw, object_id=liar))
    with pytest.raises(IntegrityError, match="do not match its id"):
        store.read(liar, 1000)
    blocks = store.reader(liar).verified_blocks()
    with pytest.raises(IntegrityError):
        list(blocks)


def test_unknown_codecs_are_refused_by_number(store, build):
    raw = build.raw(1)
    build.put_encoded(store, build.encode(raw)._replace(codec=250))
    assert store.locate(build.object_id(raw)).codec == 250
    with pytest.raises(FormatVersionError, match="250"):
        store.reader(build.object_id(raw))


def test_a_delta_without_a_base_is_refused(store, build):
    raw, base = build.raw(1), build.raw(2)
    build.put_encoded(store, build.encode(raw, base)._replace(base=None))
    with pytest.raises(IntegrityError, match="needs a base"):
        store.reader(build.object_id(raw))


def test_packs_of_other_processes_are_seen(store, build):
    raws = [build.raw(number) for number in range(3)]
    assert store.find_missing([build.object_id(raws[0])]) != []
    with Store.open(store.root) as other:
        build.put(other, raws[0])
        assert store.read(build.object_id(raws[0]), 1000) == raws[0]
        build.put(other, raws[1])
        assert store.find_missing([build.object_id(raws[1])]) == []
        pack = build.put(other, raws[2])
    store.refresh()
    assert store.has(build.object_id(raws[2]))
    assert pack in {info.id for info in store.packs()}


def test_pack_listing(store, build):
    packs = {build.put(store, build.raw(number)) for number in range(3)}
    Path(store.layout.packs, "notes.txt").write_text("no pack")
    Path(store.layout.packs, "AB" * 32 + ".pack").write_text("no pack either")
    listed = store.packs()
    assert {info.id for info in listed} == packs
    assert [info.id for info in listed] == sorted(packs)
    assert all(info.size == os.path.getsize(info.path) for info in listed)
    assert [one.object_id for one in store.pack_objects(listed[0].id)]
    with pytest.raises(ObjectMissingError):
        store.pack_objects(type(listed[0].id)(b"x" * 32))


def test_a_pack_that_vanished_leads_to_another_copy(store, build):
    """gc merged packs: the old one is gone, the object lies elsewhere; the cache knows only the old one."""
    raw = build.raw(1)
    old = build.put(store, raw)
    object_id = build.object_id(raw)
    reader = store.reader(object_id)
    with Store.open(store.root) as gc, gc.writer() as writer:
        writer.copy(gc.locate(object_id))
        writer.add(build.encode(build.raw(2)))
        (new,) = writer.finish()
    os.unlink(store.layout.pack_path(old))
    os.unlink(store.layout.index_path(old))
    assert store.locate(object_id).pack == new
    assert store.read(object_id, 1000) == raw
    assert b"".join(reader.verified_blocks()) == raw  # opened before, so still readable


def test_a_pack_that_vanishes_between_lookup_and_open(store, build):
    raw = build.raw(1)
    old = build.put(store, raw)
    object_id = build.object_id(raw)
    with store.writer() as writer:
        writer.copy(store.locate(object_id))
        writer.add(build.encode(build.raw(2)))
        writer.finish()
    stale = next(one for one in store.locations([object_id])[object_id] if one.pack == old)
    os.unlink(store.layout.pack_path(old))
    store.close()
    with store.writer() as writer:
        assert writer.copy(stale) == stale.entry_length  # taken from the other pack
        writer.finish()
    assert store.read(object_id, 1000) == raw


def test_threads_read_in_parallel(store, build):
    raws = [build.raw(number, 2000) for number in range(8)]
    build.put(store, *raws)
    changed = [raw[:1000] + b"!" + raw[1001:] for raw in raws]
    for base, raw in zip(raws, changed, strict=True):
        build.put_encoded(store, build.encode(raw, base))
    failures = []

    def work(offset):
        try:
            for number in range(40):
                raw = (raws + changed)[(number * 5 + offset) % 16]
                assert store.read(build.object_id(raw), 2000) == raw
        except BaseException as error:  # handed to the main thread
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_descriptors_are_bounded(store, build):
    raws = [build.raw(number, 10) for number in range(90)]
    for raw in raws:
        build.put(store, raw)
    before = len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0
    for raw in raws:
        assert store.read(build.object_id(raw), 10) == raw
    if before:
        assert len(os.listdir("/proc/self/fd")) - before <= 64


def test_a_store_nobody_may_write_to_is_read(store, build):
    """In a child process without root's rights, so that the modes count."""
    raws = [build.raw(number) for number in range(3)]
    packs = [build.put(store, raw) for raw in raws]
    os.unlink(store.layout.index_path(packs[1]))
    trash = Path(store.layout.trash, "1700000000")
    trash.mkdir(parents=True)
    for path in (store.layout.pack_path(packs[2]), store.layout.index_path(packs[2])):
        os.rename(path, trash / os.path.basename(path))
    store.close()
    for path in Path(store.root).glob("cache.sqlite*"):
        path.unlink()
    top = Path(store.root)
    for path in (*top.rglob("*"), top):
        path.chmod(0o555 if path.is_dir() else 0o444)
    for parent in top.parents[:4]:
        parent.chmod(parent.stat().st_mode | 0o055)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            if os.geteuid() == 0:
                os.setgid(65534)
                os.setuid(65534)
            reading = Store.open(store.root)
            for raw in raws:
                assert reading.has(build.object_id(raw))
                assert reading.read(build.object_id(raw), 1000) == raw
            assert reading.freshen(build.object_id(raws[0]))
            try:
                build.put(reading, b"new")
            except Exception as error:
                code = 0 if "cannot write a pack" in str(error) else 3
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    for path in (top, *top.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    assert not os.path.exists(store.layout.index_path(packs[1]))
