"""Set-up and its undoing, from nothing, and which files are tracked."""

from __future__ import annotations

import json
import os

import pytest

CONFIGURED = {"filter.coral.process", "filter.coral.required", "merge.coral.driver", "diff.coral.xfuncname"}


def keys(repo, scope: str) -> set[str]:
    listed = repo.git("config", f"--{scope}", "--list", "--name-only", code=None)
    return {key for key in listed.splitlines() if key.split(".")[1:2] == ["coral"]}


@pytest.fixture
def bare_home(home, installed_home, tmp_path):
    """No drivers are configured anywhere."""
    assert not (home / ".gitconfig").exists()
    return home


@pytest.fixture
def plain(bare_home, tmp_path, at):
    """A git repository that nobody has set up."""
    repo = at(tmp_path / "plain")
    repo.path.mkdir()
    repo.git("init", "--quiet", "-b", "main")
    return repo


def test_the_global_configuration(plain, assert_healthy):
    said = plain.coral("install")
    assert "(global configuration)" in said
    assert keys(plain, "global") >= CONFIGURED
    assert not keys(plain, "local")
    assert os.access(plain.path / ".git" / "hooks" / "pre-push", os.X_OK)
    assert os.readlink(plain.path / ".coral") == ".git/coral"
    assert plain.status() == ""
    assert plain.coral("install") == said
    plain.coral("uninstall")
    assert not keys(plain, "global")
    assert "there are no drivers" in plain.coral("uninstall")
    assert_healthy(plain)


def test_the_local_configuration(plain, assert_healthy):
    plain.coral("install", "--local")
    assert keys(plain, "local") >= CONFIGURED
    assert not keys(plain, "global")
    plain.coral("uninstall", "--local")
    assert not keys(plain, "local")
    assert not (plain.path / ".git" / "hooks" / "pre-push").exists()
    assert not os.path.lexists(plain.path / ".coral")
    assert (plain.path / ".git" / "coral" / "FORMAT").exists()
    assert_healthy(plain)


def test_outside_of_a_repository(bare_home, tmp_path, at):
    nowhere = at(tmp_path)
    assert "(global configuration)" in nowhere.coral("install")
    said = nowhere.run("coral", "install", "--local", code=10).stderr.decode()
    assert "needs a repository" in said
    for command in ("status", "ls-files", "checkout"):
        said = nowhere.run("coral", command, code=10).stderr.decode()
        assert said.startswith("error: ")
        assert "hint: " in said


def test_a_foreign_filter_is_not_overwritten(plain):
    plain.git("config", "--global", "filter.coral.clean", "somebody-else %f")
    said = plain.run("coral", "install", code=17).stderr.decode()
    assert "not ours" in said
    assert plain.git("config", "filter.coral.clean") == "somebody-else %f"
    plain.coral("uninstall")
    assert plain.git("config", "filter.coral.clean") == "somebody-else %f"


def test_a_new_repository_in_one_step(bare_home, tmp_path, at, assert_healthy, safetensors, model):
    repo = at(tmp_path)
    said = repo.coral("init", "new/one")
    assert "made a git repository" in said
    repo = at(tmp_path / "new" / "one")
    assert keys(repo, "local") >= CONFIGURED
    repo.coral("track", "*.safetensors")
    data = safetensors(model())
    repo.commit("one", m__safetensors=data)
    assert repo.blob("HEAD:m.safetensors").startswith(b"# coral 1: ")
    assert repo.status() == ""
    assert_healthy(repo)


def test_init_in_a_repository_that_is_set_up_changes_nothing(repo, assert_healthy):
    first = repo.coral("init")
    assert repo.coral("init") == first
    assert not keys(repo, "local")
    assert_healthy(repo)


def test_installing_late_writes_the_files(repo, make_repo, home, at, model, safetensors, assert_healthy):
    data = safetensors(model())
    repo.commit("one", m__safetensors=data)
    (home / ".gitconfig").unlink()
    clone = at(repo.path.parent / "clone")
    repo.git("clone", "--quiet", repo.path, clone.path)
    text = clone.read("m.safetensors")
    assert text == repo.blob("HEAD:m.safetensors")
    assert b"pip install coral-git && git coral install" in text
    store = clone.path / ".git" / "coral" / "objects" / "packs"
    store.mkdir(parents=True)
    for path in (repo.path / ".git" / "coral" / "objects" / "packs").iterdir():
        (store / path.name).write_bytes(path.read_bytes())
    assert "wrote 1 file" in clone.coral("install")
    assert clone.read("m.safetensors") == data
    assert clone.status() == ""
    assert_healthy(clone)


def test_the_filter_sets_up_a_repository_on_first_use(repo, assert_healthy):
    repo.commit("one", w__bin=b"some weights")
    assert (repo.path / ".git" / "hooks" / "pre-push").exists()
    assert os.path.islink(repo.path / ".coral")
    assert repo.status() == ""
    assert_healthy(repo)


def test_a_hook_of_somebody_else_is_chained(plain, assert_healthy):
    hook = plain.write(".git/hooks/pre-push", b"#!/bin/sh\nexit 0\n")
    hook.chmod(0o755)
    plain.coral("install")
    assert hook.with_name("pre-push.local").read_bytes() == b"#!/bin/sh\nexit 0\n"
    assert b"git coral hook pre-push" in hook.read_bytes() or b"git-coral hook pre-push" in hook.read_bytes()
    plain.coral("uninstall", "--local")
    assert hook.read_bytes() == b"#!/bin/sh\nexit 0\n"
    assert_healthy(plain)


def test_without_the_program_nothing_is_added_raw(repo, home, tmp_path, assert_healthy):
    """The configuration stays behind when the program is removed."""
    config = (home / ".gitconfig").read_text()
    folders = [
        folder for folder in os.environ["PATH"].split(":") if not os.path.exists(f"{folder}/git-coral")
    ]
    (home / ".gitconfig").write_text(config.replace("git-coral", "git-coral-gone"))
    repo.write("w.bin", b"weights")
    done = repo.run("add", "w.bin", code=128, env={"PATH": ":".join(folders)})
    assert b"pip install coral-git && git coral install" in done.stderr
    assert repo.status() == "?? .gitattributes\n?? w.bin"
    assert_healthy(repo)


def test_track_untrack_and_list(plain, assert_healthy):
    plain.coral("install")
    assert plain.coral("track", "*.bin", "a b.pt") == "tracking '*.bin'\ntracking 'a b.pt'"
    assert plain.coral("track", "*.bin") == "'*.bin' is tracked already"
    below = plain.path / "sub"
    below.mkdir()
    plain.coral("track", "--filename", "x[1].gguf", cwd=below)
    listed = json.loads(plain.coral("track", "--json"))
    assert [(one["pattern"], one["file"]) for one in listed] == [
        ("*.bin", ".gitattributes"),
        ("a b.pt", ".gitattributes"),
        ("/x\\[1].gguf", "sub/.gitattributes"),
    ]
    plain.commit("one", **{"w__bin": b"1", "a b__pt": b"2", "sub/x[1]__gguf": b"3", "other__txt": b"4"})
    assert [line.split(" ")[-1] for line in plain.coral("ls-files").splitlines()] == [
        "b.pt",
        "sub/x[1].gguf",
        "w.bin",
    ]
    plain.coral("untrack", "*.bin")
    assert "*.bin" not in plain.coral("track")
    assert_healthy(plain)


def test_unknown_commands_and_options(plain):
    said = plain.run("coral", "statsu", code=2).stderr.decode()
    assert "did you mean 'status'" in said
    assert plain.run("coral", "status", "--nonsense", code=2).stderr
    assert plain.run("coral", "filter-process", code=1, data=b"").stderr
