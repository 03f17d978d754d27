"""A file into its manifest: what ``git add`` does with weights.

In this order, and the first that answers wins: the content is a manifest already; the stat cache knows
the file; the file equals its previous version; the parts are hashed, the new ones encoded and made
durable (``storing.py``, which is imported then). Only then is the manifest handed to git.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Protocol

from coral_git.errors import CoralError, InvalidManifestError
from coral_git.manifest.model import Manifest, Placement, placements
from coral_git.manifest.parse import claims_manifest, parse
from coral_git.pipeline import statcache
from coral_git.pipeline.closure import find_incomplete
from coral_git.pipeline.manifests import StoredManifest, expanded_or_none, objects_of, previous_manifests
from coral_git.pipeline.parallel import Workers
from coral_git.pipeline.part_source import PartSource, hash_part, read_ranges
from coral_git.pipeline.progress import Progress
from coral_git.pipeline.source import FileSource, Intake
from coral_git.pipeline.workspace import Workspace
from coral_git.types import Buffer, ByteSource, ObjectId

if TYPE_CHECKING:
    from coral_git.store.writer import PackWriter


def clean_content(
    workspace: Workspace, path: bytes, content: Iterable[Buffer], *, write: bool = True
) -> bytes:
    """The manifest of the content that git sends for ``path``.

    Args:
        workspace: the repository.
        path: the path as git names it, relative to the work tree (the current directory).
        content: the bytes of the file.
        write: whether new objects are stored; False where git only compares.

    Raises:
        InvalidManifestError: the content claims to be a manifest and is none.
        CoralError: the file changed meanwhile, or the store cannot be written.
    """
    intake = Intake(path, workspace.store.layout.incoming)
    source = intake.take(content)
    try:
        if claims_manifest(intake.head):
            return _pass_manifest(workspace, path, source)
        return _clean_source(workspace, path, source, write)
    finally:
        source.close()


class Source(ByteSource, Protocol):
    """The bytes of a file that is to be stored."""

    def check_unchanged(self) -> None:
        """Fail when the bytes may not be those any more that were read."""
        ...


def store_source(
    workspace: Workspace,
    path: bytes,
    source: Source,
    previous: Sequence[StoredManifest] | None = None,
    *,
    is_incremental: bool = True,
    searches: bool = True,
) -> bytes:
    """Store a file that need not be in the work tree; gives its manifest.

    Args:
        workspace: the repository.
        path: what it is stored as, relative to the root of the work tree.
        source: its bytes.
        previous: earlier versions, the most recent first; those of the index and HEAD by default.
        is_incremental: whether tensors may be stored as differences to others.
        searches: whether these may be others than those of the same name in ``previous``.

    Raises:
        CoralError: the store cannot be written.
    """
    from coral_git.pipeline.setup import make_ready
    from coral_git.pipeline.storing import base_finder, make_manifest

    make_ready(workspace)
    if previous is None:
        previous = list(previous_manifests(workspace, path))
    finder = base_finder(workspace, path, previous, searches=searches) if is_incremental else None
    with Workers(workspace.settings.threads) as workers:
        return make_manifest(workspace, path, source, workers, finder, True, lambda _done, _total: None)


def _pass_manifest(workspace: Workspace, path: bytes, source: FileSource) -> bytes:
    """A manifest goes through unchanged; a broken one is refused, never stored as weights."""
    limit = workspace.limits.manifest_bytes
    if source.size > limit:
        raise InvalidManifestError(
            f"'{os.fsdecode(path)}' claims to be a manifest and has {source.size} bytes"
        )
    text = source.read_at(0, source.size)
    try:
        parse(text, workspace.limits)
    except InvalidManifestError as error:
        raise InvalidManifestError(f"'{os.fsdecode(path)}': {error.message}", hint=error.hint) from error
    return text


def _clean_source(workspace: Workspace, path: bytes, source: FileSource, write: bool) -> bytes:
    cache = workspace.store.cache
    recalled = None
    if source.path is not None and workspace.settings.trust_stat:
        found = _recall(workspace, path, source)
        if found is not None:
            recalled, settled = found
            if settled and (not write or _is_stored(workspace, recalled.manifest)):
                return recalled.text
    with Workers(workspace.settings.threads) as workers:
        text = _clean_bytes(workspace, path, source, workers, recalled, write)
    source.check_unchanged()
    if source.path is not None and write:
        statcache.remember(cache, path, source.status, text, source.opened_ns)
    return text


class _Version(NamedTuple):
    """A manifest that the file may still have."""

    text: bytes
    manifest: Manifest


def _recall(workspace: Workspace, path: bytes, source: FileSource) -> tuple[_Version, bool] | None:
    """What the stat cache says, and whether it may be believed; a record that cannot be read is no answer."""
    found = statcache.recall(workspace.store.cache, path, source.status)
    if found is None:
        return None
    text, settled = found
    try:
        return _Version(text, parse(text, workspace.limits)), settled
    except CoralError:
        return None


def _is_stored(workspace: Workspace, manifest: Manifest) -> bool:
    """Whether the store has every object of a manifest; gc is told that they are wanted."""
    whole = expanded_or_none(workspace, manifest)
    if whole is None:
        return False
    with workspace.store.writer() as writer:
        if _find_lacking(workspace, objects_of(manifest, whole), writer):
            return False
        writer.finish()
    return True


def _find_lacking(workspace: Workspace, named: Sequence[ObjectId], writer: PackWriter) -> set[ObjectId]:
    """What the store cannot give back: gc may have removed what nothing named, a fetch may be unfinished."""
    lacking = {object_id for object_id in named if not writer.contains(object_id)}
    return lacking.union(find_incomplete(workspace.store, named))


def _clean_bytes(
    workspace: Workspace,
    path: bytes,
    source: FileSource,
    workers: Workers,
    recalled: _Version | None,
    write: bool,
) -> bytes:
    previous = list(previous_manifests(workspace, path))
    known = [] if recalled is None else [recalled]
    known += [_Version(stored.text, stored.manifest) for stored in previous]
    for text, manifest in {version.text: version.manifest for version in known}.items():
        whole = expanded_or_none(workspace, manifest)
        if whole is not None and _is_file_of(whole, source, workers, workspace):
            if write:
                _store_again(workspace, path, manifest, whole, source, workers)
            return text
    from coral_git.pipeline.storing import base_finder, make_manifest

    with Progress("adding") as progress:
        shown = partial(progress.update, os.fsdecode(path))
        finder = base_finder(workspace, path, previous)
        return make_manifest(workspace, path, source, workers, finder, write, shown)


def _is_file_of(manifest: Manifest, source: FileSource, workers: Workers, workspace: Workspace) -> bool:
    """Whether a file has exactly the objects of a manifest, and therefore its bytes."""
    if manifest.size != source.size:
        return False
    all_placements = list(placements(manifest, workspace.limits))
    hashed = workers.map(hash_part, (_part_at(source, placement) for placement in all_placements))
    return all(
        part.object_id == placement.object_id for part, placement in zip(hashed, all_placements, strict=True)
    )


def _store_again(
    workspace: Workspace,
    path: bytes,
    manifest: Manifest,
    whole: Manifest,
    source: FileSource,
    workers: Workers,
) -> None:
    """Store what an unchanged file has and the store lacks, e.g. in a clone that has not fetched it."""
    with workspace.store.writer() as writer:
        lacking = _find_lacking(workspace, objects_of(manifest, whole), writer)
        wanted = [one for one in placements(whole, workspace.limits) if one.object_id in lacking]
        if wanted:
            from coral_git.pipeline.storing import make_encoder

            encoder = make_encoder(workspace, path, workers)
            encoder.store_parts((_part_at(source, placement) for placement in wanted), writer)
        writer.finish()


def _part_at(source: FileSource, placement: Placement) -> PartSource:
    return PartSource(read_ranges(source, placement.ranges), placement.length, placement.element)
