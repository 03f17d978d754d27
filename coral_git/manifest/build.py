"""From what a cleaned file consists of to its manifest. Nothing is read or written here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from coral_git.limits import Limits
from coral_git.manifest.entries import ChunkEntry, Manifest, TensorEntry
from coral_git.manifest.parts import LayoutLike, gaps_of, part_count, rest_part_count
from coral_git.manifest.text import CHUNKS_FORMAT
from coral_git.types import FileDigest, ObjectId


def build(
    layout: LayoutLike, size: int, sha256: FileDigest, ids: Sequence[ObjectId], limits: Limits
) -> Manifest:
    """The manifest of a file that falls into tensors.

    Args:
        layout: how it does.
        size: bytes of the file.
        sha256: digest of the file.
        ids: one for each of ``parts(layout, size, limits)``, in that order.
        limits: those of ``parts``.

    Raises:
        ValueError: the layout does not fit the file, or there are more or fewer ids than parts.
    """
    gaps = gaps_of(layout, size)
    rest_length = sum(gaps)
    taken = rest_part_count(rest_length, limits)
    rest = tuple(ids[:taken])
    tensors = []
    for tensor in layout.tensors:
        start, taken = taken, taken + part_count(tensor.dtype, tensor.length, limits)
        tensors.append(TensorEntry(tensor.name, tensor.dtype, tensor.shape, tuple(ids[start:taken])))
    if taken != len(ids):
        raise ValueError(f"{len(ids)} ids for {taken} parts")
    return Manifest(layout.format, size, sha256, rest_length, rest, gaps, len(tensors), tuple(tensors))


def build_chunked(
    chunks: Iterable[tuple[int, ObjectId]], size: int, sha256: FileDigest, format_name: str = CHUNKS_FORMAT
) -> Manifest:
    """The manifest of a file that is cut into chunks, given as (length, id) in file order."""
    entries = tuple(ChunkEntry(length, object_id) for length, object_id in chunks)
    return Manifest(format_name, size, sha256, chunks=entries)
