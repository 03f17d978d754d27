import os
from pathlib import Path

from coral_git.store.verify import verify_pack


def kinds(problems):
    return sorted({problem.kind for problem in problems})


def test_a_sound_pack_has_no_problems(store, build):
    base = build.raw(1)
    pack = build.put_encoded(store, build.encode(base), build.encode(build.raw(2), base))
    assert list(store.verify(pack)) == []
    assert list(verify_pack(store.layout.pack_path(pack))) == []


def test_bases_in_other_packs(store, build):
    base, raw = build.raw(1), build.raw(2)
    build.put(store, base)
    pack = build.put_encoded(store, build.encode(raw, base))
    assert list(store.verify(pack)) == []
    (problem,) = verify_pack(store.layout.pack_path(pack))
    assert (problem.kind, problem.object_id, problem.pack) == ("base", build.object_id(raw), pack)


def test_a_missing_base_does_not_hide_damage(store, build):
    raw = build.raw(2)
    pack = build.put_encoded(store, build.encode(raw, build.raw(1)))
    path = Path(store.layout.pack_path(pack))
    data = bytearray(path.read_bytes())
    data[-17] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)
    assert kinds(store.verify(pack)) == ["base", "object", "pack"]


def test_damage_names_the_object_and_its_children_only(store, build):
    base, raw, other = build.raw(1), build.raw(2), build.raw(3)
    pack = build.put_encoded(store, build.encode(base), build.encode(raw, base), build.encode(other))
    first = store.pack_objects(pack)[0]
    path = Path(store.layout.pack_path(pack))
    path.chmod(0o644)
    for offset in (first.offset + 3, first.offset + first.entry_length - 1):
        sound = path.read_bytes()
        data = bytearray(sound)
        data[offset] ^= 1
        path.write_bytes(data)
        problems = list(store.verify(pack))
        damaged = {problem.object_id for problem in problems if problem.kind == "object"}
        assert damaged == {build.object_id(base), build.object_id(raw)}
        assert "pack" in kinds(problems)
        path.write_bytes(sound)


def test_a_wrong_id_is_found(store, build):
    liar = build.object_id(b"something else")
    pack = build.put_encoded(store, build.encode(build.raw(1), object_id=liar))
    (problem,) = store.verify(pack)
    assert (problem.kind, problem.object_id) == ("object", liar)


def test_index_problems(store, build):
    pack = build.put(store, build.raw(1))
    other = build.put(store, build.raw(2))
    index = Path(store.layout.index_path(pack))
    index.chmod(0o644)
    index.write_bytes(Path(store.layout.index_path(other)).read_bytes())
    assert kinds(store.verify(pack)) == ["index"]
    index.unlink()
    assert kinds(store.verify(pack)) == ["index"]


def test_a_missing_pack(store, build):
    pack = build.put(store, build.raw(1))
    os.unlink(store.layout.pack_path(pack))
    assert kinds(store.verify(pack)) == ["pack"]
