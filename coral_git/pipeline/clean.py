"""A file into its manifest: what ``git add`` does with weights.

In this order, and the first that answers wins: the content is a manifest already; the stat cache knows
the file; the file equals its previous version; the parts are hashed, the new ones encoded and made
durable. Only then is the manifest handed to git.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import NamedTuple, Protocol

from coral_git.codecs.strategies import Strategy
from coral_git.errors import CoralError, InvalidManifestError
from coral_git.formats.base import Layout
from coral_git.formats.chunked import chunk_file
from coral_git.formats.registry import read_layout
from coral_git.limits import Limits
from coral_git.manifest.build import build, build_chunked
from coral_git.manifest.model import Manifest, Placement, placements
from coral_git.manifest.parse import claims_manifest, parse
from coral_git.manifest.parts import Part, chunk_parts
from coral_git.manifest.parts import parts as list_parts
from coral_git.manifest.render import render, tabulate
from coral_git.pipeline import statcache
from coral_git.pipeline.bases import BaseFinder
from coral_git.pipeline.closure import find_incomplete
from coral_git.pipeline.delta_base import BaseSearch
from coral_git.pipeline.delta_types import delta_type_of
from coral_git.pipeline.encode import Encoder
from coral_git.pipeline.manifests import StoredManifest, expanded_or_none, objects_of, previous_manifests
from coral_git.pipeline.namesakes import Namesakes
from coral_git.pipeline.parallel import Workers
from coral_git.pipeline.part_source import PartSource, hash_part, part_of_bytes, read_ranges
from coral_git.pipeline.progress import Progress
from coral_git.pipeline.source import FileSource, Intake
from coral_git.pipeline.workspace import Workspace
from coral_git.store.writer import PackWriter
from coral_git.types import Buffer, ByteSource, DeltaType, FileDigest, ObjectId

_READ_BYTES = 1 << 20


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
    workspace: Workspace, path: bytes, source: Source, previous: Sequence[StoredManifest] | None = None
) -> bytes:
    """Store a file that need not be in the work tree; gives its manifest.

    Args:
        workspace: the repository.
        path: what it is stored as, relative to the root of the work tree.
        source: its bytes.
        previous: earlier versions, the most recent first; those of the index and HEAD by default.

    Raises:
        CoralError: the store cannot be written.
    """
    if previous is None:
        previous = list(previous_manifests(workspace, path))
    finder = base_finder(workspace, path, previous)
    with Workers(workspace.settings.threads) as workers:
        return _make_manifest(workspace, path, source, workers, finder, True, lambda _done, _total: None)


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
    with Progress("adding") as progress:
        shown = partial(progress.update, os.fsdecode(path))
        finder = base_finder(workspace, path, previous)
        return _make_manifest(workspace, path, source, workers, finder, write, shown)


def base_finder(workspace: Workspace, path: bytes, previous: Iterable[StoredManifest]) -> BaseFinder:
    """Where the bases of what is added at a path are looked for.

    Args:
        workspace: the repository.
        path: relative to the root of the work tree.
        previous: earlier versions of the path, the most recent first.
    """
    expanded = (expanded_or_none(workspace, stored.manifest) for stored in previous)
    known = (manifest for manifest in expanded if manifest is not None)
    return BaseFinder(known, Namesakes(workspace, path).objects)


def base_search(workspace: Workspace) -> BaseSearch | None:
    """What finds bases under other names; None where nothing is stored yet."""
    if not workspace.store.packs():
        return None
    from coral_git.pipeline.similar import SimilarObjects

    return SimilarObjects(workspace.store, workspace.settings.similarity_threshold)


def _encoder(workspace: Workspace, workers: Workers, delta_type: DeltaType) -> Encoder:
    strategy = Strategy(delta_type, workspace.settings.profile)
    return Encoder(workspace.store, workers, strategy=strategy, search=partial(base_search, workspace))


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
        encoder = _encoder(workspace, workers, delta_type_of(workspace, path) if wanted else DeltaType.AUTO)
        encoder.store_parts((_part_at(source, placement) for placement in wanted), writer)
        writer.finish()


def _part_at(source: FileSource, placement: Placement) -> PartSource:
    return PartSource(read_ranges(source, placement.ranges), placement.length, placement.element)


def _make_manifest(
    workspace: Workspace,
    path: bytes,
    source: Source,
    workers: Workers,
    bases: BaseFinder,
    write: bool,
    progress: Callable[[int, int], None],
) -> bytes:
    """Read the format, hash and store the parts, and write the manifest."""
    limits = workspace.limits
    digest = workers.submit(_sha256, source)
    delta_type = workers.submit(partial(delta_type_of, workspace), path) if write else None
    layout = read_layout(source, limits)
    parts = (
        list(chunk_parts(chunk_file(source))) if layout is None else list_parts(layout, source.size, limits)
    )
    sources = _announced(
        (with_bases(source, part, layout is None, bases) for part in parts), source, progress
    )
    if delta_type is None:
        ids = [part.object_id for part in workers.map(hash_part, sources)]
        return render(_assemble(layout, parts, ids, source.size, digest(), limits)[0])
    encoder = _encoder(workspace, workers, delta_type())
    with workspace.store.writer() as writer:
        ids = encoder.store_parts(sources, writer)
        manifest, tables = _assemble(layout, parts, ids, source.size, digest(), limits)
        encoder.store_parts([part_of_bytes(table) for table in tables], writer)
        source.check_unchanged()
        writer.finish()
    return render(manifest)


def _announced(
    parts: Iterable[PartSource], source: Source, progress: Callable[[int, int], None]
) -> Iterator[PartSource]:
    """The parts, with a word about each to whoever shows the progress."""
    done = 0
    for part in parts:
        progress(done, source.size)
        yield part
        done += part.length


def with_bases(source: ByteSource, part: Part, is_chunked: bool, bases: BaseFinder) -> PartSource:
    """A part of a file with what it may be a small change of.

    Args:
        source: the file.
        part: the part.
        is_chunked: whether the file is cut into chunks, as no reader understands it.
        bases: where bases are looked for.
    """
    read = read_ranges(source, part.ranges)
    if part.tensor is not None:
        candidates = bases.tensor_part(part.tensor, part.number)
        namesakes = partial(bases.namesakes, part.tensor, part.number)
        return PartSource(read, part.length, part.element, candidates, namesakes)
    candidates = bases.chunk(part.number) if is_chunked else bases.rest_part(part.number)
    return PartSource(read, part.length, part.element, candidates)


def _assemble(
    layout: Layout | None,
    parts: Sequence[Part],
    ids: Sequence[ObjectId],
    size: int,
    digest: FileDigest,
    limits: Limits,
) -> tuple[Manifest, list[bytes]]:
    """The manifest of a file, with long lists moved into tables, and those tables."""
    if layout is None:
        chunks = [(part.length, object_id) for part, object_id in zip(parts, ids, strict=True)]
        return tabulate(build_chunked(chunks, size, digest), limits)
    return tabulate(build(layout, size, digest, ids, limits), limits)


def _sha256(source: ByteSource) -> FileDigest:
    """SHA-256 of the whole file."""
    hasher = hashlib.sha256()
    for offset in range(0, source.size, _READ_BYTES):
        hasher.update(source.read_at(offset, _READ_BYTES))
    return FileDigest(hasher.digest())
