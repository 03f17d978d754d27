"""Fetching objects into the store: for the files at hand, for revisions, for branches of somebody else's."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from coral_git.errors import GitError, ObjectMissingError, UsageError
from coral_git.git.revisions import Blob, has_commits, list_index, resolve_commit
from coral_git.pipeline.closure import find_incomplete
from coral_git.pipeline.fetch import fetch_objects
from coral_git.pipeline.history import BringTables, NamedObjects, named_by, named_in_history, named_in_tree
from coral_git.pipeline.stores import (
    git_remotes,
    is_known_remote,
    looks_like_location,
    store_urls,
    stores_at,
)
from coral_git.pipeline.workspace import Workspace
from coral_git.remotes.base import RemoteStore
from coral_git.types import ObjectId

_NAMED = 10


@dataclass(frozen=True, slots=True)
class FetchReport:
    """What a fetch did, or with ``dry_run`` would do.

    Attributes:
        named: objects that were asked for.
        wanted: those that were not here.
        missing: those that could not be had, each as its place; empty with ``dry_run``.
    """

    named: int
    wanted: int
    missing: tuple[str, ...] = ()


def fetch(
    workspace: Workspace,
    arguments: Sequence[str],
    *,
    everything: bool = False,
    dry_run: bool = False,
    quiet: bool = False,
) -> FetchReport:
    """Bring objects into the store.

    Args:
        workspace: the repository.
        arguments: a remote, an added store, a URL or a path, then revisions; or revisions alone.
            Branches of a remote that is named are fetched by git first; from a URL, all that is new in them.
        everything: all objects of all refs.
        dry_run: only count.
        quiet: print only problems.

    Raises:
        UsageError: a revision is not known.
        GitError: git cannot fetch.
    """
    location, revisions = _split(workspace, arguments)
    stores = stores_at(workspace, location) if location else None
    named = _named(workspace, location, revisions, everything, stores, quiet)
    wanted = find_incomplete(workspace.store, named)
    if dry_run or not wanted:
        return FetchReport(len(named), len(wanted))
    missing = fetch_objects(workspace, wanted, stores, quiet=quiet)
    return FetchReport(len(named), len(wanted), tuple(str(named[one]) for one in missing))


def require_complete(report: FetchReport) -> None:
    """Refuse a fetch that could not get everything.

    Raises:
        ObjectMissingError: it names tensors and files.
    """
    if not report.missing:
        return
    lines = "".join(f"\n  {place}" for place in report.missing[:_NAMED])
    more = f"\n  … and {len(report.missing) - _NAMED} more" if len(report.missing) > _NAMED else ""
    raise ObjectMissingError(
        f"{len(report.missing)} of {report.named} objects cannot be had:{lines}{more}",
        hint="whoever has them: git coral push",
    )


def _split(workspace: Workspace, arguments: Sequence[str]) -> tuple[str, list[str]]:
    """The place to fetch from, empty for all that are configured, and the revisions."""
    if not arguments:
        return "", []
    first, *rest = arguments
    if is_known_remote(workspace, first):
        return first, rest
    if _is_revision(workspace, first) and not looks_like_location(first):
        return "", list(arguments)
    if ":" in first or looks_like_location(first):
        return first, rest
    raise UsageError(
        f"'{first}' is neither a remote nor a revision", hint="see 'git coral remote' and 'git log --all'"
    )


def _named(
    workspace: Workspace,
    location: str,
    revisions: Sequence[str],
    everything: bool,
    stores: Sequence[RemoteStore] | None,
    quiet: bool,
) -> NamedObjects:
    def bring(tables: list[ObjectId]) -> object:
        return fetch_objects(workspace, tables, stores, quiet=quiet)

    if everything:
        head = ["HEAD"] if has_commits(workspace.git) else []
        return named_in_history(workspace, ["--all", *head], bring)
    if not revisions:
        named = named_in_tree(workspace, "HEAD", bring) if has_commits(workspace.git) else {}
        return named | _named_in_index(workspace, bring)
    fetched: list[str] = []
    if location and location not in store_urls(workspace):
        fetched = _fetch_refs(workspace, location, revisions)
    named = {}
    for revision in fetched or revisions:
        if ".." in revision or revision.startswith("^"):
            named |= named_in_history(workspace, [revision], bring)
        else:
            named |= named_in_tree(workspace, resolve_commit(workspace.git, revision), bring)
    if fetched and location not in git_remotes(workspace):
        ours = ["--not", "--branches", "--tags", "--remotes"]
        named = named_in_history(workspace, [*fetched, *ours], bring) | named
    return named


def _named_in_index(workspace: Workspace, bring: BringTables) -> NamedObjects:
    if workspace.paths.work_tree is None:
        return {}
    entries = (entry for entry in list_index(workspace.git) if entry.is_file)
    return named_by(workspace, (Blob(entry.oid, entry.path) for entry in entries), bring)


def _fetch_refs(workspace: Workspace, location: str, revisions: Sequence[str]) -> list[str]:
    """Let git fetch branches or tags; their ids, or nothing where these are revisions that are known here."""
    source = location.removeprefix("git+")
    try:
        workspace.git.run("fetch", "--quiet", "--end-of-options", source, *revisions)
    except GitError:
        if all(_is_revision(workspace, revision) for revision in revisions):
            return []
        raise
    with open(os.path.join(workspace.paths.git_dir, "FETCH_HEAD"), "rb") as file:
        return [line.split(b"\t", 1)[0].decode() for line in file]


def _is_revision(workspace: Workspace, text: str) -> bool:
    """Whether git understands a text as a revision or a range."""
    return not text.startswith("-") and workspace.git.succeeds("rev-list", "--max-count=1", text, "--")
