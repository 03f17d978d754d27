"""Which objects are live: everything that any manifest in git's object database names.

That is stronger than a list of roots (refs, reflogs, stashes, indexes of every work tree, ``MERGE_HEAD``), as
all of those keep their blobs in the object database, and it is shorter. When the answer may be incomplete,
everything is live.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from coral_git.errors import InvalidManifestError
from coral_git.git.revisions import Blob, all_blobs
from coral_git.pipeline.dropped import dropped_blobs
from coral_git.pipeline.history import manifest_blobs
from coral_git.pipeline.workspace import Workspace
from coral_git.types import ObjectId

_HEX_ID = re.compile(rb"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
_TABLE = re.compile(rb"^table ", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Reachable:
    """What must be kept.

    Attributes:
        objects: the objects that manifests name; they need not be in the store.
        keep_all: why everything must be kept, or an empty string when ``objects`` says it all.
        dropped: objects that only manifests name which somebody dropped on purpose.
    """

    objects: frozenset[ObjectId]
    keep_all: str = ""
    dropped: frozenset[ObjectId] = frozenset()


def find_reachable(workspace: Workspace) -> Reachable:
    """Ask git's object database which objects are live.

    Raises:
        GitError: git failed.
    """
    reason = _unknown_history(workspace)
    named: set[ObjectId] = set()
    dropped: set[ObjectId] = set()
    let_go = dropped_blobs(workspace)
    for found in manifest_blobs(workspace, every_blob(workspace)):
        if found.blob.oid in let_go:
            dropped.update(found.objects)
            continue
        named.update(found.objects)
        if found.trouble is None:
            continue
        harvest = None
        if isinstance(found.trouble, InvalidManifestError) and not found.objects:
            harvest = _harvest(workspace, found.blob)
        if harvest is None:
            reason = reason or f"manifest '{found.blob.oid}' cannot be followed: {found.trouble.message}"
        else:
            named.update(harvest)
    return Reachable(frozenset(named), reason, frozenset(dropped - named))


def every_blob(workspace: Workspace) -> list[Blob]:
    """Every blob of git's object database that is small enough for a manifest, without its path."""
    return [Blob(oid, b"") for oid in all_blobs(workspace.git, workspace.limits.manifest_bytes)]


def _unknown_history(workspace: Workspace) -> str:
    """Why git's object database does not hold all that may be needed; empty when it does."""
    config = workspace.config
    if config.get("extensions.partialclone") is not None or any(
        key.startswith("remote.") and key.endswith((".promisor", ".partialclonefilter"))
        for key, _ in config.items()
    ):
        return "this is a partial clone, so some manifests may not be here"
    answer = workspace.git.run("rev-parse", "--is-shallow-repository", check=False)
    if answer.strip() == b"true":
        return "this is a shallow clone, so some manifests may not be here"
    return ""


def _harvest(workspace: Workspace, blob: Blob) -> set[ObjectId] | None:
    """Everything in a broken manifest that looks like an id; None where it would not be all it names."""
    content = workspace.objects.blob(blob.oid.encode(), max_size=workspace.limits.manifest_bytes)
    if content is None or _TABLE.search(content[1]):
        return None
    return {ObjectId(bytes.fromhex(found.decode())) for found in _HEX_ID.findall(content[1])}
