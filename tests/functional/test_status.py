"""``git coral status``, ``ls-files`` and ``checkout``."""

from __future__ import annotations

import hashlib
import json
import subprocess

import numpy as np
import pytest


@pytest.fixture
def tensors(model):
    """The tensors of a model."""
    return model(layers=1, width=24)


@pytest.fixture
def committed(repo, tensors, safetensors):
    """One model and one opaque file, committed."""
    repo.commit("one", m__safetensors=safetensors(tensors), **{"sub/w__bin": b"opaque" * 100})
    return repo


def files(repo, *args, code=0):
    """The files of ``git coral status --json`` by path."""
    output = json.loads(repo.coral("status", "--json", *args, code=code))
    return {file["path"]: file for file in output["files"]}


def test_status_of_what_is_staged(committed, tensors, tune, safetensors, assert_healthy):
    changed = tune(tensors, only={"embed.weight"})
    changed["head"] = np.ones(8, np.float32)
    del changed["layer.0.bias"]
    data = safetensors(changed)
    committed.write("m.safetensors", data)
    committed.git("add", "m.safetensors")
    found = files(committed)["m.safetensors"]
    counts = {key: found[key] for key in ("tensors", "new", "changed", "removed", "same")}
    assert counts == {"tensors": 3, "new": 1, "changed": 1, "removed": 1, "same": 1}
    assert found["raw_bytes"] == len(data)
    assert 0 < found["stored_bytes"] <= len(data) + 1000
    assert (found["missing"], found["unfinished"], found["state"]) == (0, False, "clean")
    line = committed.coral("status", "m.safetensors")
    assert line.startswith("m.safetensors: 3 tensors (1 new, 1 changed, 1 removed, 1 same), ")
    assert_healthy(committed)


def test_status_of_the_work_tree(committed, assert_healthy):
    assert {file["state"] for file in files(committed).values()} == {"clean"}
    committed.write("m.safetensors", b"other")
    (committed.path / "sub" / "w.bin").unlink()
    assert {path: file["state"] for path, file in files(committed).items()} == {
        "m.safetensors": "modified",
        "sub/w.bin": "deleted",
    }
    committed.coral("checkout", ".")
    assert {file["state"] for file in files(committed).values()} == {"clean"}
    assert_healthy(committed)


def test_status_before_the_first_commit(repo, assert_healthy):
    assert repo.coral("status").startswith("no weight files")
    repo.write("w.bin", b"x" * 99)
    repo.git("add", "--all")
    assert repo.coral("status").startswith("w.bin: 1 chunk (1 new), 99 B raw, ")
    assert_healthy(repo)


def test_status_fails_while_files_are_unfinished(committed, assert_healthy):
    (committed.path / "m.safetensors").write_bytes(committed.blob(":m.safetensors"))
    assert files(committed, code=1)["m.safetensors"]["unfinished"]
    assert committed.coral("status", "sub")
    done = committed.run("coral", "status", code=1)
    assert b", unfinished" in done.stdout
    assert b"git coral checkout" in done.stderr
    assert " unfinished " in committed.coral("ls-files")
    committed.coral("checkout")
    committed.coral("status")
    assert committed.status() == ""
    assert_healthy(committed)


def test_status_fails_while_objects_are_missing(committed, assert_healthy):
    for path in (committed.path / ".git" / "coral" / "objects" / "packs").iterdir():
        path.unlink()
    found = files(committed, code=1)
    assert found["m.safetensors"]["missing"] == 4
    assert b"4 objects missing" in committed.run("coral", "status", code=1).stdout
    assert json.loads(committed.coral("ls-files", "--json"))[0]["missing"] == 4
    assert_healthy(committed, missing=True)


def test_status_warns_of_a_foreign_hook_and_of_missing_drivers(committed, home, assert_healthy):
    hook = committed.write(".git/hooks/pre-push", b"#!/bin/sh\nexit 0\n")
    hook.chmod(0o755)
    committed.write(".git/hooks/pre-push.local", b"#!/bin/sh\n# another one\n")
    assert "is not coral's" in committed.run("coral", "status").stderr.decode()
    (home / ".gitconfig").unlink()
    output = json.loads(committed.coral("status", "--json"))
    assert {warning["check"] for warning in output["warnings"]} == {"drivers", "hook"}
    assert all(warning["hint"] for warning in output["warnings"])
    assert_healthy(committed)


def test_listing_the_index_and_commits(committed, tensors, safetensors, assert_healthy):
    data = safetensors(tensors)
    digest = hashlib.sha256(data).hexdigest()
    model_file, opaque = json.loads(committed.coral("ls-files", "--json"))
    assert model_file == {
        "path": "m.safetensors",
        "format": "safetensors/1",
        "size": len(data),
        "sha256": digest,
        "tensors": 3,
        "missing": 0,
        "state": "ok",
    }
    assert (opaque["path"], opaque["tensors"], opaque["format"]) == ("sub/w.bin", None, "chunks/1")
    short = committed.coral("ls-files", "m.safetensors")
    assert short.startswith(digest[:12] + " ")
    assert short.endswith(" m.safetensors")
    assert committed.coral("ls-files", "-l", "m.*").startswith(f"{digest} {len(data):>10}")
    committed.git("rm", "--quiet", "m.safetensors")
    assert "m.safetensors" not in committed.coral("ls-files")
    assert committed.coral("ls-files", "HEAD", "m.safetensors").startswith(digest[:12])
    below = committed.path / "sub"
    assert committed.coral("ls-files", "HEAD", ".", cwd=below).endswith(" sub/w.bin")
    assert len(committed.coral("ls-files", "HEAD", cwd=below).splitlines()) == 2
    assert b"no-such" in committed.run("coral", "ls-files", "no-such", code=2).stderr
    assert_healthy(committed)


def test_listing_a_bare_repository(committed, at, assert_healthy):
    committed.git("clone", "--quiet", "--bare", ".", "../bare.git")
    bare = at(committed.path.parent / "bare.git")
    assert bare.coral("ls-files") == ""
    listed = bare.coral("ls-files", "main")
    assert [line.split()[-2:] for line in listed.splitlines()] == [
        ["missing", "m.safetensors"],
        ["missing", "sub/w.bin"],
    ]
    assert b"needs a work tree" in bare.run("coral", "checkout", code=10).stderr


def test_checkout_restores_from_the_index(committed, tensors, safetensors, assert_healthy):
    committed.write("m.safetensors", b"spoilt")
    (committed.path / "sub" / "w.bin").unlink()
    (committed.path / "sub").rmdir()
    committed.write(".gitattributes", committed.read(".gitattributes") + b"# edited\n")
    done = committed.run("coral", "checkout", "*.safetensors", "sub/")
    assert done.stderr == b"wrote 2 files\n"
    assert committed.read("m.safetensors") == safetensors(tensors)
    assert committed.read("sub/w.bin") == b"opaque" * 100
    assert committed.status() == " M .gitattributes"
    assert_healthy(committed)


def test_checkout_leaves_what_is_right_alone(committed, age, assert_healthy):
    age(committed.path / "m.safetensors")
    committed.write("m.safetensors", b"spoilt")
    committed.coral("checkout", "-q", "m.safetensors")
    assert committed.run("coral", "checkout", "-q", ".").stderr == b""
    assert committed.status() == ""
    assert_healthy(committed)


def test_checkout_refuses_what_it_cannot_do(committed, assert_healthy):
    assert b"did not match" in committed.run("coral", "checkout", "nothing", code=2).stderr
    assert b"no weight file" in committed.run("coral", "checkout", ".gitattributes", code=2).stderr
    committed.git("checkout", "--quiet", "-b", "side")
    committed.commit("side", m__safetensors=b"side")
    committed.git("checkout", "--quiet", "main")
    committed.commit("main", m__safetensors=b"main")
    committed.git("merge", "side", code=1)
    assert b"is unmerged" in committed.run("coral", "checkout", "m.safetensors", code=2).stderr
    assert files(committed)["m.safetensors"]["state"] == "unmerged"
    assert committed.read("m.safetensors") == b"main"
    committed.git("merge", "--abort")
    assert_healthy(committed)


def test_checkout_does_not_overwrite_a_file_that_is_no_manifest_any_more(committed, assert_healthy):
    committed.git("rm", "--quiet", "--cached", "m.safetensors")
    committed.git("reset", "--quiet")
    committed.write("m.safetensors", b"the user's own")
    committed.coral("checkout")
    assert committed.read("m.safetensors") == b"the user's own"
    assert_healthy(committed)


def test_an_example_of_a_manifest_is_not_written_as_a_file(committed, assert_healthy):
    text = committed.blob("HEAD:m.safetensors")
    committed.commit("an example", **{"docs/example__txt": text})
    committed.coral("checkout")
    committed.coral("status")
    assert "example" not in committed.coral("ls-files")
    assert committed.read("docs/example.txt") == text
    assert_healthy(committed)


@pytest.mark.parametrize("command", [("status",), ("log",), ("ls-files", "--json"), ("--version",)])
def test_a_full_disk_below_the_output_is_said(committed, command):
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            ["git-coral", *command], cwd=committed.path, stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert done.returncode == 16
    assert done.stderr.startswith(b"error: cannot ")
    assert b"no space left on device" in done.stderr
    assert b"Traceback" not in done.stderr
