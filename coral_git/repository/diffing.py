"""Which weight files differ between two sides, as ``git diff`` understands sides, and their versions."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from coral_git.diff.compare import Versions, Wanted, compare, needed_objects
from coral_git.diff.model import FileDiff
from coral_git.diff.pairs import pair_tensors
from coral_git.diff.version import FileVersion, StoredVersion, Version, describe, open_file
from coral_git.errors import CoralError, UsageError
from coral_git.git.attributes import check_attr
from coral_git.git.revisions import has_commits, resolve_commit
from coral_git.history.changes import ManifestReader
from coral_git.limits import DEFAULT_LIMITS
from coral_git.manifest.entries import Manifest
from coral_git.manifest.escape import printable
from coral_git.manifest.parse import FIRST_LINE, is_manifest_start, parse
from coral_git.pipeline import statcache
from coral_git.pipeline.decode import expanded
from coral_git.pipeline.parallel import Workers
from coral_git.pipeline.source import FileSource, open_regular
from coral_git.pipeline.workspace import Workspace
from coral_git.repository.unfinished import require_work_tree, user_git

_TREES = ("--raw", "-z", "--no-abbrev", "-r", "-O/dev/null", "--ignore-submodules")


class Sides(NamedTuple):
    """What is compared.

    Attributes:
        command: the git command that lists the files that differ, with its revisions.
        is_work_tree: whether the new side is the work tree.
        names: what the sides are called.
    """

    command: tuple[str, ...]
    is_work_tree: bool
    names: tuple[str, str]


def choose_sides(workspace: Workspace, revisions: Sequence[str], is_cached: bool = False) -> Sides:
    """The sides that revisions mean: as for ``git diff``.

    None: index and work tree. One: it and the work tree. Two, or ``A..B``: these. ``A...B``: the common
    ancestor and B. With ``is_cached`` the index stands where the work tree would.

    Raises:
        UsageError: there is no such commit, or no common ancestor.
    """
    if len(revisions) == 1 and ".." in revisions[0]:
        if is_cached:
            raise UsageError("--cached goes with one revision, not with a range")
        return _range(workspace, revisions[0])
    if len(revisions) == 2:
        return _commits(workspace, revisions[0], revisions[1])
    if is_cached:
        start = _start(workspace, revisions)
        return Sides(
            ("diff-index", "--cached", "-M", start), False, (revisions[0] if revisions else "HEAD", "index")
        )
    require_work_tree(workspace)
    if not revisions:
        return Sides(("diff-files",), True, ("index", "work tree"))
    return Sides(
        ("diff-index", resolve_commit(workspace.git, revisions[0])), True, (revisions[0], "work tree")
    )


def diff_sides(
    workspace: Workspace, sides: Sides, paths: Sequence[str], wanted: Wanted
) -> Iterator[FileDiff]:
    """The weight files that differ, one after the other.

    Objects that are not in the store are fetched, but only those of tensors that changed; where that cannot
    be done their figures are missing.

    Args:
        workspace: the repository.
        sides: what is compared.
        paths: pathspecs; every file without any.
        wanted: what to find out.

    Raises:
        UsageError: git does not understand the pathspecs.
        IntegrityError: an object is damaged.
    """
    with Workers(workspace.settings.threads) as workers:
        for versions in _versions(workspace, sides, paths, workers):
            if _is_same(*versions.manifests) or not _is_wanted(versions, wanted):
                continue
            _bring(workspace, versions, wanted)
            yield compare(versions, wanted, workers, workspace.store)


def diff_files(old: bytes, new: bytes, wanted: Wanted, threads: int = 0) -> FileDiff | None:
    """What became of a file that is compared with another one; no repository is needed.

    Returns:
        None where they are the same.

    Raises:
        UsageError: one is no regular file.
    """
    with Workers(threads or os.cpu_count() or 1) as workers:
        before, after = (open_file(path, workers, DEFAULT_LIMITS) for path in (old, new))
        versions = Versions(new, old, before, after)
        if _is_same(*versions.manifests) or not _is_wanted(versions, wanted):
            return None
        return compare(versions, wanted, workers, None)


def _range(workspace: Workspace, text: str) -> Sides:
    old, dots, new = text.partition("..." if "..." in text else "..")
    old, new = old or "HEAD", new or "HEAD"
    if dots == "..":
        return _commits(workspace, old, new)
    ends = [resolve_commit(workspace.git, one) for one in (old, new)]
    base = workspace.git.run("merge-base", *ends, check=False).decode().strip()
    if not base:
        raise UsageError(f"'{printable(old)}' and '{printable(new)}' have no common ancestor")
    return Sides(("diff-tree", "-M", base, ends[1]), False, (f"{old}...", new))


def _commits(workspace: Workspace, old: str, new: str) -> Sides:
    ends = [resolve_commit(workspace.git, one) for one in (old, new)]
    return Sides(("diff-tree", "-M", *ends), False, (old, new))


def commit_sides(workspace: Workspace, parent: str, commit: str) -> Sides:
    """A commit and its parent; the empty tree where it has none."""
    return Sides(("diff-tree", "-M", parent or _empty_tree(workspace), commit), False, (parent, commit))


def _start(workspace: Workspace, revisions: Sequence[str]) -> str:
    if revisions or has_commits(workspace.git):
        return resolve_commit(workspace.git, revisions[0] if revisions else "HEAD")
    return _empty_tree(workspace)


def _empty_tree(workspace: Workspace) -> str:
    return workspace.git.run("hash-object", "-t", "tree", "--stdin").decode().strip()


class _Entry(NamedTuple):
    """A line of ``--raw``."""

    old_oid: str
    new_oid: str
    old_path: bytes
    path: bytes
    is_removed: bool


def _entries(workspace: Workspace, sides: Sides, paths: Sequence[str]) -> Iterator[_Entry]:
    """What git lists, as far as it is about regular files."""
    git = user_git(workspace)
    name, *arguments = sides.command
    fields = iter(git.run(name, *_TREES, *arguments, "--", *paths).split(b"\0"))
    for meta in fields:
        if not meta:
            continue
        old_mode, new_mode, old, new, status = meta.lstrip(b":").split(b" ")
        old_path = path = next(fields)
        if status[:1] in b"RC":
            path = next(fields)
        if status[:1] == b"U":
            continue  # in conflict: 'git coral status' and 'resolve' tell about it
        before = old.decode() if old_mode.startswith(b"100") else ""
        after = new.decode() if new_mode.startswith(b"100") else ""
        yield _Entry(before, after, old_path, path, not new_mode.startswith(b"100"))


def _versions(
    workspace: Workspace, sides: Sides, paths: Sequence[str], workers: Workers
) -> Iterator[Versions]:
    reader = ManifestReader(workspace)
    entries = list(_entries(workspace, sides, paths))
    filters = check_attr(workspace.git, (one.path for one in entries)) if sides.is_work_tree else {}
    for entry in entries:
        old = _stored(workspace, reader.read(entry.old_oid))
        new: Version | None = None
        if not sides.is_work_tree:
            new = _stored(workspace, reader.read(entry.new_oid))
        elif not entry.is_removed and (old is not None or filters.get(entry.path) == b"coral"):
            new = _in_work_tree(workspace, entry.path, workers)
        if old is not None or new is not None:
            old_path = entry.old_path if old is not None else entry.path
            yield Versions(entry.path, old_path, old, new)
            if isinstance(new, FileVersion):
                new.close()


def _stored(workspace: Workspace, manifest: Manifest | None) -> StoredVersion | None:
    if manifest is None:
        return None
    if manifest.tables:
        from coral_git.pipeline.fetch import fetch_objects

        fetch_objects(workspace, [table.object_id for table in manifest.tables])
    return StoredVersion(expanded(manifest, workspace.store), workspace.store)


def _in_work_tree(workspace: Workspace, path: bytes, workers: Workers) -> Version | None:
    """The work-tree file; its manifest where that is still what is there."""
    source = open_regular(os.path.join(os.fsencode(require_work_tree(workspace)), path))
    if source is None:
        return None
    if source.size <= workspace.limits.manifest_bytes and is_manifest_start(
        source.read_at(0, len(FIRST_LINE))
    ):
        text = source.read_at(0, source.size)
        source.close()
        return _stored(workspace, parse(text, workspace.limits))
    return FileVersion(
        source, _recall(workspace, path, source) or describe(source, workers, workspace.limits)
    )


def _recall(workspace: Workspace, path: bytes, source: FileSource) -> Manifest | None:
    """What the stat cache knows for certain."""
    if not workspace.settings.trust_stat:
        return None
    found = statcache.recall(workspace.store.cache, path, source.status)
    if found is None or not found[1]:
        return None
    try:
        return expanded(parse(found[0], workspace.limits), workspace.store)
    except CoralError:
        return None


def _bring(workspace: Workspace, versions: Versions, wanted: Wanted) -> None:
    """Fetch what is to be read and is not here."""
    needed = needed_objects(versions, wanted)
    stored = [one for one in (versions.old, versions.new) if isinstance(one, StoredVersion)]
    named = {part for one in stored for tensor in one.manifest.tensors for part in tensor.objects}
    missing = workspace.store.find_missing(one for one in needed if one in named)
    if missing:
        from coral_git.pipeline.fetch import fetch_objects

        fetch_objects(workspace, missing)


def _is_same(old: Manifest | None, new: Manifest | None) -> bool:
    """Whether both have the same bytes: the same pieces at the same places."""
    return old is not None and new is not None and old._replace(sha256=new.sha256) == new


def _is_wanted(versions: Versions, wanted: Wanted) -> bool:
    """Whether anything differs of what is looked at."""
    return not wanted.patterns or any(map(wanted.covers, pair_tensors(*versions.manifests)[0]))
