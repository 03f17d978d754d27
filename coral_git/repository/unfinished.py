"""Files of the work tree that are still manifests, writing them, and restoring files from the index."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from coral_git.errors import NotARepositoryError, UsageError
from coral_git.git.attributes import check_attr
from coral_git.git.command import Git
from coral_git.git.revisions import TreeEntry, list_index
from coral_git.manifest.parse import FIRST_LINE
from coral_git.pipeline import statcache
from coral_git.pipeline.checkout import Outcome, Pending, Progress, tell_git, write_pending
from coral_git.pipeline.manifests import StoredManifest, read_manifest
from coral_git.pipeline.workspace import Workspace


@dataclass(frozen=True, slots=True)
class IndexedFiles:
    """What the index says about weight files.

    Attributes:
        manifests: each file with its manifest.
        unmerged: paths in conflict that have a manifest on a side, with that of ours where it has one.
    """

    manifests: list[tuple[TreeEntry, StoredManifest]]
    unmerged: list[tuple[TreeEntry, StoredManifest]]


def user_git(workspace: Workspace) -> Git:
    """Git where the user stands, so that pathspecs mean what they mean to git itself."""
    root = workspace.paths.work_tree
    if root is None:
        return workspace.git
    return workspace.git_in(os.path.join(root, workspace.paths.prefix))


def require_work_tree(workspace: Workspace) -> str:
    """The root of the work tree.

    Raises:
        NotARepositoryError: the repository is bare, or this is the inside of a git directory.
    """
    if workspace.paths.work_tree is None:
        raise NotARepositoryError("this operation needs a work tree", hint="run it in one, or 'git clone'")
    return workspace.paths.work_tree


def indexed_files(workspace: Workspace, pathspecs: Sequence[str] = ()) -> IndexedFiles:
    """The files in the index that are manifests and that the filter handles.

    A manifest that git does not filter is a text like others, such as an example in documentation.

    Raises:
        UsageError: a pathspec matches nothing.
    """
    git = user_git(workspace) if pathspecs else workspace.git
    found = IndexedFiles([], [])
    listed = list(manifests_among(workspace, list_index(git, pathspecs)))
    filters = check_attr(workspace.git, (entry.path for entry, _ in listed))
    for entry, stored in listed:
        if filters.get(entry.path) != b"coral":
            continue
        if not entry.stage:
            found.manifests.append((entry, stored))
        elif not any(one.path == entry.path for one, _ in found.unmerged):
            found.unmerged.append((entry, stored))
        elif entry.stage == 2:
            found.unmerged[-1] = entry, stored
    return found


def manifests_among(
    workspace: Workspace, entries: Iterable[TreeEntry]
) -> Iterable[tuple[TreeEntry, StoredManifest]]:
    """Those entries of a tree or an index that are manifests, in their order."""
    files = [entry for entry in entries if entry.is_file]
    sizes = {oid: size for oid, _, size in workspace.objects.sizes(dict.fromkeys(one.oid for one in files))}
    for entry in files:
        if len(FIRST_LINE) < sizes.get(entry.oid, 0) <= workspace.limits.manifest_bytes:
            stored = read_manifest(workspace, entry.oid.encode())
            if stored is not None:
                yield entry, stored


def indexed_manifests(
    workspace: Workspace, pathspecs: Sequence[str] = ()
) -> list[tuple[TreeEntry, StoredManifest]]:
    """The files in the index that are manifests and not in conflict.

    Raises:
        UsageError: a pathspec matches nothing.
    """
    return indexed_files(workspace, pathspecs).manifests


def is_unfinished(workspace: Workspace, path: bytes, text: bytes) -> bool:
    """Whether the work-tree file is still the text of its manifest."""
    root = os.fsencode(workspace.paths.work_tree or "")
    full = os.path.join(root, path)
    try:
        status = os.lstat(full)
        if not stat.S_ISREG(status.st_mode) or status.st_size != len(text):
            return False
        with open(full, "rb") as file:
            return file.read() == text
    except OSError:
        return False


def unfinished_files(workspace: Workspace, pathspecs: Sequence[str] = ()) -> list[Pending]:
    """The files that still have to be written."""
    return [
        Pending(entry.path, stored.text, stored.manifest)
        for entry, stored in indexed_manifests(workspace, pathspecs)
        if is_unfinished(workspace, entry.path, stored.text)
    ]


def finish_files(
    workspace: Workspace, files: Iterable[Pending] | None = None, progress: Progress | None = None
) -> Outcome:
    """Write the files that are still manifests."""
    return write_pending(workspace, unfinished_files(workspace) if files is None else files, progress)


def restore_files(
    workspace: Workspace, pathspecs: Sequence[str], progress: Progress | None = None
) -> Outcome:
    """Write files as the index has them, whatever the work tree has there now, as ``git checkout --`` does.

    A file that is known to be as the index has it is left alone.

    Raises:
        UsageError: no weight file matches, or one that does is in conflict.
    """
    found = indexed_files(workspace, pathspecs)
    if found.unmerged:
        path = os.fsdecode(found.unmerged[0][0].path)
        raise UsageError(
            f"'{path}' is unmerged",
            hint="git coral resolve PATH; or git checkout --ours -- PATH, then git add",
        )
    if not found.manifests:
        raise UsageError(
            f"no weight file matches {' '.join(map(repr, pathspecs))}", hint="see 'git coral ls-files'"
        )
    there: dict[bytes, tuple[bytes, os.stat_result]] = {}
    files = []
    for entry, stored in found.manifests:
        status = _status_if_there(workspace, entry, stored)
        if status is None:
            is_executable = entry.mode == "100755"
            files.append(Pending(entry.path, stored.text, stored.manifest, _anything, is_executable))
        else:
            there[entry.path] = bytes.fromhex(entry.oid), status
    outcome = write_pending(workspace, files, progress)
    tell_git(workspace, there)
    return outcome


def _anything(_descriptor: int | None) -> bool:
    """What may be at the place of a restored file."""
    return True


def _status_if_there(workspace: Workspace, entry: TreeEntry, stored: StoredManifest) -> os.stat_result | None:
    """The stat data of a work-tree file that the stat cache knows to be the one of the manifest."""
    if not workspace.settings.trust_stat:
        return None
    root = os.fsencode(require_work_tree(workspace))
    try:
        status = os.lstat(os.path.join(root, entry.path))
    except OSError:
        return None
    if bool(status.st_mode & stat.S_IXUSR) != (entry.mode == "100755"):
        return None
    recalled = statcache.recall(workspace.store.cache, entry.path, status)
    return status if recalled == (stored.text, True) else None
