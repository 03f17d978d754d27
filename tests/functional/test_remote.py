"""Remote stores that are added: a directory instead of the git remote."""

from __future__ import annotations

import json
import os
import subprocess

import pytest


@pytest.fixture
def work(make_repo):
    repo = make_repo("work")
    bare = make_repo("bare.git", bare=True)
    repo.git("remote", "add", "origin", bare.path)
    repo.coral("init")
    return repo


def test_a_directory_holds_the_weights(work, tmp_path, at, model, tune, safetensors, assert_healthy):
    store = tmp_path / "nas" / "store"
    work.coral("remote", "add", "nas", "../nas/store")
    assert (store / "coral-store").exists()
    tensors = model(0)
    first, second = safetensors(tensors), safetensors(tune(tensors))
    work.commit(m__safetensors=first)
    work.git("push", "-q", "origin", "main")
    packs = set(os.listdir(store / "packs"))
    assert packs
    work.commit(m__safetensors=second)
    work.git("push", "-q", "origin", "main")
    assert packs < set(os.listdir(store / "packs"))
    bare = at(tmp_path / "bare.git")
    assert bare.git("for-each-ref", "refs/coral") == ""

    subprocess.run(["git", "clone", "-q", bare.path, tmp_path / "c"], check=True, capture_output=True)
    clone = at(tmp_path / "c")
    assert clone.read("m.safetensors") != second
    clone.coral("remote", "add", "nas", str(store))
    clone.coral("pull", "-q")
    assert clone.read("m.safetensors") == second
    clone.coral("fetch", "nas", "HEAD~1")
    clone.git("checkout", "-q", "HEAD~1")
    assert clone.read("m.safetensors") == first
    assert_healthy(clone)


def test_objects_only_needs_no_git_remote(make_repo, tmp_path, model, safetensors):
    repo = make_repo("alone")
    repo.coral("remote", "add", "nas", f"file://{tmp_path}/store")
    repo.commit(m__safetensors=safetensors(model(0)))
    said = repo.run("coral", "push", "--objects-only", "nas").stderr.decode()
    assert "sent" in said
    assert os.listdir(tmp_path / "store" / "packs")
    assert repo.run("coral", "push", "--objects-only", "--all", "nas").stderr == b""


def test_list_add_remove(work, tmp_path):
    assert work.coral("remote") == "origin"
    work.coral("remote", "add", "nas", str(tmp_path / "store"))
    listed = json.loads(work.coral("remote", "list", "--json"))
    assert [(one["name"], one["kind"], one["is_pushed"]) for one in listed] == [
        ("nas", "store", True),
        ("origin", "git", False),
    ]
    assert str(tmp_path / "store") in work.coral("remote", "-v")
    assert json.loads(work.coral("remote", "--json")) == listed
    work.coral("remote", "remove", "nas")
    assert work.coral("remote", "list") == "origin"
    assert (tmp_path / "store" / "coral-store").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("bad/name", "x"), "bad name"),
        (("-x", "x"), "No such option"),
        (("origin", "x"), "is a git remote"),
        (("nas", "origin"), "is a git remote"),
        (("nas", "https://example.org/m.git"), "git+https://example.org/m.git"),
        (("nas", "host:m.git"), "git+host:m.git"),
        (("nas", "zzz://example.org"), "no remote store is known"),
        (("nas", ""), "empty"),
    ],
)
def test_add_refuses(work, arguments, said):
    done = work.run("coral", "remote", "add", *arguments, code=2)
    assert said in done.stderr.decode()
    assert work.coral("remote") == "origin"


def test_add_twice_and_a_directory_in_use(work, tmp_path):
    work.coral("remote", "add", "nas", str(tmp_path / "store"))
    assert b"already" in work.run("coral", "remote", "add", "nas", "elsewhere", code=2).stderr
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "file").write_text("x")
    assert b"not empty" in work.run("coral", "remote", "add", "two", str(tmp_path / "used"), code=15).stderr
    assert b"no remote store 'gone'" in work.run("coral", "remote", "remove", "gone", code=2).stderr


def test_a_directory_that_is_gone_names_itself(work, tmp_path, model, safetensors):
    work.coral("remote", "add", "nas", str(tmp_path / "store"))
    (tmp_path / "store").rename(tmp_path / "unmounted")
    work.commit(m__safetensors=safetensors(model(0)))
    done = work.run("coral", "push", "origin", "main", code=15)
    assert b"no remote store in" in done.stderr
    assert not (tmp_path / "store").exists()
    assert work.git("ls-remote", "origin") == ""


def test_a_repository_of_its_own_for_weights(work, make_repo, model, safetensors):
    weights = make_repo("weights.git", bare=True)
    work.coral("remote", "add", "weights", f"git+{weights.path}")
    work.commit(m__safetensors=safetensors(model(0)))
    work.git("push", "-q", "origin", "main")
    assert weights.git("for-each-ref", "refs/coral")
    assert "refs/coral" not in work.git("ls-remote", "origin")


def test_a_damaged_pack_of_one_file_keeps_no_other_file_waiting(
    work, tmp_path, at, model, safetensors, assert_healthy
):
    store = tmp_path / "nas"
    work.coral("remote", "add", "nas", str(store))
    bad = safetensors(model(1))
    good = safetensors({"alone": model(2)["embed.weight"]})
    work.commit(a__safetensors=bad)
    work.git("push", "-q", "origin", "main")
    (pack,) = (store / "packs").glob("*.pack")
    work.commit(b__safetensors=good)
    work.git("push", "-q", "origin", "main")
    data = bytearray(pack.read_bytes())
    data[len(data) // 2] ^= 1
    pack.chmod(0o644)
    pack.write_bytes(data)
    subprocess.run(
        ["git", "clone", "-q", tmp_path / "bare.git", tmp_path / "c"], check=True, capture_output=True
    )
    clone = at(tmp_path / "c")
    clone.coral("remote", "add", "nas", str(store))
    done = clone.run("coral", "checkout", code=1)
    assert f"the pack {pack.stem}".encode() in done.stderr
    assert b"'a.safetensors' was not written" in done.stderr
    assert b"'b.safetensors'" not in done.stderr
    assert clone.read("b.safetensors") == good
    assert clone.read("a.safetensors") == clone.blob("HEAD:a.safetensors")
    assert_healthy(clone, missing=True)
