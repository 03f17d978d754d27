"""Which objects a part of git's history names, and where.

What a blob names is remembered by its id, so that a walk over the same history costs little the next time.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from coral_git.errors import CoralError
from coral_git.git.revisions import Blob, reachable_blobs
from coral_git.manifest.escape import printable
from coral_git.manifest.model import object_ids
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
