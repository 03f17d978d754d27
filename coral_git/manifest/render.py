"""The one way in which a manifest is written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from blake3 import blake3

from coral_git.limits import Limits
from coral_git.manifest.entries import ChunkEntry, Manifest, TableRef, TensorEntry
from coral_git.manifest.escape import escape_name
from coral_git.manifest.text import FIRST_LINE, SCALAR
from coral_git.types import ObjectId


def render(manifest: Manifest) -> bytes:
    """The text of a manifest. Lists are written as they are: ``tabulate`` comes first."""
    first = FIRST_LINE + _text(
        [f"format {manifest.format}", f"size {manifest.size}", f"sha256 {manifest.sha256.hex()}"]
    )
    others = _text([*_rest_lines(manifest), *_body_lines(manifest)])
    root = blake3(first).update(others).hexdigest()
    return b"".join((first, b"root ", root.encode(), b"\n", others))


def tabulate(manifest: Manifest, limits: Limits) -> tuple[Manifest, list[bytes]]:
    """The manifest as it is stored: lists that nobody reads go into table objects.

    Returns:
        The manifest, with tables where its list was too long, and the bytes of the table objects in order.
    """
    lines: Sequence[str]
    if len(manifest.tensors) > limits.inline_tensors:
        lines = list(_tensor_lines(manifest.tensors))
    elif len(manifest.chunks) > limits.inline_chunks:
        lines = list(_chunk_lines(manifest.chunks))
    else:
        return manifest, []
    slices = [lines[start : start + limits.table_lines] for start in range(0, len(lines), limits.table_lines)]
    contents = [_text(piece) for piece in slices]
    tables = tuple(
        TableRef(len(piece), ObjectId(blake3(content).digest()))
        for piece, content in zip(slices, contents, strict=True)
    )
    return manifest._replace(tensors=(), chunks=(), tables=tables), contents


def _rest_lines(manifest: Manifest) -> Iterator[str]:
    if manifest.rest_length:
        yield " ".join(("rest", str(manifest.rest_length), *(part.hex() for part in manifest.rest)))
        yield " ".join(("gaps", *_runs(manifest.gaps)))
    if manifest.tensor_count is not None:
        yield f"tensors {manifest.tensor_count}"


def _body_lines(manifest: Manifest) -> Iterator[str]:
    yield from (f"table {table.lines} {table.object_id.hex()}" for table in manifest.tables)
    yield from _tensor_lines(manifest.tensors)
    yield from _chunk_lines(manifest.chunks)


def _tensor_lines(tensors: Iterable[TensorEntry]) -> Iterator[str]:
    for tensor in tensors:
        shape = "x".join(map(str, tensor.shape)) or SCALAR
        ids = [part.hex() for part in tensor.objects]
        yield " ".join(("tensor", escape_name(tensor.name), tensor.dtype.name, shape, *ids))


def _chunk_lines(chunks: Iterable[ChunkEntry]) -> Iterator[str]:
    return (f"chunk {chunk.length} {chunk.object_id.hex()}" for chunk in chunks)


def _runs(numbers: Iterable[int]) -> Iterator[str]:
    """Numbers, each run of k >= 2 equal ones as ``k*n``."""
    for value, run in groupby(numbers):
        count = sum(1 for _ in run)
        yield f"{count}*{value}" if count > 1 else str(value)


def _text(lines: Iterable[str]) -> bytes:
    return "".join([f"{line}\n" for line in lines]).encode("ascii")
