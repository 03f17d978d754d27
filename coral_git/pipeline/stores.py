"""Which remote stores a repository has: those that were added, and its git remotes.

A store that was added with ``git coral remote add`` is ``coral.remote.<name>.url`` in git's configuration.
Where there is one, pushes go there; otherwise the objects travel with the git remote itself.
"""

from __future__ import annotations

from coral_git.git.command import Git
from coral_git.pipeline.workspace import Workspace
from coral_git.remotes.base import RemoteContext, RemoteStore
from coral_git.remotes.registry import open_remote

_SECTION = "coral.remote."
_URL = ".url"


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
    return open_remote(location if added is None else added, remote_context(workspace))


def remote_stores(workspace: Workspace) -> list[RemoteStore]:
    """Every remote store that may have an object, in the order in which they are asked."""
    names = [*store_urls(workspace), *git_remotes(workspace)]
    return [open_store(workspace, name) for name in names]


def stores_for_push(workspace: Workspace, git_remote: str) -> list[RemoteStore]:
    """Where the objects go when commits are pushed to a git remote (a name or a URL)."""
    added = store_urls(workspace)
    if added:
        return [open_store(workspace, name) for name in added]
    remotes = git_remotes(workspace)
    location = git_remote if git_remote in remotes else f"git+{git_remote}"
    return [open_remote(location, remote_context(workspace))]


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
