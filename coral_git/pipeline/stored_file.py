"""A stored file as a byte source without its tensors: what a reader needs to look at its structure."""

from __future__ import annotations

from bisect import bisect_right
from itertools import islice
from typing import NamedTuple

from coral_git.formats.base import Layout, TensorSegment
from coral_git.manifest.model import Manifest, placements
from coral_git.store.store import Store
from coral_git.types import ObjectId


class _Piece(NamedTuple):
    """Bytes of the file that belong to no tensor: where they lie, and where in which object they are."""

    offset: int
    length: int
    object_id: ObjectId
    start: int


class RestSource:
    """The bytes between the tensors of a stored file, at their places; tensors read as zeros.

    Args:
        manifest: expanded, of a file with tensors.
        store: has its objects; they are compared with their ids.
    """

    def __init__(self, manifest: Manifest, store: Store) -> None:
        self._size = manifest.size
        self._store = store
        self._pieces = sorted(_pieces(manifest, store))
        self._offsets = [piece.offset for piece in self._pieces]
        self._held: tuple[ObjectId, bytes] | None = None

    @property
    def size(self) -> int:
        """Length of the file in bytes."""
        return self._size

    @property
    def ranges(self) -> list[tuple[int, int]]:
        """(offset, length) of the bytes that belong to no tensor, in file order."""
        return [(piece.offset, piece.length) for piece in self._pieces]

    def read_at(self, offset: int, length: int) -> bytes:
        """The bytes from ``offset``; fewer than ``length`` only at the end.

        Raises:
            IntegrityError: an object is damaged.
            ObjectMissingError: an object is not in the store.
        """
        end = min(offset + length, self._size)
        if offset >= end:
            return b""
        data = bytearray(end - offset)
        number = max(bisect_right(self._offsets, offset) - 1, 0)
        for piece in self._pieces[number:]:
            if piece.offset >= end:
                break
            low, high = max(piece.offset, offset), min(piece.offset + piece.length, end)
            if low < high:
                start = piece.start + low - piece.offset
                data[low - offset : high - offset] = self._object(piece.object_id)[start : start + high - low]
        return bytes(data)

    def _object(self, object_id: ObjectId) -> bytes:
        """The bytes of an object; the last one is held."""
        if self._held is None or self._held[0] != object_id:
            self._held = object_id, self._store.read(object_id, self._store.limits.part_elements)
        return self._held[1]


def layout_of(manifest: Manifest) -> Layout:
    """Where the tensors of an expanded manifest lie in its file."""
    segments = []
    end = 0
    gaps = manifest.gaps or (0,) * (len(manifest.tensors) + 1)
    for gap, tensor in zip(gaps, manifest.tensors, strict=False):
        segments.append(TensorSegment(tensor.name, tensor.dtype, tensor.shape, end + gap, tensor.nbytes))
        end += gap + tensor.nbytes
    return Layout(manifest.format, tuple(segments))


def _pieces(manifest: Manifest, store: Store) -> list[_Piece]:
    pieces = []
    for placement in islice(placements(manifest, store.limits), len(manifest.rest)):
        start = 0
        for offset, length in placement.ranges:
            pieces.append(_Piece(offset, length, placement.object_id, start))
            start += length
    return pieces
