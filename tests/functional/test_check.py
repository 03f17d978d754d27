"""``git coral check``: what continuous integration asks before a merge."""

from __future__ import annotations

import json

import pytest

from coral_git.manifest.text import FIRST_LINE


@pytest.fixture
def hub(repo, make_repo, model, safetensors):
    """A bare repository with one pushed commit; ``repo`` has it as its origin."""
    bare = make_repo("hub.git", bare=True)
    repo.commit("first", m__safetensors=safetensors(model(width=16)))
    repo.git("remote", "add", "origin", bare.path)
    repo.coral("push", "origin", "main")
    return bare


def test_a_sound_range(repo, hub):
    assert "1 commits, 1 files" in repo.coral("check")
    assert repo.coral("check", "-q", "--all", "--remote", "origin", "--complete") == ""
    assert repo.run("coral", "check", "--complete", code=2).stderr.startswith(b"error: '--complete' needs")


def test_raw_weights_of_somebody_without_coral(repo, hub, model, safetensors):
    raw = safetensors(model(5, width=16))
    repo.write("raw.safetensors", raw)
    without = [
        "-c",
        "filter.coral.clean=",
        "-c",
        "filter.coral.process=",
        "-c",
        "filter.coral.required=false",
    ]
    repo.git(*without, "add", "raw.safetensors")
    repo.git(*without, "commit", "--quiet", "-m", "raw")
    done = repo.run("coral", "check", "origin/main..HEAD", code=1)
    assert f"raw.safetensors: {len(raw)} bytes of raw weights".encode() in done.stdout
    (complaint,) = json.loads(repo.run("coral", "check", "--json", code=1).stdout)["complaints"]
    assert (complaint["kind"], complaint["file"]) == ("raw", "raw.safetensors")


def test_a_merge_on_a_hosting_site(repo, hub, model, tune, safetensors):
    """Lines of two versions are mixed; and a version whose objects were never pushed."""
    new = safetensors(tune(model(width=16), only={"layer.1.weight"}))
    repo.commit("second", m__safetensors=new)
    assert repo.blob("HEAD:m.safetensors").startswith(FIRST_LINE)
    assert "no problems" in repo.coral("check", "--remote", "origin")
    done = repo.run("coral", "check", "--remote", "origin", "--complete", code=1)
    assert b"tensor 'layer.1.weight'" in done.stdout
    lines = repo.blob("HEAD~:m.safetensors").split(b"\n")
    lines[-2] = repo.blob("HEAD:m.safetensors").split(b"\n")[-3]
    mixed = repo.git("hash-object", "-w", "--stdin", data=b"\n".join(lines))
    repo.git("update-index", "--cacheinfo", f"100644,{mixed},m.safetensors")
    repo.git("commit", "--quiet", "-m", "mixed")
    assert b"m.safetensors: the manifest is not valid" in repo.run("coral", "check", code=1).stdout


def test_in_the_bare_repository(hub):
    assert "no problems" in hub.coral("check", "main", "--remote", str(hub.path), "--complete")
