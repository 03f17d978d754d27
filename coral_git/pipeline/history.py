"""Which objects a part of git's history names, and where.

What a blob names is remembered by its id, so that a walk over the same history costs little the next time.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence

from coral_git.errors import CoralError
from coral_git.git.revisions import Blob, reachable_blobs
from coral_git.manifest.escape import printable
from coral_git.manifest.model import Manifest, object_ids
from coral_git.manifest.parse import is_manifest_start, parse
from coral_git.pipeline.decode import expanded, owner_of
from coral_git.pipeline.workspace import Workspace
from coral_git.types import ObjectId

_SMALLEST = 150
"""No manifest is shorter than this."""


class Place:
    """A blob at a path that names an object; describes itself for messages."""

    __slots__ = ("blob", "object_id", "workspace")

    def __init__(self, workspace: Workspace, blob: Blob, object_id: ObjectId) -> None:
        self.workspace = workspace
        self.blob = blob
        self.object_id = object_id

    def __str__(self) -> str:
        path = printable(os.fsdecode(self.blob.path)) or self.blob.oid
        manifest = read_blob(self.workspace, self.blob.oid)
        owner = ""
        if manifest is not None:
            try:
                owner = owner_of(expanded(manifest, self.workspace.store), self.object_id)
            except CoralError:
                owner = owner_of(manifest, self.object_id)
        return f"{path}: {owner or 'object'} ({self.object_id.hex()[:16]})"


NamedObjects = dict[ObjectId, Place]
"""Objects, each with the first place that names it."""


def read_blob(workspace: Workspace, oid: str) -> Manifest | None:
    """The manifest in a blob, or None."""
    found = workspace.objects.blob(oid.encode(), max_size=workspace.limits.manifest_bytes)
    if found is None or not is_manifest_start(found[1]):
        return None
    try:
        return parse(found[1], workspace.limits)
    except CoralError:
        return None


def named_by(workspace: Workspace, blobs: Iterable[Blob]) -> NamedObjects:
    """The objects that the manifests among some blobs name, through their tables too.

    A table that is not in the store is named, and what it would name is not known.
    """
    named: NamedObjects = {}
    for blob, objects in _manifests(workspace, blobs):
        for object_id in objects:
            if object_id not in named:
                named[object_id] = Place(workspace, blob, object_id)
    return named


def named_in_history(workspace: Workspace, revisions: Sequence[str]) -> NamedObjects:
    """The objects that the manifests in a part of the history name.

    Args:
        workspace: the repository.
        revisions: as for ``git rev-list``, e.g. ``["main", "^origin/main"]``.
    """
    return named_by(workspace, reachable_blobs(workspace.git, revisions))


def _manifests(workspace: Workspace, blobs: Iterable[Blob]) -> Iterator[tuple[Blob, tuple[ObjectId, ...]]]:
    """Each blob that is a manifest with the objects it names; what was learnt is remembered."""
    cache = workspace.store.cache
    fresh: list[tuple[bytes, tuple[ObjectId, ...]]] = []
    unknown: dict[str, Blob] = {}
    for blob in blobs:
        objects = cache.manifest_objects(bytes.fromhex(blob.oid))
        if objects is None:
            unknown.setdefault(blob.oid, blob)
        elif objects:
            yield blob, objects
    for oid, kind, size in workspace.objects.sizes(unknown):
        objects = ()
        if kind == "blob" and _SMALLEST <= size <= workspace.limits.manifest_bytes:
            manifest = read_blob(workspace, oid)
            if manifest is not None:
                objects, is_whole = _objects_of(workspace, manifest)
                if not is_whole:
                    yield unknown[oid], objects
                    continue
        fresh.append((bytes.fromhex(oid), objects))
        if objects:
            yield unknown[oid], objects
    cache.record_manifests(fresh)


def _objects_of(workspace: Workspace, manifest: Manifest) -> tuple[tuple[ObjectId, ...], bool]:
    """What a manifest names, and whether all its tables could be read."""
    own = object_ids(manifest)
    if not manifest.tables:
        return own, True
    try:
        inner = object_ids(expanded(manifest, workspace.store))
    except CoralError:
        return own, False
    return tuple(dict.fromkeys(own + inner)), True
