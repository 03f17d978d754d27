"""The demonstration, on a fresh machine and on one where git is set up strangely."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from coral_git.repository.demo_training import train


@pytest.fixture
def bare_environment(coral_program, tmp_path) -> dict[str, str]:
    """No home, no variables; the program is not on the search path (unless git is in the same folder)."""
    own = Path(coral_program[0]).parent
    folders = [Path(folder) for folder in os.environ["PATH"].split(os.pathsep)]
    kept = [folder for folder in folders if folder != own or (folder / "git").exists()]
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    return {"PATH": os.pathsep.join(map(str, kept)), "TMPDIR": str(temporary)}


@pytest.fixture
def demo(coral_program, bare_environment, tmp_path):
    """Runs the demonstration: ``demo(*arguments, code=0, cwd=None, env=None)``."""

    def run(*arguments: str | Path, code: int = 0, cwd: Path | None = None, env=None) -> str:
        done = subprocess.run(
            [*coral_program, "demo", *map(os.fsencode, arguments)],
            cwd=cwd or tmp_path,
            env={**bare_environment, **(env or {})},
            capture_output=True,
            check=False,
        )
        output = done.stdout.decode()
        assert done.returncode == code, f"{done.returncode}\n{output}\n{done.stderr.decode()}"
        return output if code < 2 else done.stderr.decode()

    return run


def test_it_works_on_a_fresh_machine_and_leaves_nothing(demo, tmp_path):
    output = demo()
    assert "5 of 5 versions came back byte for byte" in output
    assert "$ git add .gitattributes model.safetensors\n" in output
    assert "OTHER BYTES" not in output
    assert "\x1b" not in output
    assert max(map(len, output.splitlines())) <= 110
    assert os.listdir(tmp_path / "tmp") == []
    assert os.listdir(tmp_path) == ["tmp"]


def test_nothing_of_the_user_matters_or_changes(demo, repo, home, tmp_path, at, assert_healthy):
    hooks = home / "hooks"
    hooks.mkdir()
    for name in ("pre-commit", "pre-push", "post-checkout", "reference-transaction"):
        (hooks / name).write_text("#!/bin/sh\nexit 1\n")
        (hooks / name).chmod(0o755)
    (home / ".config" / "git").mkdir(parents=True)
    (home / ".config" / "git" / "ignore").write_text("*.safetensors\n")
    (home / ".config" / "git" / "attributes").write_text("*.safetensors -filter\n")
    config = f"[core]\n\thooksPath = {hooks}\n[commit]\n\tgpgSign = true\n[user]\n\tuseConfigOnly = true\n"
    (home / ".gitconfig").write_text(config)
    names = ("HOME", "XDG_CONFIG_HOME")
    strange = {name: os.environ[name] for name in names} | {"CI": "true", "CORAL_SKIP_SMUDGE": "1"}
    strange |= {"GIT_DIR": str(repo.path / ".git"), "GIT_WORK_TREE": str(repo.path)}
    before = sorted(path.relative_to(repo.path) for path in repo.path.rglob("*"))

    report = json.loads(demo("--json", "--keep", "kept", cwd=repo.path, env=strange))

    folder = repo.path / "kept"
    assert report["folder"] == str(folder)
    assert report["identical"]
    assert (home / ".gitconfig").read_text() == config
    kept = {*folder.rglob("*"), folder}
    assert sorted(p.relative_to(repo.path) for p in repo.path.rglob("*") if p not in kept) == before
    assert os.listdir(tmp_path / "tmp") == []

    versions = report["versions"]
    assert len(versions) == 5
    assert all(version["restored_sha256"] == version["sha256"] for version in versions)
    assert len({version["sha256"] for version in versions}) == 5
    assert report["raw_bytes"] == sum(version["raw_bytes"] for version in versions)
    assert report["stored_bytes"] == sum(version["stored_bytes"] for version in versions)
    first, _, tuned, renamed, _ = versions
    assert first["stored_bytes"] < first["raw_bytes"]
    for version in (tuned, renamed):  # frozen and renamed tensors are stored once
        assert version["stored_bytes"] < 0.05 * version["raw_bytes"]
    assert report["server_bytes"] < 0.7 * report["raw_bytes"]
    (home / ".gitconfig").unlink()
    for place in ("model", "clone"):
        assert_healthy(at(folder / place))
        assert at(folder / place).status() == ""


def test_own_files_are_the_versions(demo, model, tune, safetensors, tmp_path):
    first = model()
    names = ["one.ckpt", "tw\x1b[31mo", "three"]
    for name, tensors in zip(names, (first, tune(first), first), strict=True):
        (tmp_path / name).write_bytes(safetensors(tensors))
    output = demo("--model", *names, names[-1])
    assert "4 of 4 versions came back byte for byte" in output
    assert "$ git coral track '*.ckpt'\n" in output
    assert "\x1b" not in output
    assert "tw\\x1b[31mo" in output
    assert os.listdir(tmp_path / "tmp") == []


def test_other_bytes_are_reported(demo, bare_environment, tmp_path):
    """A git that changes the file after the last checkout."""
    real = shutil.which("git", path=bare_environment["PATH"])
    (tmp_path / "bin").mkdir()
    wrapper = tmp_path / "bin" / "git"
    wrapper.write_text(
        f'#!/bin/sh\n"{real}" "$@" || exit\ncase "$*" in *"checkout --quiet main") printf x >>model ;; esac\n'
    )
    wrapper.chmod(0o755)
    (tmp_path / "weights").write_bytes(bytes(1000))
    path = f"{wrapper.parent}{os.pathsep}{bare_environment['PATH']}"
    output = demo("--model", "weights", "weights", code=1, env={"PATH": path})
    assert "1 of 2 versions came back byte for byte" in output
    assert "OTHER BYTES" in output
    assert os.listdir(tmp_path / "tmp") == []


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--keep", "."], 2, "'.' is not empty"),
        (["--keep", "file"], 1, "cannot use the folder 'file'"),
        (["--model", "absent"], 2, "does not exist"),
        (["file"], 2, "after one '--model'"),
    ],
)
def test_mistakes(coral_program, bare_environment, tmp_path, arguments, code, message):
    (tmp_path / "file").write_bytes(b"")
    done = subprocess.run(
        [*coral_program, "demo", *arguments],
        cwd=tmp_path,
        env=bare_environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert os.listdir(tmp_path / "tmp") == []


def test_the_network_learns():
    first = next(iter(train()))
    assert first.accuracy > 0.8
