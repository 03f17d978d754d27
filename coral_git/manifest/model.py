"""What a manifest says, and where in its file the bytes of each object belong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from coral_git.errors import InvalidManifestError
from coral_git.limits import Limits
from coral_git.manifest.body import body_reader, finish
from coral_git.manifest.entries import ChunkEntry, Manifest, TableRef, TensorEntry
from coral_git.manifest.parts import chunk_parts, cut
from coral_git.manifest.text import LineError, text_lines
from coral_git.types import Element, ObjectId

__all__ = [
    "ChunkEntry",
    "Manifest",
    "Placement",
    "TableRef",
    "TensorEntry",
    "expand",
    "object_ids",
    "placements",
]


class Placement(NamedTuple):
    """Where the bytes of an object belong in the file.

    Attributes:
        object_id: the object.
        length: its bytes.
        element: how codecs see them.
        ranges: (file offset, length) of the pieces of the object, in its order; one for everything but
            rest parts.
    """

    object_id: ObjectId
    length: int
    element: Element
    ranges: tuple[tuple[int, int], ...]


def placements(manifest: Manifest, limits: Limits) -> Iterator[Placement]:
    """Every object of an expanded manifest with its place: rest first, then tensors or chunks in file order.

    Raises:
        ValueError: the manifest still has tables.
    """
    if manifest.tables:
        raise ValueError("the manifest is not expanded")
    if manifest.tensor_count is None:
        ids = tuple(chunk.object_id for chunk in manifest.chunks)
        pieces = chunk_parts(_chunk_ranges(manifest.chunks))
    else:
        ids = manifest.rest + tuple(part for tensor in manifest.tensors for part in tensor.objects)
        pieces = cut(manifest.gaps, manifest.tensors, limits)
    for object_id, piece in zip(ids, pieces, strict=True):
        yield Placement(object_id, piece.length, piece.element, piece.ranges)


def expand(manifest: Manifest, load: Callable[[ObjectId], bytes], limits: Limits) -> Manifest:
    """The manifest with the lines of its table objects in their place.

    Args:
        manifest: as parsed.
        load: gives the verified bytes of an object, at most ``limits.table_bytes``.
        limits: as it was parsed with.

    Raises:
        InvalidManifestError: a table does not hold the lines that it stands for, or the sum is wrong.
    """
    if not manifest.tables:
        return manifest
    body = body_reader(manifest.tensor_count, limits)
    for index, table in enumerate(manifest.tables, 1):
        try:
            lines = text_lines(load(table.object_id))
            if len(lines) != table.lines:
                raise LineError(0, f"it has {len(lines)} lines, not {table.lines}")
            body.read(lines, 1)
        except LineError as error:
            raise InvalidManifestError(f"table {index} of the manifest is not valid: {error}") from None
    try:
        return finish(manifest, body)
    except LineError as error:
        raise InvalidManifestError(f"the tables of the manifest are not valid: {error}") from None


def object_ids(manifest: Manifest) -> tuple[ObjectId, ...]:
    """The ids that a manifest names itself, each once; what its tables name is not among them."""
    ids = list(manifest.rest)
    for tensor in manifest.tensors:
        ids += tensor.objects
    ids += [chunk.object_id for chunk in manifest.chunks]
    ids += [table.object_id for table in manifest.tables]
    return tuple(dict.fromkeys(ids))


def _chunk_ranges(chunks: tuple[ChunkEntry, ...]) -> Iterator[tuple[int, int]]:
    offset = 0
    for chunk in chunks:
        yield offset, chunk.length
        offset += chunk.length
