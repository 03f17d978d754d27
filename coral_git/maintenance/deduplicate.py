"""Equal and similar tensors of a whole repository: what is stored once, and what can become a difference."""

from __future__ import annotations

from dataclasses import dataclass

from coral_git.errors import CoralError
from coral_git.maintenance.reachability import every_blob
from coral_git.maintenance.repack import Progress, RepackReport, repack
from coral_git.pipeline.decode import expanded
from coral_git.pipeline.history import manifest_blobs, read_blob
from coral_git.pipeline.workspace import Workspace
from coral_git.types import ObjectId


@dataclass(slots=True)
class Duplicates:
    """How often the same bytes are named.

    Attributes:
        files: versions of files, by their manifests.
        parts: parts of tensors and chunks that they name, in all.
        parts_bytes: their raw bytes.
        objects: different ones among them.
        objects_bytes: the raw bytes of those.
    """

    files: int = 0
    parts: int = 0
    parts_bytes: int = 0
    objects: int = 0
    objects_bytes: int = 0


def count_duplicates(workspace: Workspace) -> Duplicates:
    """Count what the manifests in git's object database name. Objects that are not here are left out."""
    counted = Duplicates()
    lengths: dict[ObjectId, int] = {}
    for found in manifest_blobs(workspace, every_blob(workspace)):
        manifest = read_blob(workspace, found.blob.oid)
        if manifest is None:
            continue
        try:
            whole = expanded(manifest, workspace.store)
        except CoralError:
            continue
        counted.files += 1
        named = [part for tensor in whole.tensors for part in tensor.objects]
        named += [chunk.object_id for chunk in whole.chunks]
        unknown = [one for one in dict.fromkeys(named) if one not in lengths]
        for object_id, copies in workspace.store.locations(unknown).items():
            lengths[object_id] = copies[0].raw_length
        here = [lengths[one] for one in named if one in lengths]
        counted.parts += len(here)
        counted.parts_bytes += sum(here)
    counted.objects = len(lengths)
    counted.objects_bytes = sum(lengths.values())
    return counted


def deduplicate(
    workspace: Workspace, *, dry_run: bool = False, progress: Progress | None = None
) -> tuple[Duplicates, RepackReport]:
    """Store full copies as differences to similar objects, where there are any.

    Args:
        workspace: the repository.
        dry_run: change nothing, only count.
        progress: as for ``repack``.

    Raises:
        LockedError: gc or a repack is running.
        CoralError: no space is left, or the file system failed; what was done until then is consistent.
    """
    counted = count_duplicates(workspace)
    profile = workspace.settings.profile
    return counted, repack(workspace, profile=profile, only_full=True, dry_run=dry_run, progress=progress)
