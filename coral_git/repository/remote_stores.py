"""The remote stores of a repository: listing, adding, removing."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from coral_git.errors import CoralError, UsageError
from coral_git.git.config import set_value, unset_value
from coral_git.pipeline.stores import git_remotes, remote_context, store_urls
from coral_git.pipeline.workspace import Workspace
from coral_git.remotes.directory import DirectoryRemote, create
from coral_git.remotes.messages import redact
from coral_git.remotes.registry import file_url_path, open_remote

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class StoreEntry:
    """A remote store as it is listed.

    Attributes:
        name: what it is called.
        location: where it is, without a password.
        kind: ``"store"`` for one that was added, ``"git"`` for a git remote.
        is_pushed: whether a push sends objects there.
    """

    name: str
    location: str
    kind: str
    is_pushed: bool


def list_stores(workspace: Workspace) -> list[StoreEntry]:
    """The added stores, then the git remotes, in the order in which they are asked."""
    added = store_urls(workspace)
    entries = [StoreEntry(name, redact(url), "store", True) for name, url in added.items()]
    for name in git_remotes(workspace):
        url = workspace.config.get(f"remote.{name}.url") or ""
        entries.append(StoreEntry(name, redact(url), "git", not added))
    return entries


def add_store(workspace: Workspace, name: str, location: str) -> str:
    """Add a remote store; a plain directory is made into one. Gives the location that was stored.

    Raises:
        UsageError: the name or the location cannot be used; the hint says what to write.
        RemoteError: the directory cannot be made.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"bad name {name!r} for a remote store", hint="letters, digits, '.', '_' and '-', e.g. 'nas'"
        )
    if name in store_urls(workspace):
        raise UsageError(f"there is a remote store '{name}' already", hint=f"git coral remote remove {name}")
    if name in git_remotes(workspace):
        raise UsageError(
            f"'{name}' is a git remote, and serves without being added", hint="take another name"
        )
    if location in git_remotes(workspace):
        raise UsageError(
            f"'{location}' is a git remote, and serves without being added",
            hint="to keep objects in a repository of their own: git+URL",
        )
    if not location:
        raise UsageError("the location of a remote store is empty", hint="name a directory or a URL")
    if not location.startswith(("git+", "file://")) and "://" not in location and ":" not in location[:1]:
        is_ssh = ":" in location.partition("/")[0] and not os.path.exists(location)
        location = location if is_ssh else os.path.abspath(os.path.expanduser(location))
    store = open_remote(location, remote_context(workspace))
    if isinstance(store, DirectoryRemote):
        create(file_url_path(location) if location.startswith("file://") else location)
    set_value(workspace.git, f"coral.remote.{name}.url", location)
    return redact(location)


def remove_store(workspace: Workspace, name: str) -> None:
    """Forget a remote store; what is in it stays.

    Raises:
        UsageError: there is none of that name in the configuration of this repository.
    """
    if not unset_value(workspace.git, f"coral.remote.{name}.url"):
        known = ", ".join(store_urls(workspace)) or "none"
        raise UsageError(
            f"no remote store '{redact(name)}' was added to this repository", hint=f"known: {known}"
        )


def describe(entry: StoreEntry) -> str:
    """A line for people."""
    role = "" if entry.is_pushed else " (fetch only)"
    return f"{entry.name}\t{entry.location} [{entry.kind}]{role}"


def count_packs(workspace: Workspace, entry: StoreEntry) -> int | None:
    """The packs that a remote store has now, or None where it cannot be asked."""
    location = store_urls(workspace).get(entry.name, entry.name)
    try:
        return len(open_remote(location, remote_context(workspace)).list_packs())
    except CoralError:
        return None
