"""Editing of ``.gitattributes``, judged by ``git check-attr``."""

from __future__ import annotations

import os
import subprocess

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from coral_git.errors import PolicyError, UsageError
from coral_git.git import attributes
from coral_git.git.attributes import literal_pattern, track, tracked_lines, untrack
from coral_git.git.command import Git

OURS = b"filter=coral diff=coral merge=coral -text"

names = st.binary(min_size=1, max_size=12).filter(
    lambda name: b"/" not in name and b"\0" not in name and name.lower() not in (b".", b"..", b".git")
)
awkward_names = st.text('ab #!"\\*?[]-~\t\r\né', min_size=1, max_size=8).map(str.encode)
other_lines = st.sampled_from(
    [
        b"# comment",
        b"",
        b"*.txt text",
        b'"a b" -diff',
        b"[attr]mine filter=coral",
        b"!neg filter=coral",
        b"  # x",
        b"\t*.c  eol=lf \t",
    ]
)


@pytest.fixture(scope="module")
def repo(tmp_path_factory):
    root = tmp_path_factory.mktemp("attributes")
    subprocess.run(("git", "init", "-q", "."), cwd=root, check=True)
    return root


@pytest.mark.parametrize(
    ("pattern", "written"),
    [
        (b"*.safetensors", b"*.safetensors"),
        (b"models/**", b"models/**"),
        (b"my model.bin", b'"my model.bin"'),
        (b"#1.bin", b'"#1.bin"'),
        (b"a#1.bin", b"a#1.bin"),
        (b"!x", b"\\!x"),
        (b"! x", b'"\\\\! x"'),
        (b'"q".bin', b'"\\"q\\".bin"'),
        (b'a"q".bin', b'a"q".bin'),
        (b"a\\*", b"a\\*"),
        (b"a\\* b", b'"a\\\\* b"'),
        (b"tab\there", b'"tab\\there"'),
        (b"bell\x07\x01", b'"bell\\a\\001"'),
        ("größe.bin".encode(), "größe.bin".encode()),
    ],
)
def test_what_is_written(pattern, written):
    text = track(b"", pattern)
    assert text == written + b" " + OURS + b"\n"
    assert track(text, pattern) == text
    assert untrack(text, pattern) == b""


@pytest.mark.parametrize("pattern", [b"", b"models/", b"[attr]x", b"a\0b", b"x" * 2040])
def test_patterns_that_git_would_ignore(pattern):
    with pytest.raises(UsageError):
        track(b"", pattern)


@given(st.lists(st.one_of(names, awkward_names), min_size=1, max_size=25, unique=True))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_git_sees_the_tracked_files_and_no_others(repo, found):
    tracked, others = found[: len(found) // 2 + 1], found[len(found) // 2 + 1 :]
    text = b""
    for name in tracked:
        text = track(text, literal_pattern(name))
    (repo / ".gitattributes").write_bytes(text)
    git = Git(str(repo))
    values = attributes.check_attr(git, [*tracked, *others])
    assert values == {**dict.fromkeys(tracked, b"coral"), **dict.fromkeys(others, b"unspecified")}
    assert attributes.check_attr(git, tracked, "text") == dict.fromkeys(tracked, b"unset")
    assert [pattern for _, pattern in tracked_lines(text)] == [literal_pattern(name) for name in tracked]
    for name in tracked:
        text = untrack(text, literal_pattern(name))
    assert text == b""


@given(st.lists(other_lines, max_size=6), st.sampled_from([b"\n", b"\r\n"]), st.booleans(), names)
@settings(max_examples=200, deadline=None)
@example([], b"\n", False, b"a")
def test_the_rest_of_the_file_survives(lines, end, final, pattern):
    pattern = literal_pattern(pattern)
    text = end.join(lines) + (end if final and lines else b"")
    new = track(text, pattern)
    assert new.startswith(text)
    assert track(new, pattern) == new
    assert len(list(tracked_lines(new))) == 1
    if b"\r\n" in text.partition(b"\n")[0] + b"\n":
        assert new.count(b"\n") == new.count(b"\r\n")
    back = untrack(new, pattern)
    assert back in (text, text + b"\n", text + b"\r\n")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"*.st filter=lfs diff=lfs merge=lfs -text\n", b"*.st " + OURS + b"\n"),
        (b"*.st lockable filter=lfs\r\n", b"*.st lockable " + OURS + b"\r\n"),
        (b"*.st filter=coral\n", b"*.st filter=coral diff=coral merge=coral -text\n"),
        (b"*.st filter=coral diff=mine\n", b"*.st filter=coral diff=mine merge=coral -text\n"),
        (b"*.st filter=coral text=auto x\n", b"*.st filter=coral x diff=coral merge=coral -text\n"),
        (b"*.st binary\n", b"*.st binary " + OURS + b"\n"),
        (b"*.st filter=coral filter=lfs\n", b"*.st " + OURS + b"\n"),
        (b'"*.st" x', b'"*.st" x ' + OURS),
        (b'  "*.s\\164"\tx\n', b'  "*.s\\164"\tx ' + OURS + b"\n"),
        (b"\xef\xbb\xbf*.st x\n*.b y\n", b"\xef\xbb\xbf*.st x " + OURS + b"\n*.b y\n"),
        (b"*.st a\n*.st b\n*.c d\n", b"*.st a\n*.st b " + OURS + b"\n*.c d\n"),
        (b"#*.st a\n*.c", b"#*.st a\n*.c\n*.st " + OURS + b"\n"),
        (b"*.c\r\n*.d", b"*.c\r\n*.d\r\n*.st " + OURS + b"\r\n"),
        (b'"*.st filter=coral\n', b'"*.st filter=coral\n*.st ' + OURS + b"\n"),
    ],
)
def test_existing_lines_are_completed_in_place(repo, old, new):
    assert track(old, b"*.st") == new
    (repo / ".gitattributes").write_bytes(new)
    git = Git(str(repo))
    for name, value in (("filter", b"coral"), ("merge", b"coral"), ("text", b"unset")):
        assert attributes.check_attr(git, [b"d/x.st"], name) == {b"d/x.st": value}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"*.a x\n*.st " + OURS + b"\n*.b y\n", b"*.a x\n*.b y\n"),
        (b"*.st lockable " + OURS + b" eol=lf\r\n", b"*.st lockable eol=lf\r\n"),
        (b"*.st filter=lfs -text\n", b"*.st filter=lfs -text\n"),
        (b"*.st filter=coral diff=mine\n", b"*.st diff=mine\n"),
        (b"*.st " + OURS + b"\n*.st " + OURS + b"\n", b""),
        (b"\xef\xbb\xbf*.st " + OURS + b"\n*.b y\n", b"\xef\xbb\xbf*.b y\n"),
        (b"# *.st " + OURS + b"\n", b"# *.st " + OURS + b"\n"),
        (b"*.st2 " + OURS, b"*.st2 " + OURS),
    ],
)
def test_untrack_takes_only_what_is_ours(old, new):
    assert untrack(old, b"*.st") == new


def test_a_line_never_grows_beyond_what_git_reads():
    with pytest.raises(UsageError):
        track(b"*.st " + b"x" * 2030 + b"\n", b"*.st")


def test_files_of_folders_and_info_are_listed(tmp_path, monkeypatch):
    subprocess.run(("git", "init", "-q", "."), cwd=tmp_path, check=True)
    (tmp_path / "models").mkdir()
    assert attributes.track_in(str(tmp_path), b"*.safetensors")
    assert not attributes.track_in(str(tmp_path), b"*.safetensors")
    assert attributes.track_in(str(tmp_path / "models"), b"my *.bin")
    (tmp_path / ".git/info/attributes").write_bytes(b"# local\n*.pt filter=coral\n")
    subprocess.run(("git", "add", ".gitattributes"), cwd=tmp_path, check=True)
    git = Git(str(tmp_path))
    found = attributes.list_patterns(git, str(tmp_path), str(tmp_path / ".git"))
    assert [
        (tracked.pattern, os.path.relpath(tracked.file, tmp_path), tracked.line) for tracked in found
    ] == [
        (b"*.safetensors", ".gitattributes", 1),
        (b"my *.bin", "models/.gitattributes", 1),
        (b"*.pt", ".git/info/attributes", 2),
    ]
    asked = [b"models/my 1.bin", b"my 1.bin", b"x.pt"]
    assert list(attributes.check_attr(git, asked).values()) == [b"coral", b"unspecified", b"coral"]
    assert attributes.check_attr(git, [b"a.safetensors"], cached=True) == {b"a.safetensors": b"coral"}
    assert attributes.check_attr(git, []) == {}
    assert attributes.untrack_in(str(tmp_path / "models"), b"my *.bin")
    assert not attributes.untrack_in(str(tmp_path / "models"), b"my *.bin")
    assert (tmp_path / "models/.gitattributes").read_bytes() == b""


def test_permission_bits_are_kept_and_links_refused(tmp_path):
    file = tmp_path / ".gitattributes"
    file.write_bytes(b"*.c text\n")
    file.chmod(0o600)
    attributes.track_in(str(tmp_path), b"*.st")
    assert file.stat().st_mode & 0o777 == 0o600
    file.rename(tmp_path / "real")
    file.symlink_to("real")
    with pytest.raises(PolicyError):
        attributes.track_in(str(tmp_path), b"*.x")
    assert b"*.x" not in (tmp_path / "real").read_bytes()


def test_a_merge_driver_is_named_in_the_line_and_leaves_with_it():
    line = b"*.st filter=coral diff=coral merge=coral-average -text\n"
    assert track(b"", b"*.st", b"coral-average") == line
    assert track(b"*.st filter=coral diff=coral merge=coral -text\n", b"*.st", b"coral-average") == line
    assert track(line, b"*.st") == line
    assert track(line, b"*.st", b"coral") == track(b"", b"*.st")
    assert untrack(b"a b\n" + line, b"*.st") == b"a b\n"
    foreign = b"*.st filter=coral diff=coral merge=mine -text\n"
    assert untrack(foreign, b"*.st") == b"*.st merge=mine\n"
    assert track(foreign, b"*.st", b"coral-ties") == line.replace(b"average", b"ties")
