"""Git's configuration: what we read is what git reads."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coral_git.errors import GitError, UsageError
from coral_git.git.command import Git
from coral_git.git.config import GitConfig, read_config, set_value, unset_value

TEXT = """\
[Core]
\tBigFileThreshold = 1m
[coral]
\tThreads = 2
\tflag
\tempty =
\tThreads = 4
[remote "Origin.x"]
\turl = "one\\ntwo"
[coral "sub"]
\tkey = v
"""


@pytest.fixture
def git(repo) -> Git:
    with (repo.path / ".git/config").open("a") as file:
        file.write(TEXT)
    return Git(str(repo.path))


def test_reading(git):
    config = read_config(git)
    assert config.get("CORAL.threads") == "4"
    assert config.get_all("coral.THREADS") == ["2", "4"]
    assert config.get("remote.Origin.x.URL") == "one\ntwo"
    assert config.get("remote.origin.x.url") is None
    assert config.get("coral.flag") == "true"
    assert config.get("coral.empty") == ""
    assert config.get("coral.none") is None
    assert config.get_int("core.bigFileThreshold", 0) == 1 << 20
    items = list(config.items())
    assert ("coral.threads", "4") in items
    assert items.index(("coral.threads", "4")) < items.index(("coral.sub.key", "v"))


@pytest.mark.parametrize(
    "value", ["true", "YES", "on", "1", "-1", "2k", "0", "0k", "false", "No", "OFF", "", "maybe", "1x", "k"]
)
def test_booleans_are_gits(repo, value):
    config = GitConfig(b"a.b\n" + value.encode() + b"\0")
    done = subprocess.run(
        ["git", "-c", f"a.b={value}", "config", "--bool", "a.b"], capture_output=True, cwd=repo.path
    )
    if done.returncode:
        with pytest.raises(UsageError, match=r"'a\.b'"):
            config.get_bool("a.b")
    else:
        assert config.get_bool("a.b") is (done.stdout == b"true\n")
    assert config.get_bool("a.c", True)
    assert config.get_bool("a.c") is False


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["", "-"]), st.integers(0, 4000), st.sampled_from(["", "k", "M", "g"]))
def test_numbers_are_gits(repo, sign, number, unit):
    value = f"{sign}{number}{unit}"
    done = subprocess.run(
        ["git", "-c", f"a.b={value}", "config", "--type=int", "a.b"], capture_output=True, cwd=repo.path
    )
    assert GitConfig(f"a.b\n{value}\0".encode()).get_int("a.b", 7) == int(done.stdout)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(exclude_characters="\0\r", exclude_categories=["Cs"]), max_size=20))
def test_values_come_back(repo, value):
    git = Git(str(repo.path))
    set_value(git, "coral.Sub Section.x.key", value)
    assert read_config(git).get("coral.Sub Section.x.KEY") == value


def test_scopes(git, git_environment):
    set_value(git, "coral.threads", "8", "global")
    assert "threads = 8" in (git_environment / ".gitconfig").read_text()
    assert read_config(git).get_all("coral.threads") == ["8", "2", "4"]
    set_value(git, "coral.threads", "6")
    assert read_config(git).get_all("coral.threads") == ["8", "6"]
    assert unset_value(git, "coral.threads")
    assert not unset_value(git, "coral.threads")
    assert read_config(git).get("coral.threads") == "8"
    with pytest.raises(UsageError, match="no scope 'everywhere'"):
        set_value(git, "coral.threads", "1", "everywhere")
    with pytest.raises(GitError):
        set_value(git, "nosection", "1")


def test_a_file_and_a_blob(repo, git):
    repo.commit(
        **{".coralconfig": b"[coral]\n\tremote = https://example.org\n[include]\n\tpath = .git/config\n"}
    )
    for place in ({"file": str(repo.path / ".coralconfig")}, {"blob": "HEAD:.coralconfig"}):
        config = read_config(git, **place)
        assert config.get("coral.remote") == "https://example.org"
        assert config.get("coral.threads") is None
    with pytest.raises(GitError):
        read_config(git, file=str(repo.path / "gone"))


def test_outside_of_a_repository(git_environment, tmp_path):
    (git_environment / ".gitconfig").write_text("[coral]\n\tthreads = 3\n")
    assert read_config(Git(str(tmp_path))).get("coral.threads") == "3"


def test_a_damaged_file(git, repo):
    (repo.path / ".git/config").write_text("[core\n")
    with pytest.raises(GitError, match="bad config"):
        read_config(git)
