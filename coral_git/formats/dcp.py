"""Distributed checkpoints of torch: a folder with ``.metadata`` and the files of each process.

What was saved is in ``__0_0.distcp`` and so on: each tensor, or chunk of a sharded one, is a file of
``torch.save`` of its own, back to back with the others. See ``torch/distributed/checkpoint/filesystem.py``.
The pickles are read, not executed.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import NamedTuple

from coral_git.formats.base import NotThisFormat, TensorData
from coral_git.formats.dcp_metadata import Chunk, Item, SavedTensor, read_metadata
from coral_git.formats.pickle_values import Global, Made
from coral_git.formats.pieces import JoinedPieces, Piece, PieceReader, span
from coral_git.formats.torch_dtypes import BY_ATTRIBUTE, TorchDType, in_byte_order
from coral_git.formats.torch_storages import count_values, is_contiguous
from coral_git.formats.torch_zip import Archive, read_archive
from coral_git.formats.window import Window
from coral_git.limits import Limits
from coral_git.types import ByteSource, DType

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
    files = PieceReader(open_file)
    tensors = [_tensor(saved, open_file, files, limits) for saved in found.tensors]
    return Checkpoint(tensors, found.objects, frozenset(sizes))


def _tensor(
    saved: SavedTensor, open_file: Callable[[str], ByteSource], files: PieceReader, limits: Limits
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
    read = JoinedPieces(saved.name, saved.shape, kind.width, pieces, files)
    shape = count_values(kind, saved.shape)
    return TensorData(saved.name, dtypes.pop() if dtypes else kind.dtype, shape, read)


def _piece(
    name: str,
    kind: TorchDType,
    chunk: Chunk,
    item: Item,
    open_file: Callable[[str], ByteSource],
    limits: Limits,
) -> tuple[DType, Piece]:
    """The one tensor of an item, which must be what the metadata say of the chunk."""
    archive = read_archive(Window(open_file(item.file), item.offset, item.length), limits)
    if len(archive.views) != 1 or not _is_plain(archive):
        raise NotThisFormat(f"what was saved of {name!a} is more than a plain tensor")
    (view,) = archive.views
    extent = archive.storages.get(view.key)
    if view.dtype != kind or view.shape != chunk.sizes or extent is None:
        raise NotThisFormat(f"what was saved of {name!a} is not what the metadata say")
    needed = max(span(view.shape, view.stride), prod(view.shape))
    if (view.offset + needed) * kind.width > extent.length:
        raise NotThisFormat(f"a chunk of the tensor {name!a} is cut short")
    place = item.offset + extent.offset + view.offset * kind.width
    stride = None if is_contiguous(view) else view.stride
    dtype = in_byte_order(kind.dtype, archive.is_big_endian)
    return dtype, Piece(chunk.offsets or (0,), chunk.sizes or (1,), stride, item.file, place)


def _is_plain(archive: Archive) -> bool:
    """Whether the pickle is a tensor of its own: neither quantized nor a view that conjugates or negates."""
    value = archive.values[0]
    if not isinstance(value, Made) or not isinstance(value.maker, Global):
        return False
    arguments = value.arguments if isinstance(value.arguments, tuple) else ()
    flags = arguments[-1] if len(arguments) > 6 else None
    return value.maker.name in _PLAIN_TENSORS and not (isinstance(flags, Made) and flags.items)
