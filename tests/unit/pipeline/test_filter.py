"""The filter without git around it: what it answers to one request after another."""

from __future__ import annotations

import errno
import os
import signal
import subprocess

import pytest

from coral_git import fsops
from coral_git.errors import CoralError, InvalidManifestError, ObjectMissingError
from coral_git.git.filter_protocol import Request
from coral_git.manifest.parse import FIRST_LINE
from coral_git.pipeline.checkout import Outcome
from coral_git.pipeline.filter import CoralFilter, report, subcommand

DATA = bytes(range(256)) * 20


@pytest.fixture
def work_tree(tmp_path, monkeypatch):
    """The root of the work tree of a new repository, as the current directory."""
    for name in [name for name in os.environ if name.startswith(("GIT_", "CORAL_")) or name == "CI"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    root = tmp_path / "repo"
    subprocess.run(["git", "init", "--quiet", root], check=True)
    subprocess.run(["git", "config", "coral.autoSetup", "false"], cwd=root, check=True)
    monkeypatch.chdir(root)
    terminate = signal.getsignal(signal.SIGTERM)
    yield root
    signal.signal(signal.SIGTERM, terminate)


@pytest.fixture
def coral(work_tree):
    """The filter in an empty repository."""
    made = CoralFilter()
    yield made
    made.finish()


def clean(coral: CoralFilter, name: bytes, data: bytes) -> bytes:
    return bytes(coral.clean(Request("clean", name), [data[:100], data[100:]]))


def smudge(coral: CoralFilter, name: bytes, text: bytes, *, can_delay: bool = False) -> bytes:
    answer = coral.smudge(Request("smudge", name, can_delay=can_delay), [text[:50], text[50:]])
    return answer if isinstance(answer, bytes) else b"".join(bytes(piece) for piece in answer)


def test_clean_and_smudge_through_the_pipe(coral):
    text = clean(coral, b"w.bin", DATA)
    assert text.startswith(FIRST_LINE)
    assert clean(coral, b"w.bin", text) == text
    assert smudge(coral, b"w.bin", text) == DATA
    assert smudge(coral, b"w.bin", b"raw data") == b"raw data"


def test_what_goes_to_the_work_tree_is_written_at_the_end(coral, work_tree):
    text = clean(coral, b"w.bin", DATA)
    assert smudge(coral, b"w.bin", text, can_delay=True) == text
    (work_tree / "w.bin").write_bytes(text)  # as git does
    coral.finish()
    assert (work_tree / "w.bin").read_bytes() == DATA


def test_a_file_that_is_asked_for_again_is_written_as_the_last_one(coral, work_tree):
    first, second = clean(coral, b"w.bin", DATA), clean(coral, b"w.bin", DATA[::-1])
    smudge(coral, b"w.bin", first, can_delay=True)
    smudge(coral, b"w.bin", second, can_delay=True)
    (work_tree / "w.bin").write_bytes(second)
    coral.finish()
    assert (work_tree / "w.bin").read_bytes() == DATA[::-1]


def test_a_file_that_was_changed_meanwhile_is_left_alone(coral, work_tree, capfd):
    text = clean(coral, b"w.bin", DATA)
    smudge(coral, b"w.bin", text, can_delay=True)
    (work_tree / "w.bin").write_bytes(b"somebody was quicker")
    coral.finish()
    assert (work_tree / "w.bin").read_bytes() == b"somebody was quicker"
    assert "'w.bin' was changed meanwhile" in capfd.readouterr().err


@pytest.mark.parametrize(("name", "value"), [("CI", "true"), ("CORAL_SKIP_SMUDGE", "1")])
def test_the_environment_decides(coral, monkeypatch, name, value):
    text = clean(coral, b"w.bin", DATA)
    monkeypatch.setenv(name, value)
    assert smudge(coral, b"w.bin", text, can_delay=True) == (DATA if name == "CI" else text)


def test_a_damaged_manifest_is_refused_in_and_stays_a_text_out(coral, capfd):
    text = clean(coral, b"w.bin", DATA).replace(b"size 5120", b"size 5121")
    with pytest.raises(InvalidManifestError, match=r"w\.bin"):
        clean(coral, b"w.bin", text)
    assert smudge(coral, b"w.bin", text, can_delay=True) == text
    assert "'w.bin' stays a text" in capfd.readouterr().err


def test_a_missing_object(coral, work_tree, capfd):
    text = clean(coral, b"w.bin", DATA)
    for path in (work_tree / ".git" / "coral" / "objects" / "packs").iterdir():
        path.unlink()
    assert smudge(coral, b"w.bin", text) == text
    assert "'w.bin' lacks 1 object (chunk 1 of 1)" in capfd.readouterr().err
    subprocess.run(["git", "config", "coral.strict", "true"], check=True)
    strict = CoralFilter()
    for can_delay in (False, True):
        with pytest.raises(ObjectMissingError):
            smudge(strict, b"w.bin", text, can_delay=can_delay)
    strict.finish()


def test_one_file_that_cannot_be_written_does_not_stop_the_others(coral, work_tree, capfd):
    texts = {name: clean(coral, name, DATA + name) for name in (b"a.bin", b"b.bin")}
    for name, text in texts.items():
        smudge(coral, name, text, can_delay=True)
        (work_tree / os.fsdecode(name)).write_bytes(text)

    def refuse(operation, path):
        if operation == "write" and path == "a.bin":
            raise OSError(errno.ENOSPC, "No space left on device")

    fsops.set_fault_hook(refuse)
    try:
        coral.finish()
    finally:
        fsops.set_fault_hook(None)
    assert (work_tree / "a.bin").read_bytes() == texts[b"a.bin"]
    assert (work_tree / "b.bin").read_bytes() == DATA + b"b.bin"
    said = capfd.readouterr().err
    assert "'a.bin' stays a manifest: cannot write it: no space left on device" in said
    assert not list((work_tree / ".git" / "coral-tmp").iterdir())


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["git", "status"], "status"),
        (["/usr/bin/git", "-C", "status", "add", "."], "add"),
        (["git", "-c", "a.b=c", "--no-optional-locks", "diff", "--cached"], "diff"),
        (["git", "--git-dir=x", "commit"], "commit"),
        (["git", "--git-dir", "status", "stash"], "stash"),
        (["git"], ""),
        (["git", "--version"], ""),
        (["/usr/lib/git-core/git-status"], ""),
        (["python", "status"], ""),
        ([], ""),
    ],
)
def test_the_subcommand_of_a_command_line(arguments, command):
    assert subcommand(arguments) == command


def test_the_report_escapes_what_could_control_a_terminal(capfd):
    outcome = Outcome()
    outcome.changed.append(b"a\x1b[2Jb")
    outcome.failed[b"new\nline"] = CoralError("it is broken", hint="mend it")
    report(outcome)
    said = capfd.readouterr().err
    assert "\x1b" not in said
    assert said.count("\n") == 3
    assert "stays a manifest: it is broken" in said
    assert "hint: mend it" in said
