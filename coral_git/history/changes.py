"""What commits changed in weight files, from manifests alone: no tensor is read.

Manifests that were parsed are kept while the same walk may need them again: in a history, most are the new
version of one commit and the old one of the next.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

from coral_git.errors import CoralError
from coral_git.history.commits import Commit, Touched
from coral_git.manifest.body import KnownLines
from coral_git.manifest.model import Manifest, object_ids
from coral_git.manifest.parse import is_manifest_start, parse
from coral_git.pipeline.manifests import expanded_or_none
from coral_git.pipeline.workspace import Workspace
from coral_git.types import ObjectId

_HELD = 100_000
"""Tensors and chunks of manifests that are kept together."""
_SMALLEST = 150
_WIDEST = 32


class Change(NamedTuple):
    """How the pieces of a file (its tensors, or its chunks) differ from those of an older version.

    Attributes:
        new: pieces that the older version does not have; for chunks, all that are not the same.
        changed: tensors of the same name with another dtype, shape or value.
        same: pieces that are equal.
        removed: pieces that only the older version has.
    """

    new: int
    changed: int
    same: int
    removed: int


class FileChange(NamedTuple):
    """What a commit did to a weight file.

    Attributes:
        touched: its path, and the blobs.
        old: its expanded manifest in the first parent; None where it was no weight file, or is not known.
        new: its expanded manifest in the commit; None where it is gone, no weight file, or not known.
        change: how they differ; None where a table object is missing.
        added: the objects that the old one does not name.
    """

    touched: Touched
    old: Manifest | None
    new: Manifest | None
    change: Change | None
    added: tuple[ObjectId, ...]


class WeightCommit(NamedTuple):
    """A commit with what it did to weight files.

    Attributes:
        commit: the commit.
        changes: the weight files that it touched.
        stored_bytes: what the objects that it added take in the local store; None where one is not there.
    """

    commit: Commit
    changes: tuple[FileChange, ...]
    stored_bytes: int | None


def compare(new: Manifest, old: Manifest | None) -> Change:
    """How one expanded manifest differs from another one, tensor by tensor or chunk by chunk."""
    if new.tensor_count is None:
        ours = [chunk.object_id for chunk in new.chunks]
        theirs = {chunk.object_id for chunk in old.chunks} if old else set[ObjectId]()
        same = sum(one in theirs for one in ours)
        removed = len(theirs.difference(ours)) + (len(old.tensors) if old else 0)
        return Change(len(ours) - same, 0, same, removed)
    before = {tensor.name: tensor for tensor in old.tensors} if old else {}
    known = [tensor for tensor in new.tensors if tensor.name in before]
    same = sum(tensor == before[tensor.name] for tensor in known)
    removed = len(before) - len(known) + (len(old.chunks) if old else 0)
    return Change(len(new.tensors) - len(known), len(known) - same, same, removed)


class ManifestReader:
    """Reads the manifests in blobs, and keeps the last ones.

    Args:
        workspace: the repository.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._held: OrderedDict[str, Manifest | None] = OrderedDict()
        self._lines: KnownLines = {}
        self._pieces = 0

    def read(self, oid: str) -> Manifest | None:
        """The manifest in a blob, expanded where its tables are here; None where it is none.

        Args:
            oid: the id of the blob in hexadecimal; empty for no blob.
        """
        if not oid:
            return None
        if oid not in self._held:
            workspace = self._workspace
            found = workspace.objects.blob(oid.encode(), max_size=workspace.limits.manifest_bytes)
            self._hold(oid, None if found is None else self._parse(found[1]))
        self._held.move_to_end(oid)
        return self._held[oid]

    def among(self, oids: Iterable[str]) -> set[str]:
        """Those blobs that are manifests; they are read together. What is none is remembered."""
        workspace = self._workspace
        cache = workspace.store.cache
        wanted, kept = [], set()
        for oid in dict.fromkeys(filter(None, oids)):
            if self._held.get(oid) is not None:
                kept.add(oid)
            elif cache.manifest_objects(bytes.fromhex(oid)) != ():
                wanted.append(oid)
        limit = workspace.limits.manifest_bytes
        sizes = list(workspace.objects.sizes(wanted))
        small = [oid for oid, kind, size in sizes if kind == "blob" and _SMALLEST <= size <= limit]
        for oid, text in workspace.objects.contents(small):
            if self._hold(oid, self._parse(text)) is not None:
                kept.add(oid)
        others = {oid for oid, _, _ in sizes} - kept
        cache.record_manifests((bytes.fromhex(oid), ()) for oid in others)
        return kept

    def _hold(self, oid: str, manifest: Manifest | None) -> Manifest | None:
        self._held[oid] = manifest
        self._pieces += _weight(manifest)
        while self._pieces > _HELD and len(self._held) > 1:
            self._pieces -= _weight(self._held.popitem(last=False)[1])
        return manifest

    def _parse(self, text: bytes) -> Manifest | None:
        workspace = self._workspace
        if not is_manifest_start(text):
            return None
        if len(self._lines) > _HELD:
            self._lines.clear()
        try:
            manifest = parse(text, workspace.limits, self._lines)
        except CoralError:
            return None
        return expanded_or_none(workspace, manifest) or manifest


def file_change(reader: ManifestReader, touched: Touched) -> FileChange:
    """What became of a file, one of whose versions is a manifest."""
    old, new = reader.read(touched.old), reader.read(touched.new)
    is_known = not any(one is not None and one.tables for one in (old, new))
    known = set(object_ids(old)) if old else set()
    added = tuple(one for one in object_ids(new) if one not in known) if new else ()
    change = None
    if is_known:
        change = compare(new, old) if new else Change(0, 0, 0, _pieces(old))
    return FileChange(touched, old, new, change, added)


def weight_commits(
    workspace: Workspace, commits: Iterable[Commit], *, keep_all: bool = False
) -> Iterator[WeightCommit]:
    """What commits did to weight files, in their order; the first one comes at once.

    Args:
        workspace: the repository.
        commits: as ``walk`` finds them.
        keep_all: whether commits that neither touched weights nor say anything about them are kept.
    """
    reader = ManifestReader(workspace)
    waiting = iter(commits)
    width = 1
    while window := list(islice(waiting, width)):
        manifests = reader.among(
            oid for commit in window for file in commit.files for oid in (file.old, file.new)
        )
        found = []
        for commit in window:
            files = [file for file in commit.files if file.old in manifests or file.new in manifests]
            if files or keep_all or commit.facts.metrics or commit.facts.labels:
                found.append((commit, tuple(file_change(reader, file) for file in files)))
        lengths = workspace.store.stored_lengths(
            {one for _, changes in found for change in changes for one in change.added}
        )
        for commit, changes in found:
            added = {one for change in changes for one in change.added}
            is_here = all(one in lengths for one in added)
            yield WeightCommit(commit, changes, sum(lengths[one] for one in added) if is_here else None)
        width = min(2 * width, _WIDEST)


def _pieces(manifest: Manifest | None) -> int:
    return 0 if manifest is None else len(manifest.tensors) + len(manifest.chunks)


def _weight(manifest: Manifest | None) -> int:
    return _pieces(manifest) + 1
