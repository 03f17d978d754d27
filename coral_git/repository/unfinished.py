"""Files of the work tree that are still manifests, and writing them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence

from coral_git.git.revisions import TreeEntry, list_index
from coral_git.pipeline.checkout import Outcome, Pending, Progress, write_pending
from coral_git.pipeline.manifests import StoredManifest, read_manifest
from coral_git.pipeline.workspace import Workspace


def indexed_manifests(
    workspace: Workspace, pathspecs: Sequence[str] = ()
) -> list[tuple[TreeEntry, StoredManifest]]:
    """The files in the index that are manifests.

    Raises:
        UsageError: a pathspec matches nothing.
    """
    found = []
    entries = [entry for entry in list_index(workspace.git, pathspecs) if entry.is_file and not entry.stage]
    sizes = {oid: size for oid, _, size in workspace.objects.sizes(entry.oid for entry in entries)}
    for entry in entries:
        if 0 < sizes.get(entry.oid, 0) <= workspace.limits.manifest_bytes:
            stored = read_manifest(workspace, entry.oid.encode())
            if stored is not None:
                found.append((entry, stored))
    return found


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
