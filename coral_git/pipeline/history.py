"""Which objects a part of git's history names, and where.

What a blob names is remembered by its id, so that a walk over the same history costs little the next time.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from coral_git.errors import CoralError
from coral_git.git.revisions import Blob, list_tree, reachable_blobs
from coral_git.manifest.escape import printable
from coral_git.manifest.model import Manifest, object_ids
from coral_git.manifest.parse import claims_manifest, is_manifest_start, parse
from coral_git.pipeline.decode import expanded
from coral_git.pipeline.messages import owner_of
from coral_git.pipeline.workspace import Workspace
from coral_git.types import ObjectId

_SMALLEST = 150
"""No manifest is shorter than this."""


class ManifestBlob(NamedTuple):
    """A blob that is a manifest, or claims to be one.

    Attributes:
        blob: the blob.
        objects: what it names as far as is known, through its tables too.
        trouble: why more may be named: the text is broken or of a newer version, or a table cannot be read.
    """

    blob: Blob
    objects: tuple[ObjectId, ...]
    trouble: CoralError | None = None


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

BringTables = Callable[[list[ObjectId]], object]
"""Fetches table objects, as far as they can be had."""


def read_blob(workspace: Workspace, oid: str) -> Manifest | None:
    """The manifest in a blob, or None."""
    found = workspace.objects.blob(oid.encode(), max_size=workspace.limits.manifest_bytes)
    if found is None or not is_manifest_start(found[1]):
        return None
    try:
        return parse(found[1], workspace.limits)
    except CoralError:
        return None


def named_by(workspace: Workspace, blobs: Iterable[Blob], bring: BringTables | None = None) -> NamedObjects:
    """The objects that the manifests among some blobs name, through their tables too.

    Args:
        workspace: the repository.
        blobs: the blobs; what is no manifest among them is skipped.
        bring: fetches tables that are not in the store. Without it, or where it cannot, a table is named,
            and what it would name is not known.
    """
    named: NamedObjects = {}
    partial: list[ManifestBlob] = []
    for found in manifest_blobs(workspace, blobs):
        _add(named, workspace, found.blob, found.objects)
        if found.objects and found.trouble is not None:
            partial.append(found)
    if partial and bring is not None:
        manifests = [read_blob(workspace, found.blob.oid) for found in partial]
        bring([table.object_id for manifest in manifests if manifest for table in manifest.tables])
        for found in partial:
            _add(named, workspace, found.blob, look_at(workspace, found.blob).objects)
    return named


def named_in_history(
    workspace: Workspace, revisions: Sequence[str], bring: BringTables | None = None
) -> NamedObjects:
    """The objects that the manifests in a part of the history name.

    Args:
        workspace: the repository.
        revisions: as for ``git rev-list``, e.g. ``["main", "^origin/main"]``.
        bring: as for ``named_by``.
    """
    return named_by(workspace, reachable_blobs(workspace.git, revisions), bring)


def named_in_tree(workspace: Workspace, revision: str, bring: BringTables | None = None) -> NamedObjects:
    """The objects that the manifests in the files of one commit name."""
    entries = list_tree(workspace.git, revision)
    return named_by(workspace, (Blob(entry.oid, entry.path) for entry in entries if entry.is_file), bring)


def _add(named: NamedObjects, workspace: Workspace, blob: Blob, objects: Iterable[ObjectId]) -> None:
    for object_id in objects:
        if object_id not in named:
            named[object_id] = Place(workspace, blob, object_id)


def manifest_blobs(workspace: Workspace, blobs: Iterable[Blob]) -> Iterator[ManifestBlob]:
    """The blobs that are manifests, or claim to be; what was learnt for good is remembered."""
    cache = workspace.store.cache
    fresh: list[tuple[bytes, tuple[ObjectId, ...]]] = []
    unknown: dict[str, Blob] = {}
    for blob in blobs:
        objects = cache.manifest_objects(bytes.fromhex(blob.oid))
        if objects is None:
            unknown.setdefault(blob.oid, blob)
        elif objects:
            yield ManifestBlob(blob, objects)
    for oid, kind, size in workspace.objects.sizes(unknown):
        found = ManifestBlob(unknown[oid], ())
        if kind == "blob" and _SMALLEST <= size <= workspace.limits.manifest_bytes:
            found = look_at(workspace, unknown[oid])
        if found.trouble is None:
            fresh.append((bytes.fromhex(oid), found.objects))
        if found.objects or found.trouble is not None:
            yield found
    cache.record_manifests(fresh)


def look_at(workspace: Workspace, blob: Blob) -> ManifestBlob:
    """What one blob names; nothing for one that is no manifest."""
    content = workspace.objects.blob(blob.oid.encode(), max_size=workspace.limits.manifest_bytes)
    if content is None or not claims_manifest(content[1]):
        return ManifestBlob(blob, ())
    try:
        manifest = parse(content[1], workspace.limits)
    except CoralError as error:
        return ManifestBlob(blob, (), error)
    own = object_ids(manifest)
    try:
        inner = object_ids(expanded(manifest, workspace.store)) if manifest.tables else ()
    except CoralError as error:
        return ManifestBlob(blob, own, error)
    return ManifestBlob(blob, tuple(dict.fromkeys(own + inner)))
