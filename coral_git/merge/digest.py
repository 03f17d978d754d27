"""The digest of a merged file, most of whose bytes exist already: in the work tree, or in the store."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence

from coral_git.errors import IntegrityError
from coral_git.manifest.entries import Manifest
from coral_git.manifest.model import placements
from coral_git.pipeline.decode import stream_file
from coral_git.pipeline.messages import missing_message
from coral_git.pipeline.missing import bring_objects
from coral_git.pipeline.parallel import Workers
from coral_git.pipeline.part_source import ReadRange, read_ranges
from coral_git.pipeline.source import FileSource, open_regular
from coral_git.pipeline.workspace import Workspace
from coral_git.types import FileDigest, ObjectId


def digest_of(
    workspace: Workspace,
    path: bytes,
    manifest: Manifest,
    sides: Sequence[Manifest],
    new: Mapping[ObjectId, ReadRange],
    workers: Workers,
) -> FileDigest:
    """SHA-256 of the file that an expanded manifest describes.

    The file in the work tree usually is one of the sides. Whatever is read there is compared with its id like
    everything else; where it is something else, the store is asked instead.

    Args:
        workspace: the repository.
        path: the file, relative to the root of the work tree.
        manifest: all but the digest.
        sides: the versions that the work tree may have.
        new: reads the objects that are not in the store yet.
        workers: threads that decode ahead.

    Raises:
        ObjectMissingError: objects are missing and cannot be fetched.
        IntegrityError: an object is damaged.
    """
    root = workspace.paths.work_tree
    file = None if root is None else open_regular(os.path.join(os.fsencode(root), path))
    if file is not None:
        try:
            found = _in_file(file, sides, workspace)
            return _digest(workspace, path, manifest, {**found, **new}, workers)
        except IntegrityError:  # the file was changed, or an object is damaged: the store knows
            pass
        finally:
            file.close()
    return _digest(workspace, path, manifest, new, workers)


def _in_file(file: FileSource, sides: Sequence[Manifest], workspace: Workspace) -> dict[ObjectId, ReadRange]:
    """The objects that a file has if it is one of the sides."""
    for side in sides:
        if side.size == file.size:
            return {
                one.object_id: read_ranges(file, one.ranges) for one in placements(side, workspace.limits)
            }
    return {}


def _digest(
    workspace: Workspace,
    path: bytes,
    manifest: Manifest,
    held: Mapping[ObjectId, ReadRange],
    workers: Workers,
) -> FileDigest:
    needed = [one for one in manifest.tensors if not held.keys() >= set(one.objects)]
    reduced = manifest._replace(tensors=tuple(needed), rest=())
    missing = bring_objects(workspace, [(path, reduced)])
    if missing:
        raise missing_message(path, manifest, missing)
    hasher = hashlib.sha256()
    for piece in stream_file(manifest, workspace.store, workers, held):
        hasher.update(piece)
    return FileDigest(hasher.digest())
