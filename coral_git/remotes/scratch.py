"""A bare repository for one transfer, so that the object database of the user stays small.

It reads the configuration of the user's repository, so that credentials, ``insteadOf``, proxies and ssh
settings apply, and overrides what would cost time or touch the user's data.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Iterator, Sequence

from coral_git import fsops
from coral_git.errors import GitError
from coral_git.remotes.address import GitAddress, UserRepository
from coral_git.remotes.base import GitRunner, RemoteContext

FETCH = "coral-fetch"
"""The name under which a scratch repository fetches."""

_PREFIX = "tmp-git"
_FOREIGN_SECONDS = 14 * 86400
_SETTINGS = """\
[core]
	bare = true
	hooksPath = /dev/null
	fsmonitor = false
	compression = 0
	looseCompression = 0
	bigFileThreshold = 1m
	fsync = none
	sharedRepository = umask
[pack]
	compression = 0
	window = 0
	writeReverseIndex = false
[fetch]
	unpackLimit = 1
	prune = false
	pruneTags = false
	writeCommitGraph = false
[transfer]
	unpackLimit = 1
[push]
	followTags = false
	recurseSubmodules = no
[submodule]
	recurse = false
[gc]
	auto = 0
[maintenance]
	auto = false
"""
"""Packs are compressed already: the defaults would compress and diff them again, at a tenth of the speed."""


_WRONG_FORMAT = ("hash algorithm", "mismatched algorithms")


def is_wrong_format(error: GitError) -> bool:
    """Whether git says that a remote uses the other hash."""
    return any(text in error.message for text in _WRONG_FORMAT)


def push_name(number: int) -> str:
    """The name under which a scratch repository pushes to the n-th URL."""
    return f"coral-push-{number}"


class Scratch:
    """A scratch repository. Made by :func:`open_scratch`.

    Args:
        path: its git directory.
        git: runs git in it.
        object_format: ``"sha1"`` or ``"sha256"``.
    """

    __slots__ = ("git", "object_format", "path")

    def __init__(self, path: str, git: GitRunner, object_format: str) -> None:
        self.path = path
        self.git = git
        self.object_format = object_format

    def lengths(self, blobs: Sequence[str]) -> list[int | None]:
        """The length of each blob; None for what is no blob."""
        text = "".join(f"{blob}\n" for blob in blobs).encode()
        lines = self.git.run("cat-file", "--batch-check=%(objecttype) %(objectsize)", input=text).decode()
        words = [line.partition(" ") for line in lines.splitlines()]
        return [int(length) if kind == "blob" else None for kind, _, length in words]

    def contents(self, names: Sequence[str]) -> list[bytes | None]:
        """The content of each object, named as git names them; None for one that is not there."""
        text = "".join(f"{name}\n" for name in names).encode()
        answer = memoryview(self.git.run("cat-file", "--batch=%(objectsize)", input=text))
        found: list[bytes | None] = []
        at = 0
        for name in names:
            start = at + bytes(answer[at : at + len(name) + 32]).index(b"\n") + 1
            word = bytes(answer[at : start - 1])
            length = int(word) if word.isdigit() else None
            found.append(None if length is None else bytes(answer[start : start + length]))
            at = start if length is None else start + length + 1
        return found


@contextlib.contextmanager
def open_scratch(
    context: RemoteContext, address: GitAddress, user: UserRepository, object_format: str
) -> Iterator[Scratch]:
    """Make a scratch repository in the store, and remove it again however the block ends.

    Args:
        context: the repository it serves.
        address: the git remote it talks to.
        user: the configuration it takes over.
        object_format: the hash of the git remote.

    Raises:
        GitError: git cannot make it.
        OSError: it cannot be written.
    """
    fsops.make_directory(context.store_root)
    sweep(context.store_root)
    path = os.path.join(context.store_root, fsops.unique_name(f"{_PREFIX}-{_host()}"))
    try:
        fsops.make_directory(path)
        git = context.scratch_git(path)
        git.run("init", "--quiet", "--bare", "--template=", f"--object-format={object_format}")
        _configure(os.path.join(path, "config"), address, user)
        yield Scratch(path, git, object_format)
    finally:
        remove_tree(path)


def sweep(store_root: str) -> None:
    """Remove scratch repositories of processes that are gone.

    Process ids mean something on one host only; what another host left in a shared store goes by its age.
    """
    mine = f"{_PREFIX}-{_host()}-"
    oldest = time.time() - _FOREIGN_SECONDS
    with os.scandir(store_root) as entries:
        for entry in entries:
            if entry.name.startswith(mine):
                owner = entry.name[len(mine) :].partition("-")[0]
                if owner.isdecimal() and not fsops.process_is_alive(int(owner)):
                    remove_tree(entry.path)
            elif entry.name.startswith(f"{_PREFIX}-"):
                with contextlib.suppress(OSError):
                    if entry.stat(follow_symlinks=False).st_mtime < oldest:
                        remove_tree(entry.path)


def remove_tree(path: str) -> None:
    """Remove a directory with all it holds, as far as possible."""
    for folder, directories, files in os.walk(path, topdown=False):
        for name in files:
            with contextlib.suppress(OSError):
                fsops.remove(os.path.join(folder, name))
        for name in directories:
            with contextlib.suppress(OSError):
                fsops.remove_directory(os.path.join(folder, name))
    with contextlib.suppress(OSError):
        fsops.remove_directory(path)


def _configure(path: str, address: GitAddress, user: UserRepository) -> None:
    """Append to the new repository's configuration; what comes last wins."""
    with open(path, "rb") as file:
        text = file.read()
    lines = [f"[include]\n\tpath = {quote(included)}\n" for included in user.config_files]
    lines.append(_SETTINGS)
    lines.append(_section(FETCH, address.url, None, address))
    for number, url in enumerate(push_targets(address)):
        lines.append(_section(push_name(number), url, url if address.push_urls else None, address))
    fsops.replace_file(path, text + "".join(lines).encode("utf-8", "surrogateescape"), 0o600)


def push_targets(address: GitAddress) -> tuple[str, ...]:
    """The URLs that a push goes to."""
    return address.push_urls or (address.url,)


def _section(name: str, url: str, push_url: str | None, address: GitAddress) -> str:
    """A remote without refspecs; gets a ``pushurl`` only from the user, as it stops ``pushInsteadOf``."""
    pairs = [("url", url), *([] if push_url is None else [("pushurl", push_url)]), *address.settings]
    return f'[remote "{name}"]\n' + "".join(f"\t{key} = {quote(value)}\n" for key, value in pairs)


def quote(value: str) -> str:
    """A value as git's configuration files want it."""
    for character, escaped in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("\t", "\\t")):
        value = value.replace(character, escaped)
    return f'"{value}"'


def _host() -> str:
    return hashlib.sha256(os.uname().nodename.encode()).hexdigest()[:8] if hasattr(os, "uname") else "here"
