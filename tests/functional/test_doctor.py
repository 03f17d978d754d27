"""``git coral doctor``: each trap is found, with its remedy, and a sound repository has none."""

from __future__ import annotations

import json
import os

import pytest


@pytest.fixture
def committed(repo):
    """A repository with one weight file, in order."""
    repo.commit("one", w__bin=b"weights" * 100)
    return repo


def findings(repo, code: int = 0, **options) -> dict[str, dict[str, str]]:
    """What ``git coral doctor --json`` finds, by check; each finding has a remedy."""
    output = json.loads(repo.coral("doctor", "--json", code=code, **options))
    assert {"coral-git", "python", "git", "kernel"} <= set(output["facts"])
    found = {finding["check"]: finding for finding in output["findings"]}
    assert all(finding["remedy"] for finding in found.values())
    kernel = found.pop("kernel", None)  # depends on how coral-git was installed
    assert kernel is None or kernel["level"] == "note"
    if found.get("program", {}).get("level") == "note":  # depends on where it was installed
        del found["program"]
    return found


def test_a_sound_repository(committed, assert_healthy):
    assert findings(committed) == {}
    said = committed.coral("doctor")
    assert "store: " in said
    assert "error" not in said
    assert_healthy(committed)


def test_outside_of_a_repository(home, tmp_path, at, installed):
    assert findings(at(tmp_path)) == {}
    (home / ".gitconfig").unlink()
    found = findings(at(tmp_path), code=1)
    assert found["drivers"]["remedy"] == "git coral install"


def test_drivers_of_another_installation(committed, assert_healthy):
    committed.git("config", "--local", "filter.coral.process", "'/gone/git-coral' filter-process")
    found = findings(committed, code=1)
    assert "local configuration" in found["drivers"]["message"]
    assert found["drivers"]["remedy"] == "git coral install --local"
    assert "/gone/git-coral" in found["program"]["message"]
    committed.git("config", "--local", "--unset", "filter.coral.process")
    assert findings(committed) == {}
    assert_healthy(committed)


def test_a_foreign_driver(committed, assert_healthy):
    committed.git("config", "--local", "merge.coral.driver", "somebody-else %A %O %B")
    assert "not ours" in findings(committed, code=1)["drivers"]["message"]
    assert_healthy(committed)


def test_the_hook(committed, assert_healthy):
    hook = committed.path / ".git" / "hooks" / "pre-push"
    hook.chmod(0o644)
    found = findings(committed)["hook"]
    assert (found["level"], found["remedy"]) == ("warning", f"chmod +x {hook}")
    hook.unlink()
    assert "no pre-push hook" in findings(committed)["hook"]["message"]
    committed.git("config", "core.hooksPath", "../team-hooks")
    found = findings(committed)["hook"]
    assert "core.hooksPath" in found["message"]
    assert 'git coral hook pre-push "$@"' in found["remedy"]
    committed.write("../team-hooks/pre-push", b'#!/bin/sh\ngit coral hook pre-push "$@" || exit\n').chmod(
        0o755
    )
    assert findings(committed) == {}
    assert_healthy(committed)


def test_raw_weights_at_head(committed, assert_healthy):
    committed.write("raw.bin", b"raw weights")
    committed.write("empty.bin", b"")
    for command in (["add", "raw.bin", "empty.bin"], ["commit", "--quiet", "-m", "raw"]):
        committed.git(*command, env={"GIT_CONFIG_GLOBAL": os.devnull})
    found = findings(committed, code=1)
    assert found["raw-weights"]["message"].endswith(": 'raw.bin'")
    assert "git add --renormalize" in found["raw-weights"]["remedy"]
    committed.git("add", "--renormalize", ".")
    committed.git("commit", "--quiet", "-m", "repaired")
    assert findings(committed) == {}
    assert_healthy(committed)


def test_a_damaged_manifest_at_head(committed):
    text = committed.blob("HEAD:w.bin").replace(b"size 700", b"size 701")
    oid = committed.git("hash-object", "-w", "--stdin", "--no-filters", data=text)
    committed.git("update-index", "--cacheinfo", f"100644,{oid},w.bin")
    committed.git("commit", "--quiet", "-m", "edited")
    assert "'w.bin'" in findings(committed, code=1)["damaged-manifest"]["message"]


def test_unfinished_files_and_missing_objects(committed, assert_healthy):
    committed.write("w.bin", committed.blob("HEAD:w.bin"))
    found = findings(committed, code=1)
    assert list(found) == ["unfinished"]
    assert found["unfinished"]["remedy"] == "git coral checkout"
    for path in (committed.path / ".git" / "coral" / "objects" / "packs").iterdir():
        path.unlink()
    found = findings(committed, code=1)
    assert set(found) == {"unfinished", "missing-objects"}
    assert found["missing-objects"]["remedy"] == "git coral fetch"
    assert_healthy(committed, missing=True)


def test_settings_of_git_that_do_harm(committed, assert_healthy):
    committed.git("config", "core.autocrlf", "true")
    assert findings(committed) == {}  # '-text' protects the files
    committed.write(".gitattributes", b"*.bin filter=coral\n")
    assert "'w.bin'" in findings(committed)["line-ends"]["message"]
    committed.git("config", "core.autocrlf", "false")
    assert findings(committed) == {}
    committed.write(".gitattributes", b"* text=auto\n*.bin filter=coral\n")
    assert set(findings(committed)) == {"line-ends"}
    committed.git("checkout", "--", ".gitattributes")
    committed.git("config", "merge.renormalize", "true")
    assert findings(committed)["merge-renormalize"]["remedy"] == "git config merge.renormalize false"
    assert_healthy(committed)


def test_the_store(make_repo, committed, assert_healthy):
    fresh = make_repo("fresh")
    found = findings(fresh)
    assert found["store"]["remedy"] == "git coral init"
    assert found["store"]["level"] == "note"
    assert set(found) == {"store", "hook"}
    committed.write(".git/coral/FORMAT", b"coral store 9\n")
    found = findings(committed, code=1)
    assert "version 9" in found["store"]["message"]
    committed.write(".git/coral/FORMAT", b"coral store 1\n")
    assert_healthy(committed)
