"""Which remote stores a repository has: those that were added, and its git remotes.

A store that was added with ``git coral remote add`` is ``coral.remote.<name>.url`` in git's configuration.
Where there is one, pushes go there; otherwise the objects travel with the git remote itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace

from coral_git.errors import CoralError
from coral_git.git.command import Git
from coral_git.pipeline.messages import warn
from coral_git.pipeline.neighbour import find_neighbour
from coral_git.pipeline.workspace import Workspace
from coral_git.remotes.address import find_remote
from coral_git.remotes.base import RemoteContext, RemoteStore
from coral_git.remotes.directory import MARKER
from coral_git.remotes.gitrefs import GitRefsRemote
from coral_git.remotes.registry import open_remote

_SECTION = "coral.remote."
_URL = ".url"
_GIT_SCHEMES = frozenset({"ssh", "git", "http", "https"})

FETCH_FROM = "CORAL_FETCH_FROM"
"""Environment variable: one more remote store that is asked for what is missing, a name, a URL or a path."""


def store_urls(workspace: Workspace) -> dict[str, str]:
    """The stores that were added: name → location, in the order of the configuration."""
    urls = {}
    for key, value in workspace.config.items():
        if key.startswith(_SECTION) and key.endswith(_URL) and value:
            urls[key[len(_SECTION) : -len(_URL)]] = value
    return urls


def git_remotes(workspace: Workspace) -> list[str]:
    """The git remotes: the upstream of the current branch first, then ``origin``, then the others."""
    names = [
        key[len("remote.") : -len(_URL)]
        for key, _ in workspace.config.items()
        if key.startswith("remote.") and key.endswith(_URL)
    ]
    branch = workspace.git.run("symbolic-ref", "--quiet", "--short", "HEAD", check=False).decode().strip()
    upstream = workspace.config.get(f"branch.{branch}.remote") if branch else None
    first = [name for name in (upstream, "origin") if name in names]
    return list(dict.fromkeys(first + names))


def open_store(workspace: Workspace, location: str) -> RemoteStore:
    """The remote store at a location: an added store's name, a git remote, a URL or a directory.

    Raises:
        UsageError: it cannot be meant.
    """
    added = store_urls(workspace).get(location)
    if added is None and location not in git_remotes(workspace):
        added = _git_location(workspace, location)
    return open_remote(location if added is None else added, remote_context(workspace))


def remote_stores(workspace: Workspace) -> Iterator[RemoteStore]:
    """Every remote store that may have an object, in the order in which they are asked.

    The location in the environment variable ``CORAL_FETCH_FROM`` comes first. One that cannot be opened is
    named in a warning and skipped.
    """
    given = os.environ.get(FETCH_FROM)
    names = [*([given] if given else []), *store_urls(workspace), *git_remotes(workspace)]
    for name in dict.fromkeys(names):
        try:
            yield from stores_at(workspace, name)
        except CoralError as error:
            warn(error.message, error.hint)


def stores_at(workspace: Workspace, location: str) -> list[RemoteStore]:
    """Where to fetch what is at a location: for a repository on this machine its own store comes first.

    Raises:
        UsageError: no remote store can be meant.
    """
    store = open_store(workspace, location)
    if location in store_urls(workspace):
        return [store]
    url = workspace.config.get(f"remote.{location}.url") if location in git_remotes(workspace) else location
    path = (url or "").removeprefix("file://").removeprefix("git+")
    if not path or "://" in path:
        return [store]
    top = workspace.paths.work_tree or workspace.paths.git_dir
    neighbour = find_neighbour(
        os.path.join(top, os.path.expanduser(path)),
        location,
        workspace.limits.pack_max,
        fsync=workspace.settings.fsync,
    )
    return [store] if neighbour is None else [neighbour, store]


def stores_for_push(workspace: Workspace, git_remote: str) -> list[RemoteStore]:
    """Where the objects go when commits are pushed to a git remote (a name or a URL).

    A git remote with URLs of its own for pushing is one remote store for each of them: what they have is what
    counts, not what the place has that is fetched from.
    """
    added = store_urls(workspace)
    if added:
        return [open_store(workspace, name) for name in added]
    context = remote_context(workspace)
    address = find_remote(workspace.git, git_remote)
    if address is None:
        return [open_store(workspace, git_remote)]
    if not address.push_urls:
        return [GitRefsRemote(address, context)]
    return [GitRefsRemote(replace(address, url=url, push_urls=(url,)), context) for url in address.push_urls]


def is_known_remote(workspace: Workspace, text: str) -> bool:
    """Whether a text is the name of an added store or of a git remote."""
    return text in store_urls(workspace) or text in git_remotes(workspace)


def looks_like_location(text: str) -> bool:
    """Whether a text can only be meant as a URL or a path, not as a revision."""
    return "://" in text or text.startswith(("git+", "/", "./", "../", "~")) or os.path.isdir(text)


def _git_location(workspace: Workspace, location: str) -> str:
    """A URL or a path as ``open_remote`` wants it: what git calls a repository gets its ``git+``.

    A relative path counts from where git runs, the root of the work tree. A directory that was made for packs
    is one; every other path that is there is a repository.
    """
    scheme, separator, rest = location.partition("://")
    if separator and scheme != "file":
        return f"git+{location}" if scheme in _GIT_SCHEMES else location
    top = workspace.paths.work_tree or workspace.paths.git_dir
    path = os.path.join(top, os.path.expanduser(rest if separator else location))
    if os.path.exists(os.path.join(path, MARKER)):
        return os.path.abspath(path)
    if os.path.exists(path):
        return f"git+{location if separator else os.path.abspath(path)}"
    colon, slash = location.find(":"), location.find("/")
    is_ssh = not separator and colon > 0 and (slash < 0 or colon < slash)
    return f"git+{location}" if is_ssh and not location.startswith("git+") else location


def remote_context(workspace: Workspace) -> RemoteContext:
    """What remote stores need of this repository."""
    return RemoteContext(
        git=workspace.git,
        scratch_git=Git.elsewhere,
        store_root=workspace.store.root,
        ref_prefix=workspace.settings.ref_prefix,
        limits=workspace.limits,
        fsync=workspace.settings.fsync,
    )
