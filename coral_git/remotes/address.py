"""Where a git remote is, as the user's configuration says."""

from __future__ import annotations

import os
from dataclasses import dataclass

from coral_git.errors import GitError
from coral_git.remotes.base import GitRunner
from coral_git.remotes.messages import redact

_CARRIED = ("proxy", "proxyauthmethod", "receivepack", "serveroption", "uploadpack", "vcs")
"""Settings of a remote that decide how it is reached. Those that decide what is fetched stay behind."""


@dataclass(frozen=True, slots=True)
class GitAddress:
    """A git remote.

    Attributes:
        name: what the user calls it; fit to be printed.
        url: where to fetch from, before ``insteadOf`` is applied.
        push_urls: where to push to, if elsewhere.
        settings: how to reach it, pairs of a key such as ``"proxy"`` and its value.
    """

    name: str
    url: str
    push_urls: tuple[str, ...] = ()
    settings: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class UserRepository:
    """What a scratch repository takes over from the repository of the user.

    Attributes:
        config_files: the files to include.
        object_format: ``"sha1"`` or ``"sha256"``.
    """

    config_files: tuple[str, ...]
    object_format: str


def read_user_repository(git: GitRunner) -> UserRepository:
    """Ask git for the configuration files and the hash of the repository it runs in.

    Raises:
        GitError: there is no repository.
    """
    answer = git.run(
        "rev-parse", "--path-format=absolute", "--git-common-dir", "--git-dir", "--show-object-format"
    )
    common, git_dir, object_format = answer.decode("utf-8", "surrogateescape").splitlines()
    files = [os.path.join(common, "config")]
    of_work_tree = os.path.join(git_dir, "config.worktree")
    if os.path.exists(of_work_tree):
        files.append(of_work_tree)
    return UserRepository(tuple(files), object_format)


def find_remote(git: GitRunner, name: str) -> GitAddress | None:
    """The configured git remote of this name, or None.

    The URLs are those of the configuration: ``git remote get-url`` would apply ``insteadOf``, and the scratch
    repository would apply it again.
    """
    values: dict[str, list[str]] = {}
    for entry in git.run("config", "--list", "-z").decode("utf-8", "surrogateescape").split("\0"):
        key, _, value = entry.partition("\n")
        if key.startswith(f"remote.{name}."):
            values.setdefault(key[len(name) + 8 :], []).append(value)
    urls = values.get("url", [])
    if not urls:
        return None
    base = _base_directory(git)
    pushed = values.get("pushurl") or (urls if len(urls) > 1 else [])
    settings = tuple((key, value) for key in _CARRIED for value in values.get(key, []))
    return GitAddress(
        redact(name), absolute(urls[0], base), tuple(absolute(url, base) for url in pushed), settings
    )


def address_of_url(url: str) -> GitAddress:
    """The git remote at a URL; a relative path is one from the current directory."""
    return GitAddress(redact(url), absolute(url, os.getcwd()))


def absolute(url: str, base: str) -> str:
    """The URL, with the relative path of an existing repository made absolute.

    A scratch repository lies elsewhere, so git would look for ``../model.git`` in the wrong place.
    """
    path = os.path.join(base, url)
    return os.path.abspath(path) if "://" not in url and os.path.exists(path) else url


def _base_directory(git: GitRunner) -> str:
    """Where git resolves relative paths: the top of the work tree, or the bare repository itself."""
    for option in ("--show-toplevel", "--absolute-git-dir"):
        try:
            answer = git.run("rev-parse", option)
        except GitError:
            continue
        return answer.decode("utf-8", "surrogateescape").removesuffix("\n")
    return os.getcwd()
