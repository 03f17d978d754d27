"""The data classes of a manifest: what the file is, and its tensors, chunks or tables."""

from __future__ import annotations

from typing import NamedTuple

from coral_git.limits import Limits
from coral_git.manifest.parts import part_lengths
from coral_git.types import DType, FileDigest, ObjectId, tensor_bytes


class TensorEntry(NamedTuple):
    """One tensor of a file.

    Attributes:
        name: its name, unique in the manifest.
        dtype: its data type.
        shape: its dimensions; ``()`` for a scalar.
        objects: the ids of its parts in order; none for a tensor without bytes.
    """

    name: str
    dtype: DType
    shape: tuple[int, ...]
    objects: tuple[ObjectId, ...]

    @property
    def nbytes(self) -> int:
        """Length in bytes."""
        length = tensor_bytes(self.dtype, self.shape)
        if length is None:
            raise ValueError(f"tensor {self.name!r} does not fill whole bytes")
        return length

    def part_lengths(self, limits: Limits) -> tuple[int, ...]:
        """Bytes of each part, in order."""
        return part_lengths(self.dtype, self.nbytes, limits)


class ChunkEntry(NamedTuple):
    """One chunk of a file that has no known format.

    Attributes:
        length: its bytes.
        object_id: the object that holds them.
    """

    length: int
    object_id: ObjectId


class TableRef(NamedTuple):
    """A table object: lines of the manifest that are kept in the store.

    Attributes:
        lines: how many lines it holds.
        object_id: the object whose bytes are those lines.
    """

    lines: int
    object_id: ObjectId


class Manifest(NamedTuple):
    """A manifest. Either tensors, or chunks, or the tables that stand for one of the two.

    Attributes:
        format: name and version of the format reader, e.g. ``"safetensors/1"`` or ``"chunks/1"``.
        size: bytes of the file.
        sha256: SHA-256 of the file.
        rest_length: bytes that belong to no tensor.
        rest: the parts of their concatenation.
        gaps: how many of them lie before the first tensor, between the tensors and after the last; empty
            when there are none.
        tensor_count: number of tensors, also when they are in tables; None for a file cut into chunks.
        tensors: the tensors in file order; empty while they are in tables.
        chunks: the chunks in file order; empty while they are in tables.
        tables: the table objects; empty in an expanded manifest.
    """

    format: str
    size: int
    sha256: FileDigest
    rest_length: int = 0
    rest: tuple[ObjectId, ...] = ()
    gaps: tuple[int, ...] = ()
    tensor_count: int | None = None
    tensors: tuple[TensorEntry, ...] = ()
    chunks: tuple[ChunkEntry, ...] = ()
    tables: tuple[TableRef, ...] = ()
