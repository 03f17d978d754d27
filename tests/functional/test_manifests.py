"""Manifests as content: passed through, or refused with the way to repair them; and missing objects."""

from __future__ import annotations

import os
import random

import pytest

from coral_git.limits import DEFAULT_LIMITS
from coral_git.manifest.parse import FIRST_LINE, parse


@pytest.fixture
def versions(model, tune, safetensors):
    """The bytes of two versions of a model."""
    tensors = model(layers=1, width=24)
    return safetensors(tensors), safetensors(tune(tensors))


@pytest.fixture
def committed(repo, versions):
    """Both versions committed, the second one on top."""
    for data in versions:
        repo.commit("version", m__safetensors=data)
    return repo


def test_a_valid_manifest_passes_unchanged(committed, versions, assert_healthy):
    text = committed.blob("HEAD:m.safetensors")
    committed.write("copy.safetensors", text)
    committed.git("add", "copy.safetensors")
    assert committed.blob(":copy.safetensors") == text
    committed.coral("checkout", "copy.safetensors")
    assert committed.read("copy.safetensors") == versions[1]
    assert_healthy(committed)


def conflicted(old: bytes, new: bytes) -> bytes:
    ours, theirs = old.splitlines(True), new.splitlines(True)
    return b"".join([*ours[:2], b"<<<<<<< ours\n", *ours[2:], b"=======\n", *theirs[2:], b">>>>>>> theirs\n"])


def whole_conflict(old: bytes, new: bytes) -> bytes:
    return b"<<<<<<< HEAD\n" + old + b"=======\n" + new + b">>>>>>> side\n"


def mixed(old: bytes, new: bytes) -> bytes:
    return b"".join([*old.splitlines(True)[:-1], new.splitlines(True)[-1]])


def edited(old: bytes, _new: bytes) -> bytes:
    return old.replace(b"format safetensors/1", b"format safetensors/2")


def cut_short(old: bytes, _new: bytes) -> bytes:
    return old[:-20]


def newer(old: bytes, _new: bytes) -> bytes:
    return old.replace(b"# coral 1:", b"# coral 2:")


def with_returns(old: bytes, _new: bytes) -> bytes:
    return old.replace(b"\n", b"\r\n")


@pytest.mark.parametrize(
    ("damage", "reason", "remedy"),
    [
        (conflicted, "conflict markers", "git checkout --ours"),
        (whole_conflict, "conflict markers", "git checkout --ours"),
        (mixed, "lines of two versions are mixed, or it was edited", "git coral resolve PATH"),
        (edited, "lines of two versions are mixed, or it was edited", "git checkout HEAD -- PATH"),
        (cut_short, "its end is missing", "git checkout HEAD -- PATH"),
        (with_returns, "converted to CRLF", "-text"),
        (newer, "version 2", "pip install --upgrade coral-git"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_broken_manifest_is_refused_and_survives_as_text(committed, assert_healthy, damage, reason, remedy):
    repo = committed
    text = damage(repo.blob("HEAD~:m.safetensors"), repo.blob("HEAD:m.safetensors"))
    before = repo.blob(":m.safetensors")
    repo.write("m.safetensors", text)
    said = repo.run("add", "m.safetensors", code=128).stderr.decode()
    assert reason in said
    assert "m.safetensors" in said
    assert remedy in said
    assert repo.blob(":m.safetensors") == before
    repo.git("reset", "--quiet", "--hard")
    if damage is not cut_short:
        put_raw(repo, text)
        said = repo.run("checkout", "--", "m.safetensors").stderr.decode()
        assert reason in said
        assert remedy in said
        assert repo.read("m.safetensors") == text
        repo.git("checkout", "HEAD", "--", "m.safetensors")
        repo.git("prune", "--expire=now")
    assert_healthy(repo)


def put_raw(repo, text: bytes) -> None:
    """A blob in the index and HEAD's place, past the filter, as a merge on a hosting site makes it."""
    oid = repo.git("hash-object", "-w", "--stdin", "--no-filters", data=text)
    repo.git("update-index", "--cacheinfo", f"100644,{oid},m.safetensors")
    repo.path.joinpath("m.safetensors").unlink()


def test_a_merge_past_the_driver_is_refused(repo, model, tune, safetensors, assert_healthy):
    tensors = model(layers=2, width=8)
    repo.commit("base", m__safetensors=safetensors(tensors))
    repo.git("checkout", "--quiet", "-b", "side")
    repo.commit("side", m__safetensors=safetensors(tune(tensors, 1, {"embed.weight", "layer.0.weight"})))
    repo.git("checkout", "--quiet", "main")
    repo.commit("main", m__safetensors=safetensors(tune(tensors, 2, {"embed.weight", "layer.1.weight"})))
    driver = "merge.coral.driver=git merge-file -L ours -L base -L theirs %A %O %B"
    repo.git("-c", driver, "merge", "side", code=1)
    assert repo.read("m.safetensors").startswith(FIRST_LINE)
    assert b"conflict markers" in repo.run("add", "m.safetensors", code=128).stderr
    repo.git("checkout", "--quiet", "--theirs", "m.safetensors")
    repo.git("add", "m.safetensors")
    repo.git("commit", "--quiet", "--no-edit")
    assert repo.blob("HEAD:m.safetensors") == repo.blob("side:m.safetensors")
    repo.git("reset", "--quiet", "--hard")
    assert_healthy(repo)


@pytest.mark.parametrize(
    "data",
    [b"# coral\n", b"# coral reefs: a study\nline\n", b"# coral 1\n", b"# coral 12x: y\n", b"x" + FIRST_LINE],
)
def test_text_that_only_resembles_a_manifest_is_data(repo, data, assert_healthy):
    repo.commit("one", t__bin=data)
    assert repo.blob("HEAD:t.bin").startswith(FIRST_LINE)
    repo.path.joinpath("t.bin").unlink()
    repo.git("checkout", "--", ".")
    assert repo.read("t.bin") == data
    assert_healthy(repo)


def test_raw_data_in_git_comes_out_as_it_is(repo, versions, assert_healthy):
    repo.write("m.safetensors", versions[0])
    for command in (["add", "--all"], ["commit", "--quiet", "-m", "raw"]):
        repo.git(*command, env={"GIT_CONFIG_GLOBAL": os.devnull})
    assert repo.blob("HEAD:m.safetensors") == versions[0]
    repo.path.joinpath("m.safetensors").unlink()
    repo.git("checkout", "--", ".")
    assert repo.read("m.safetensors") == versions[0]
    repo.git("add", "--renormalize", ".")
    assert repo.blob(":m.safetensors").startswith(FIRST_LINE)
    assert_healthy(repo)


@pytest.fixture
def lacking(committed):
    """The second version is checked out, and every object of it is gone; the first one's are there."""
    committed.git("checkout", "--quiet", "HEAD~")
    keep = committed.objects("main~:m.safetensors")
    folder = committed.path / ".git" / "coral" / "objects" / "packs"
    with committed.store() as store:
        gone = [
            pack.id.hex()
            for pack in store.packs()
            if not keep & {one.object_id for one in store.pack_objects(pack.id)}
        ]
    assert len(gone) == 1
    for path in folder.glob(f"{gone[0]}.*"):
        path.unlink()
    return committed


def test_missing_objects_leave_the_manifest_and_are_named(lacking, assert_healthy):
    said = lacking.run("checkout", "--quiet", "main").stderr.decode()
    assert "'m.safetensors'" in said
    assert "tensor 'embed.weight'" in said
    assert "git coral fetch" in said
    assert lacking.read("m.safetensors") == lacking.blob("main:m.safetensors")
    assert lacking.status() == ""
    done = lacking.run("coral", "checkout", code=1)
    assert b"tensor 'embed.weight'" in done.stderr
    assert b"1 file" not in done.stderr
    lacking.path.joinpath("m.safetensors").unlink()
    lacking.run("coral", "checkout", "m.safetensors", code=1)
    assert_healthy(lacking, missing=True)


def test_adding_the_file_again_brings_missing_objects_back(lacking, versions, assert_healthy):
    lacking.git("checkout", "--quiet", "main")
    lacking.write("m.safetensors", versions[1])
    lacking.git("add", "m.safetensors")
    assert lacking.status() == ""
    lacking.path.joinpath("m.safetensors").unlink()
    lacking.git("checkout", "--", ".")
    assert lacking.read("m.safetensors") == versions[1]
    assert_healthy(lacking)


def test_strict_fails_the_checkout(lacking, versions, assert_healthy):
    lacking.git("config", "coral.strict", "true")
    done = lacking.run("checkout", "--quiet", "main", code=128)
    assert b"tensor 'embed.weight'" in done.stderr
    lacking.git("reset", "--quiet", "--hard", "main~")
    assert lacking.read("m.safetensors") == versions[0]
    assert_healthy(lacking, missing=True)


def test_skipping_leaves_manifests_to_be_written_later(committed, versions, assert_healthy):
    committed.git("checkout", "--quiet", "HEAD~", env={"CORAL_SKIP_SMUDGE": "1"})
    assert committed.read("m.safetensors") == committed.blob("HEAD:m.safetensors")
    assert committed.status() == ""
    assert (
        committed.run("coral", "status", code=1)
        .stdout.decode()
        .rstrip()
        .splitlines()[0]
        .endswith("unfinished")
    )
    committed.coral("checkout", "-q")
    assert committed.read("m.safetensors") == versions[0]
    assert committed.status() == ""
    assert_healthy(committed)


@pytest.mark.parametrize("inline", [{"CI": "true"}, {"GIT_CONFIG_PARAMETERS": "'coral.deferSmudge'='false'"}])
def test_files_go_through_the_pipe_where_asked(committed, versions, assert_healthy, inline):
    committed.git("checkout", "--quiet", "HEAD~", env=inline)
    assert committed.read("m.safetensors") == versions[0]
    committed.git("checkout", "--quiet", "main", env=inline)
    assert committed.read("m.safetensors") == versions[1]
    assert committed.status() == ""
    assert_healthy(committed)


def test_a_damaged_object_fails_an_inline_checkout(committed, versions, assert_healthy):
    committed.git("checkout", "--quiet", "HEAD~")
    damage_packs_of(committed, "main:m.safetensors")
    done = committed.run("checkout", "--quiet", "main", code=128, env={"CI": "true"})
    assert b"m.safetensors" in done.stderr


def test_a_damaged_object_leaves_the_manifest_when_deferred(committed):
    committed.git("checkout", "--quiet", "HEAD~")
    damage_packs_of(committed, "main:m.safetensors")
    done = committed.run("checkout", "--quiet", "main")
    assert b"'m.safetensors' stays a manifest" in done.stderr
    assert committed.read("m.safetensors") == committed.blob("main:m.safetensors")
    assert committed.run("coral", "checkout", code=1).stderr


def test_a_damaged_table_concerns_its_file_only(repo, versions):
    opaque = random.Random(5).randbytes(6 << 20)
    repo.commit("one", w__bin=opaque, m__safetensors=versions[0])
    (table,) = parse(repo.blob("HEAD:w.bin"), DEFAULT_LIMITS).tables
    for name in ("w.bin", "m.safetensors"):
        repo.write(name, repo.blob(f"HEAD:{name}"))
    with repo.store() as store:
        place = store.locate(table.object_id)
        path = store.layout.pack_path(place.pack)
    os.chmod(path, 0o644)
    with open(path, "r+b") as file:
        file.seek(place.offset + place.entry_length - 40)
        file.write(b"damage")
    done = repo.run("coral", "checkout", code=1)
    assert b"'w.bin' was not written" in done.stderr
    assert repo.read("m.safetensors") == versions[0]
    assert repo.read("w.bin") == repo.blob("HEAD:w.bin")


def damage_packs_of(repo, spec: str) -> None:
    """Change a byte in the last third of every pack that holds an object of a file."""
    with repo.store() as store:
        packs = {store.locate(one).pack for one in repo.objects(spec)}
        for pack in packs:
            path = store.layout.pack_path(pack)
            with open(path, "rb") as file:
                data = bytearray(file.read())
            data[len(data) * 4 // 5] ^= 0x55
            os.chmod(path, 0o644)
            with open(path, "wb") as file:
                file.write(data)
