"""What fsck finds, in a form for people and for programs."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field

from coral_git.errors import CoralError
from coral_git.maintenance.whereabouts import Whereabouts
from coral_git.manifest.escape import printable
from coral_git.pipeline.decode import expanded
from coral_git.pipeline.history import read_blob
from coral_git.pipeline.messages import owner_of
from coral_git.pipeline.workspace import Workspace
from coral_git.types import ObjectId

_SHOWN = 3
_LISTED = 100


@dataclass(frozen=True, slots=True)
class Use:
    """A file that an object belongs to.

    Attributes:
        where: the manifest of the file.
        tensor: what the object is in it, e.g. ``tensor 'a.b'``; empty when it is the whole manifest.
    """

    where: Whereabouts
    tensor: str = ""

    def __str__(self) -> str:
        return f"{printable(self.tensor)} of {self.where}" if self.tensor else str(self.where)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        kind: ``pack``, ``index``, ``object``, ``base``, ``missing``, ``manifest``, ``restore``, ``version``.
        message: what is wrong.
        path: the damaged file of the store, where it is one.
        object_id: the object, where it is one.
        uses: files and tensors that are affected, as many as are listed.
        use_count: how many there are.
    """

    kind: str
    message: str
    path: str = ""
    object_id: ObjectId | None = None
    uses: tuple[Use, ...] = ()
    use_count: int = 0

    def __str__(self) -> str:
        shown = "; ".join(str(use) for use in self.uses[:_SHOWN])
        more = self.use_count - min(len(self.uses), _SHOWN)
        affected = f"{shown} and {more} more" if shown and more else shown
        head = f"{self.kind}: {affected}: " if affected else f"{self.kind}: "
        tail = f" ({self.path})" if self.path and self.path not in self.message else ""
        return head + printable(self.message + tail)

    def as_json(self) -> dict[str, object]:
        """The finding for programs; lists everything that is listed at all."""
        return {
            "kind": self.kind,
            "message": self.message,
            "path": self.path,
            "object": self.object_id.hex() if self.object_id else "",
            "affects": [
                {
                    "file": os.fsdecode(use.where.path),
                    "commit": use.where.commit,
                    "manifest": use.where.blob,
                    "part": use.tensor,
                }
                for use in self.uses
            ],
            "affected": self.use_count,
        }


@dataclass(slots=True)
class FsckReport:
    """What fsck looked at and found.

    Attributes:
        packs: packs that were checked.
        objects: different objects in them.
        manifests: manifests in git's object database.
        restored: manifests whose files were restored and compared with their SHA-256.
        elsewhere: objects of older versions that are not here and that a remote store has.
        findings: what is wrong.
        repaired: what ``--repair`` did.
        warnings: what kept fsck from asking everybody.
    """

    packs: int = 0
    objects: int = 0
    manifests: int = 0
    restored: int = 0
    elsewhere: int = 0
    findings: list[Finding] = field(default_factory=list)
    repaired: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def uses_of(
    workspace: Workspace, object_id: ObjectId, blobs: Iterable[str], places: dict[str, Whereabouts]
) -> tuple[Use, ...]:
    """The files that an object belongs to.

    Args:
        workspace: the repository.
        object_id: the object.
        blobs: manifests that name it.
        places: where these are; one without a place is skipped.
    """
    found: list[Use] = []
    for blob in blobs:
        if blob in places and len(found) < _LISTED:
            found.append(Use(places[blob], _owner(workspace, blob, object_id)))
    return tuple(found)


def _owner(workspace: Workspace, blob: str, object_id: ObjectId) -> str:
    manifest = read_blob(workspace, blob)
    if manifest is None:
        return "object"
    try:
        return owner_of(expanded(manifest, workspace.store), object_id) or "object"
    except CoralError:
        return owner_of(manifest, object_id) or "object"
