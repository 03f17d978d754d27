"""The digest of a merged file, most of whose bytes exist already: in the work tree, or in the store."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from coral_git.errors import IntegrityError
from coral_git.manifest.entries import Manifest
from coral_git.pipeline.decode import stream_file
from coral_git.pipeline.messages import missing_message
from coral_git.pipeline.missing import bring_objects
from coral_git.pipeline.parallel import Workers
from coral_git.pipeline.part_source import ReadRange
from coral_git.pipeline.workspace import Workspace
from coral_git.types import FileDigest, ObjectId


def digest_of(
    workspace: Workspace,
    path: bytes,
    manifest: Manifest,
    held: Sequence[Mapping[ObjectId, ReadRange]],
    workers: Workers,
) -> FileDigest:
    """SHA-256 of the file that an expanded manifest describes.

    Args:
        workspace: the repository.
        path: the file, relative to the root of the work tree.
        manifest: all but the digest.
        held: what reads objects that are new, and objects in the work tree. Everything is compared with its
            id; where the work tree has something else, the store is asked.
        workers: threads that decode ahead.

    Raises:
        ObjectMissingError: objects are missing and cannot be fetched.
        IntegrityError: an object is damaged.
    """
    new, present = held
    if present:
        try:
            return _digest(workspace, path, manifest, {**present, **new}, workers)
        except IntegrityError:  # the file was changed, or an object is damaged: the store knows
            pass
    return _digest(workspace, path, manifest, new, workers)


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
