"""Tensors that lie in pieces: boxes of them, here and there in files, read as if they were whole.

Imports numpy when tensors are read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import TYPE_CHECKING, NamedTuple

from coral_git.errors import IntegrityError
from coral_git.formats.boxes import Box, cover
from coral_git.limits import MIB
from coral_git.types import Buffer, ByteSource

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class Piece(NamedTuple):
    """A chunk that was looked at.

    Attributes:
        offsets: its first element along each dimension of the tensor; at least one dimension.
        sizes: its elements along each dimension.
        stride: elements between neighbours in the file; None where they are in the order of C.
        file: where it is.
        place: the byte of that file with its first element.
    """

    offsets: tuple[int, ...]
    sizes: tuple[int, ...]
    stride: tuple[int, ...] | None
    file: str
    place: int

    def part_of(self, box: Box) -> Box | None:
        """What it has of a box, counted from its own first element; None where that is nothing."""
        axis = len(box.place)
        index = tuple(place - offset for place, offset in zip(box.place, self.offsets, strict=False))
        if any(not 0 <= place < size for place, size in zip(index, self.sizes, strict=False)):
            return None
        first = max(box.first - self.offsets[axis], 0)
        last = min(box.last - self.offsets[axis], self.sizes[axis])
        return Box(index, first, last) if first < last else None


class PieceReader:
    """Reads pieces from the files of a checkpoint, one file at a time.

    Args:
        open_file: gives the bytes of a file.
    """

    def __init__(self, open_file: Callable[[str], ByteSource]) -> None:
        self._open = open_file
        self._ordered: tuple[Piece, npt.NDArray[np.void]] | None = None

    def rows(self, piece: Piece, part: Box, width: int) -> npt.NDArray[np.void]:
        """A part of a piece, the elements of which have so many bytes."""
        axis = len(part.place)
        if piece.stride is not None:
            rows: npt.NDArray[np.void] = self._in_order(piece, width)[part.place][part.first : part.last]
            return rows
        shape = (part.last - part.first, *piece.sizes[axis + 1 :])
        number = 0
        for place, size in zip((*part.place, part.first), piece.sizes, strict=False):
            number = number * size + place
        start = number * prod(piece.sizes[axis + 1 :])
        return self._values(piece, start, prod(shape), width).reshape(shape)

    def _in_order(self, piece: Piece, width: int) -> npt.NDArray[np.void]:
        """The whole of a piece that is not in the order of C; the last one is kept."""
        import numpy as np

        if self._ordered is None or self._ordered[0] is not piece:
            stride = piece.stride or ()
            values = self._values(piece, 0, span(piece.sizes, stride), width)
            steps = tuple(step * width for step in stride)
            view: npt.NDArray[np.void] = np.lib.stride_tricks.as_strided(
                values, piece.sizes, steps, writeable=False
            )
            self._ordered = piece, np.ascontiguousarray(view)
        return self._ordered[1]

    def _values(self, piece: Piece, start: int, count: int, width: int) -> npt.NDArray[np.void]:
        """Elements of a piece in the order of the file."""
        import numpy as np

        data = self._open(piece.file).read_at(piece.place + start * width, count * width)
        if len(data) != count * width:
            raise IntegrityError(f"the file {piece.file!a} was cut short")
        return np.frombuffer(data, f"V{width}")


class JoinedPieces:
    """Reads ranges of a tensor that is in pieces; calling it is what ``TensorData.read`` is.

    Args:
        name: of the tensor, for messages.
        shape: its dimensions.
        width: bytes of an element.
        pieces: of what it consists; they must not overlap, which is seen when they are read.
        files: reads them.
    """

    def __init__(
        self, name: str, shape: tuple[int, ...], width: int, pieces: Sequence[Piece], files: PieceReader
    ) -> None:
        self._name = name
        self._shape = shape or (1,)
        self._width = width
        self._pieces = pieces
        self._files = files

    def __call__(self, start: int, length: int) -> Buffer:
        """The bytes of a range; fewer at the end of the tensor.

        Raises:
            IntegrityError: the pieces overlap, or a file was cut short meanwhile.
        """
        width = self._width
        first = start // width
        stop = min(-(-(start + length) // width), prod(self._shape))
        if first >= stop:
            return b""
        covered = cover(self._shape, first, stop, MIB // width)
        data = b"".join(map(self._box, covered.boxes))
        skipped = start - covered.start * width
        return data[skipped : skipped + length]

    def _box(self, box: Box) -> bytes:
        """The bytes of a box, from all pieces that have some of it."""
        import numpy as np

        axis = len(box.place)
        shape = (box.last - box.first, *self._shape[axis + 1 :])
        found = [(piece, part) for piece in self._pieces if (part := piece.part_of(box)) is not None]
        if len(found) == 1:
            values = self._files.rows(*found[0], self._width)
            if values.shape == shape:
                return values.tobytes()
        result = np.empty(shape, f"V{self._width}")
        seen = np.zeros(shape, bool)
        for piece, part in found:
            start = piece.offsets[axis] - box.first
            rest = zip(piece.offsets[axis + 1 :], piece.sizes[axis + 1 :], strict=True)
            where = (
                slice(start + part.first, start + part.last),
                *(slice(offset, offset + size) for offset, size in rest),
            )
            if seen[where].any():
                raise IntegrityError(f"chunks of the tensor {self._name!a} overlap")
            seen[where] = True
            result[where] = self._files.rows(piece, part, self._width)
        if not seen.all():
            raise IntegrityError(f"the chunks of the tensor {self._name!a} do not make it up")
        return result.tobytes()


def span(shape: tuple[int, ...], stride: tuple[int, ...]) -> int:
    """Elements from the first to the last one of a tensor that has some."""
    return 1 + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
