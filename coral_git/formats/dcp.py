"""Distributed checkpoints of torch: a folder with ``.metadata`` and the files of each process.

What was saved is in ``__0_0.distcp`` and so on: each tensor, or chunk of a sharded one, is a file of
``torch.save`` of its own, back to back with the others. See ``torch/distributed/checkpoint/filesystem.py``.
The pickles are read, not executed. Imports numpy when tensors are read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import TYPE_CHECKING, NamedTuple

from coral_git.errors import IntegrityError
from coral_git.formats.base import NotThisFormat, TensorData
from coral_git.formats.boxes import Box, cover
from coral_git.formats.dcp_metadata import Chunk, Item, SavedTensor, read_metadata
from coral_git.formats.pickle_values import Global, Made
from coral_git.formats.torch_dtypes import BY_ATTRIBUTE, TorchDType, in_byte_order
from coral_git.formats.torch_storages import count_values, is_contiguous
from coral_git.formats.torch_zip import Archive, read_archive
from coral_git.formats.window import Window
from coral_git.limits import MIB, Limits
from coral_git.types import Buffer, ByteSource, DType

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

METADATA = ".metadata"
"""The file by which such a folder is known."""

_PLAIN_TENSORS = frozenset({"_rebuild_tensor_v2", "_rebuild_tensor_v3"})


class Checkpoint(NamedTuple):
    """What a checkpoint holds.

    Attributes:
        tensors: the tensors, put together.
        objects: names of what was pickled instead, and is not read.
        files: names of the files of the folder that all this is in.
    """

    tensors: list[TensorData]
    objects: list[str]
    files: frozenset[str]


def read_checkpoint(metadata: bytes, open_file: Callable[[str], ByteSource], limits: Limits) -> Checkpoint:
    """Read the index of a checkpoint, and look at everything that it names.

    Args:
        metadata: the content of the file ``.metadata``.
        open_file: gives the bytes of a file of the folder, by its plain name; asked again for every item.
        limits: the caps.

    Raises:
        NotThisFormat: it is no such checkpoint, or it contradicts itself or the files.
    """
    found = read_metadata(metadata, limits)
    sizes = {file: open_file(file).size for file in sorted({item.file for item in found.items})}
    for item in found.items:
        if item.offset + item.length > sizes[item.file]:
            raise NotThisFormat(f"the file {item.file!a} is cut short")
    files = _Files(open_file)
    tensors = [_tensor(saved, open_file, files, limits) for saved in found.tensors]
    return Checkpoint(tensors, found.objects, frozenset(sizes))


def _tensor(
    saved: SavedTensor, open_file: Callable[[str], ByteSource], files: _Files, limits: Limits
) -> TensorData:
    """A tensor after a look at all of its chunks."""
    kind = BY_ATTRIBUTE.get(saved.dtype)
    if kind is None:
        raise NotThisFormat(f"the tensor {saved.name!a} has an unknown dtype")
    pieces = []
    dtypes = set()
    for chunk in saved.chunks:
        if chunk.item is not None:
            dtype, piece = _piece(saved.name, kind, chunk, chunk.item, open_file, limits)
            dtypes.add(dtype)
            pieces.append(piece)
    if len(dtypes) > 1:
        raise NotThisFormat(f"the chunks of the tensor {saved.name!a} differ in byte order")
    read = _Pieces(saved, kind.width, pieces, files)
    shape = count_values(kind, saved.shape)
    return TensorData(saved.name, dtypes.pop() if dtypes else kind.dtype, shape, read)


class _Piece(NamedTuple):
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


def _piece(
    name: str,
    kind: TorchDType,
    chunk: Chunk,
    item: Item,
    open_file: Callable[[str], ByteSource],
    limits: Limits,
) -> tuple[DType, _Piece]:
    """The one tensor of an item, which must be what the metadata say of the chunk."""
    archive = read_archive(Window(open_file(item.file), item.offset, item.length), limits)
    if len(archive.views) != 1 or not _is_plain(archive):
        raise NotThisFormat(f"what was saved of {name!a} is more than a plain tensor")
    (view,) = archive.views
    extent = archive.storages.get(view.key)
    if view.dtype != kind or view.shape != chunk.sizes or extent is None:
        raise NotThisFormat(f"what was saved of {name!a} is not what the metadata say")
    needed = max(_span(view.shape, view.stride), prod(view.shape))
    if (view.offset + needed) * kind.width > extent.length:
        raise NotThisFormat(f"a chunk of the tensor {name!a} is cut short")
    place = item.offset + extent.offset + view.offset * kind.width
    stride = None if is_contiguous(view) else view.stride
    dtype = in_byte_order(kind.dtype, archive.is_big_endian)
    return dtype, _Piece(chunk.offsets or (0,), chunk.sizes or (1,), stride, item.file, place)


def _span(shape: tuple[int, ...], stride: tuple[int, ...]) -> int:
    """Elements from the first to the last one of a tensor that has some."""
    return 1 + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))


def _is_plain(archive: Archive) -> bool:
    """Whether the pickle is a tensor of its own: neither quantized nor a view that conjugates or negates."""
    value = archive.values[0]
    if not isinstance(value, Made) or not isinstance(value.maker, Global):
        return False
    arguments = value.arguments if isinstance(value.arguments, tuple) else ()
    flags = arguments[-1] if len(arguments) > 6 else None
    return value.maker.name in _PLAIN_TENSORS and not (isinstance(flags, Made) and flags.items)


class _Files:
    """Reads pieces from the files of a checkpoint, one file at a time.

    Args:
        open_file: gives the bytes of a file.
    """

    def __init__(self, open_file: Callable[[str], ByteSource]) -> None:
        self._open = open_file
        self._ordered: tuple[_Piece, npt.NDArray[np.void]] | None = None

    def rows(self, piece: _Piece, part: Box, width: int) -> npt.NDArray[np.void]:
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

    def _in_order(self, piece: _Piece, width: int) -> npt.NDArray[np.void]:
        """The whole of a piece that is not in the order of C; the last one is kept."""
        import numpy as np

        if self._ordered is None or self._ordered[0] is not piece:
            stride = piece.stride or ()
            values = self._values(piece, 0, _span(piece.sizes, stride), width)
            steps = tuple(step * width for step in stride)
            view: npt.NDArray[np.void] = np.lib.stride_tricks.as_strided(
                values, piece.sizes, steps, writeable=False
            )
            self._ordered = piece, np.ascontiguousarray(view)
        return self._ordered[1]

    def _values(self, piece: _Piece, start: int, count: int, width: int) -> npt.NDArray[np.void]:
        """Elements of a piece in the order of the file."""
        import numpy as np

        data = self._open(piece.file).read_at(piece.place + start * width, count * width)
        if len(data) != count * width:
            raise IntegrityError(f"the file {piece.file!a} was cut short")
        return np.frombuffer(data, f"V{width}")


class _Pieces:
    """Reads ranges of a tensor that is in pieces; calling it is what ``TensorData.read`` is.

    Args:
        saved: the tensor.
        width: bytes of an element.
        pieces: of what it consists; they must not overlap, which is seen when they are read.
        files: reads them.
    """

    def __init__(self, saved: SavedTensor, width: int, pieces: Sequence[_Piece], files: _Files) -> None:
        self._name = saved.name
        self._shape = saved.shape or (1,)
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
