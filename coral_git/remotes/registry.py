"""From what the user writes to a remote store: a table of schemes, and entry points for unknown ones."""

from __future__ import annotations

import os
from collections.abc import Callable

from coral_git.errors import RemoteError, UsageError
from coral_git.remotes.address import address_of_url, find_remote
from coral_git.remotes.base import RemoteContext, RemoteStore
from coral_git.remotes.directory import DirectoryRemote
from coral_git.remotes.gitrefs import GitRefsRemote
from coral_git.remotes.messages import escape, redact

RemoteFactory = Callable[[str, RemoteContext], RemoteStore]
"""Makes the remote store at a URL. Entry points of the group ``coral_git.remotes`` are such functions."""

ENTRY_POINT_GROUP = "coral_git.remotes"
_GIT = "git+"
_GIT_SCHEMES = frozenset({"ssh", "git", "http", "https", "ftp", "ftps"})


def open_remote(location: str, context: RemoteContext) -> RemoteStore:
    """The remote store that a user means.

    In this order: the name of a configured git remote; ``git+<url>``, a git remote; ``file://…`` and a path,
    a directory; another scheme, an installed plugin named for the scheme. Nothing is asked over the network.

    Args:
        location: what the user wrote.
        context: the repository it serves.

    Raises:
        UsageError: no remote store can be meant; the hint says what to write.
        GitError: the configuration cannot be read.
    """
    if not location:
        raise UsageError(
            "the location of a remote store is empty", hint="name a git remote, a URL or a directory"
        )
    address = find_remote(context.git, location)
    if address is not None:
        return GitRefsRemote(address, context)
    if location.startswith(_GIT):
        return GitRefsRemote(address_of_url(location[len(_GIT) :]), context)
    scheme, separator, _ = location.partition("://")
    if separator:
        factory = _FACTORIES.get(scheme) or _find_plugin(scheme, location)
        return factory(location, context)
    if _is_ssh_address(location):
        raise UsageError(
            f"{redact(location)!r} is no directory", hint=f"for a git remote: git+{redact(location)}"
        )
    return _open_path(location, context)


def _open_path(location: str, context: RemoteContext) -> RemoteStore:
    return DirectoryRemote(location, name=location, limits=context.limits, fsync=context.fsync)


def _open_file_url(location: str, context: RemoteContext) -> RemoteStore:
    return DirectoryRemote(file_url_path(location), name=location, limits=context.limits, fsync=context.fsync)


_FACTORIES: dict[str, RemoteFactory] = {"file": _open_file_url}
"""The schemes that need no plugin, besides ``git+``."""


def file_url_path(url: str) -> str:
    """The path that a ``file://`` URL names.

    Raises:
        UsageError: it names another host, or no absolute path.
    """
    from urllib.parse import unquote

    host, slash, path = url.removeprefix("file://").partition("/")
    if host not in ("", "localhost") or not slash:
        raise UsageError(f"{redact(url)!r} does not name a directory of this host", hint="write file:///path")
    path = "/" + unquote(path, errors="surrogateescape")
    if "\0" in path:
        raise UsageError(f"{redact(url)!r} does not name a directory")
    return path


def _find_plugin(scheme: str, location: str) -> RemoteFactory:
    """The factory that an installed package offers for a scheme.

    Raises:
        UsageError: there is none.
        RemoteError: there are two, or it cannot be loaded.
    """
    from importlib.metadata import entry_points

    found = list(entry_points(group=ENTRY_POINT_GROUP, name=scheme))
    if not found:
        hint = (
            f"for a git remote: git+{redact(location)}"
            if scheme in _GIT_SCHEMES
            else "install the plugin for it"
        )
        raise UsageError(f"no remote store is known for the scheme '{escape(scheme)}'", hint=hint)
    if len(found) > 1:
        packages = ", ".join(sorted(point.value for point in found))
        raise RemoteError(f"several plugins offer the scheme '{escape(scheme)}': {escape(packages)}")
    try:
        factory: RemoteFactory = found[0].load()
    except (ImportError, AttributeError) as error:
        raise RemoteError(f"cannot load the plugin for '{escape(scheme)}': {escape(str(error))}") from error
    return factory


def _is_ssh_address(location: str) -> bool:
    """Whether git would read ``host:path`` here; an existing path is a path."""
    colon, slash = location.find(":"), location.find("/")
    return colon > 0 and (slash < 0 or colon < slash) and not os.path.exists(location)
