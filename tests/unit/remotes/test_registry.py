"""From what the user writes to a remote store."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coral_git.errors import RemoteError, UsageError
from coral_git.remotes.base import RemoteContext, RemoteStore
from coral_git.remotes.directory import DirectoryRemote
from coral_git.remotes.gitrefs import GitRefsRemote
from coral_git.remotes.messages import escape, escape_lines, redact
from coral_git.remotes.registry import file_url_path, open_remote

from .conftest import git, make_context


@pytest.mark.parametrize(
    ("location", "kind"),
    [
        ("origin", GitRefsRemote),
        ("git+https://host/x.git", GitRefsRemote),
        ("git+ssh://host/x.git", GitRefsRemote),
        ("git+host:x.git", GitRefsRemote),
        ("git+../x.git", GitRefsRemote),
        ("/srv/models", DirectoryRemote),
        ("../models", DirectoryRemote),
        ("./with:colon", DirectoryRemote),
        ("file:///srv/models", DirectoryRemote),
    ],
)
def test_kinds(user: Path, location: str, kind: type) -> None:
    git("remote", "add", "origin", "https://host/origin.git", cwd=user)
    assert isinstance(open_remote(location, make_context(user)), kind)


@pytest.mark.parametrize(
    ("location", "hint"),
    [
        ("", "name a git remote"),
        ("https://host/x.git", "git+https://host/x.git"),
        ("ssh://me:secret@host/x.git", "git+ssh://me@host/x.git"),
        ("host:x.git", "git+host:x.git"),
        ("nfs4s3://bucket", "plugin"),
        ("file://elsewhere/x", "file:///path"),
        ("file://", "file:///path"),
    ],
)
def test_refusals(user: Path, location: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_remote(location, make_context(user))
    assert hint in caught.value.hint
    assert "secret" not in caught.value.message + caught.value.hint


def open_plugin(location: str, context: RemoteContext) -> RemoteStore:
    return DirectoryRemote(location.partition("://")[2], limits=context.limits)


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed distribution whose entry points the test writes."""
    info = tmp_path / "site" / "plug-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plug\nVersion: 1\n")
    monkeypatch.syspath_prepend(str(info.parent))
    (info.parent / "coral_plug.py").write_text(
        "from coral_git.remotes.directory import DirectoryRemote\n"
        "def make(location, context):\n    return DirectoryRemote('/srv', name=location)\n"
    )
    return info / "entry_points.txt"


def test_plugin(user: Path, plugins: Path) -> None:
    plugins.write_text("[coral_git.remotes]\nplug = coral_plug:make\nbad = coral_plug:absent\n")
    importlib.invalidate_caches()
    assert open_remote("plug://x", make_context(user)).name == "plug://x"
    with pytest.raises(RemoteError, match="cannot load"):
        open_remote("bad://x", make_context(user))


def test_two_plugins_for_a_scheme(user: Path, plugins: Path) -> None:
    plugins.write_text("[coral_git.remotes]\nplug = coral_plug:make\n")
    other = plugins.parent.parent / "other-1.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1\n")
    (other / "entry_points.txt").write_text("[coral_git.remotes]\nplug = other_plug:make\n")
    importlib.invalidate_caches()
    with pytest.raises(RemoteError, match="several plugins"):
        open_remote("plug://x", make_context(user))


def test_file_url_path() -> None:
    assert file_url_path("file:///a%20b/%C3%A9") == "/a b/é"
    assert file_url_path("file://localhost/a") == "/a"


def test_redact() -> None:
    assert redact("https://me:secret@host/x") == "https://me@host/x"
    assert redact("https://me@host/x") == "https://me@host/x"
    assert redact("ssh://host:22/a@b") == "ssh://host:22/a@b"
    assert redact("/a\nb") == "/a\\nb"


@given(st.text())
def test_escape(text: str) -> None:
    assert escape(text).isprintable()
    assert escape_lines(text).isprintable()
    if text.isprintable() and len(text) <= 2000:
        assert escape(text) == text
