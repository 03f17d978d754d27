"""What is new of a file, stored: its format is read, its parts are hashed, encoded and made durable."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from coral_git.codecs.strategies import Strategy
from coral_git.errors import UsageError
from coral_git.formats.base import Layout
from coral_git.formats.chunked import chunk_file
from coral_git.formats.registry import read_layout
from coral_git.limits import Limits
from coral_git.manifest.build import build, build_chunked
from coral_git.manifest.model import Manifest
from coral_git.manifest.parts import Part, chunk_parts
from coral_git.manifest.parts import parts as list_parts
from coral_git.manifest.render import render, tabulate
from coral_git.pipeline.bases import BaseFinder
from coral_git.pipeline.delta_base import BaseSearch
from coral_git.pipeline.delta_types import delta_type_of
from coral_git.pipeline.encode import Encoder
from coral_git.pipeline.manifests import StoredManifest, expanded_or_none
from coral_git.pipeline.namesakes import Namesakes
from coral_git.pipeline.parallel import Workers
from coral_git.pipeline.part_source import PartSource, hash_part, part_of_bytes, read_ranges
from coral_git.pipeline.workspace import Workspace
from coral_git.types import ByteSource, DeltaType, FileDigest, ObjectId

if TYPE_CHECKING:
    from coral_git.pipeline.clean import Source

_READ_BYTES = 1 << 20
_NO_BASES = BaseFinder((), None)


def base_finder(
    workspace: Workspace, path: bytes, previous: Iterable[StoredManifest], *, searches: bool = True
) -> BaseFinder:
    """Where the bases of what is added at a path are looked for.

    Args:
        workspace: the repository.
        path: relative to the root of the work tree.
        previous: earlier versions of the path, the most recent first.
        searches: whether other places are asked too.
    """
    expanded = (expanded_or_none(workspace, stored.manifest) for stored in previous)
    known = (manifest for manifest in expanded if manifest is not None)
    return BaseFinder(known, Namesakes(workspace, path).objects if searches else None)


def base_search(workspace: Workspace) -> BaseSearch | None:
    """What finds bases under other names; None where nothing is stored yet."""
    if not workspace.store.packs():
        return None
    from coral_git.pipeline.similar import SimilarObjects

    return SimilarObjects(workspace.store, workspace.settings.similarity_threshold)


def make_encoder(
    workspace: Workspace,
    path: bytes,
    workers: Workers,
    delta_type: DeltaType | None = None,
    *,
    searches: bool = True,
) -> Encoder:
    """What encodes the parts of a file.

    Args:
        workspace: the repository.
        path: the file, relative to the root of the work tree.
        workers: encode.
        delta_type: the strategy; the one that is chosen for the path by default.
        searches: whether bases may be found that parts do not name themselves.
    """
    chosen = delta_type_of(workspace, path) if delta_type is None else delta_type
    strategy = Strategy(chosen, workspace.settings.profile)
    search = partial(base_search, workspace) if searches else None
    return Encoder(workspace.store, workers, strategy=strategy, search=search)


def make_manifest(
    workspace: Workspace,
    path: bytes,
    source: Source,
    workers: Workers,
    bases: BaseFinder | None,
    write: bool,
    progress: Callable[[int, int], None],
) -> bytes:
    """The manifest of a file whose parts are stored: read its format, hash the parts, encode the new ones.

    Args:
        workspace: the repository.
        path: what it is stored as, relative to the root of the work tree.
        source: its bytes.
        workers: hash and encode.
        bases: where bases are looked for; None where all of it is stored whole.
        write: whether anything is stored; False where only the manifest is wanted.
        progress: is told how many bytes are done, and how many there are.

    Raises:
        CoralError: the file changed meanwhile, or the store cannot be written.
    """
    limits = workspace.limits
    digest = workers.submit(_sha256, source)
    delta_type = workers.submit(partial(delta_type_of, workspace), path) if write else None
    layout = read_layout(source, limits)
    parts = (
        list(chunk_parts(chunk_file(source))) if layout is None else list_parts(layout, source.size, limits)
    )
    sources = _announced(
        (with_bases(source, part, layout is None, bases or _NO_BASES) for part in parts), source, progress
    )
    if delta_type is None:
        ids = [part.object_id for part in workers.map(hash_part, sources)]
        return render(_assemble(layout, parts, ids, source.size, digest(), limits)[0])
    encoder = make_encoder(
        workspace, path, workers, delta_type(), searches=bases is not None and bases.searches
    )
    with workspace.store.writer() as writer:
        ids = encoder.store_parts(sources, writer)
        manifest, tables = _assemble(layout, parts, ids, source.size, digest(), limits)
        encoder.store_parts([part_of_bytes(table) for table in tables], writer)
        source.check_unchanged()
        writer.finish()
    return render(manifest)


def store_tensors(workspace: Workspace, path: bytes, sources: Iterable[Source]) -> list[bytes]:
    """Store files with tensors that are nowhere else, durable together; gives their manifests.

    Args:
        workspace: the repository.
        path: whose attributes say how they are stored.
        sources: their bytes; a reader understands each of them.

    Raises:
        UsageError: no reader does, e.g. because a tensor has too many dimensions.
        CoralError: the store cannot be written.
    """
    from coral_git.pipeline.setup import make_ready  # the filter comes here too, and never needs it

    make_ready(workspace)
    limits, texts = workspace.limits, []
    bases = base_finder(workspace, path, ())
    with Workers(workspace.settings.threads) as workers, workspace.store.writer() as writer:
        encoder = make_encoder(workspace, path, workers)
        for source in sources:
            layout = read_layout(source, limits)
            if layout is None:
                raise UsageError("these tensors cannot be stored", hint="up to 64 dimensions, short names")
            parts = list(list_parts(layout, source.size, limits))
            ids = encoder.store_parts((with_bases(source, part, False, bases) for part in parts), writer)
            manifest, _ = _assemble(layout, parts, ids, source.size, _sha256(source), limits)
            texts.append(render(manifest))
        writer.finish()
    return texts


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
