"""Shards of tensors of torch as bytes, on whatever device, and back; an index as torch's metadata."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from math import prod
from typing import Any, Unpack

from coral_git.api.arrays import array_of, dtype_named, read_all, tensor_data, torch_dtype, torch_of
from coral_git.errors import IntegrityError, UsageError
from coral_git.formats.base import TensorData
from coral_git.formats.pieces import span
from coral_git.formats.safetensors import DTYPE_NAMES
from coral_git.integrations.dcp_checkpoint import Place, StoredCheckpoint, Which
from coral_git.integrations.dcp_index import Index, Path, value_name
from coral_git.integrations.state import put_together
from coral_git.limits import MIB
from coral_git.manifest.escape import printable
from coral_git.types import Buffer, DType

try:
    import torch
except ImportError as error:
    raise ImportError("coral_git.integrations.dcp needs torch: pip install torch") from error

from torch.distributed.checkpoint.metadata import (
    BytesStorageMetadata,
    ChunkStorageMetadata,
    Metadata,
    TensorProperties,
    TensorStorageMetadata,
)

_PIECE_BYTES = 16 * MIB
"""What is read of a chunk at once."""

Extent = tuple[int, ...]


def dtype_of(name: str, dtype: torch.dtype) -> DType:
    """Our dtype for one of torch.

    Raises:
        UsageError: it cannot be stored; the message names the tensor.
    """
    found = dtype_named(str(dtype))
    if found is None or found.name not in DTYPE_NAMES:
        raise UsageError(f"tensor '{printable(name)}' has the dtype {dtype}, which cannot be stored")
    return found


def shard_data(name: str, value: torch.Tensor) -> TensorData:
    """A shard as bytes; one on another device is copied from there piece by piece, as it is read.

    Raises:
        UsageError: it is sparse or has no values, or its dtype cannot be stored.
    """
    if value.layout is not torch.strided or value.is_meta or hasattr(value, "to_local"):
        raise UsageError(f"tensor '{printable(name)}' is no plain tensor, and cannot be stored")
    dtype = dtype_of(name, value.dtype)
    plain = value.detach().resolve_conj().resolve_neg()
    if plain.device.type == "cpu" or not plain.numel():
        return tensor_data(name, plain)
    flat = plain.contiguous().reshape(-1).view(torch.uint8)

    def read(start: int, length: int) -> Buffer:
        return flat[start : start + length].cpu().numpy().data.cast("B")

    return TensorData(name, dtype, tuple(plain.shape), read)


def box_range(dtype: DType, sizes: Extent, offsets: Extent, lengths: Extent) -> tuple[int, int]:
    """The bytes of a tensor, from the first to behind the last one, between which a box of it lies."""
    strides = _strides(sizes)
    width = dtype.bits // 8
    first = sum(offset * step for offset, step in zip(offsets, strides, strict=True))
    return first * width, (first + span(lengths, strides)) * width


def copy_box(
    read: Callable[[int, int], Buffer],
    dtype: DType,
    sizes: Extent,
    offsets: Extent,
    lengths: Extent,
    target: torch.Tensor,
) -> None:
    """Copy a box of a tensor, piece by piece.

    Args:
        read: reads the bytes of the tensor.
        dtype: its data type.
        sizes: its dimensions.
        offsets: where the box begins.
        lengths: the dimensions of the box.
        target: what is overwritten, of these dimensions, on any device.

    Raises:
        IntegrityError: there are fewer bytes.
    """
    if not prod(lengths):
        return
    strides = _strides(sizes)
    for place, part in _parts(strides, lengths, _PIECE_BYTES * 8 // dtype.bits):
        start = tuple(map(sum, zip(offsets, place, strict=True)))
        first, last = box_range(dtype, sizes, start, part)
        data = bytearray(read(first, last - first))
        if len(data) != last - first:
            raise IntegrityError("a stored tensor is cut short")
        values = torch.frombuffer(data, dtype=torch_dtype(dtype)).as_strided(part, strides)
        where = tuple(slice(at, at + size) for at, size in zip(place, part, strict=True))
        target[where].copy_(values)


def metadata_of(index: Index) -> Metadata:
    """An index as torch has it."""
    found: dict[str, Any] = {}
    for name, tensor in index.tensors.items():
        properties = TensorProperties(torch_dtype(tensor.dtype), requires_grad=tensor.requires_grad)
        chunks = [
            ChunkStorageMetadata(torch.Size(one.offsets), torch.Size(one.sizes)) for one in tensor.chunks
        ]
        found[name] = TensorStorageMetadata(properties, torch.Size(tensor.shape), chunks)
    found.update({name: BytesStorageMetadata() for name in index.values})
    paths = None if index.paths is None else {name: tuple(path) for name, path in index.paths.items()}
    return Metadata(found, planner_data=paths)


def value_of(checkpoint: StoredCheckpoint, name: str) -> Any:
    """Something of a checkpoint that is no tensor.

    Raises:
        IntegrityError: what is stored of it is not what the index says.
        ObjectMissingError: an object cannot be had.
    """
    value = checkpoint.index.values[name]

    def stored(place: str) -> TensorData:
        entry = checkpoint.stored(value.rank, value_name(name, place))
        return checkpoint.data(value.rank, entry)

    def take(place: str, is_torch: bool) -> Any:
        found = stored(place)
        return (torch_of if is_torch else array_of)(read_all(found), found.dtype, found.shape)

    return put_together(value.tree, take)


def as_file(value: Any) -> io.BytesIO:
    """A value as what ``torch.load`` reads, in memory: planners take it from nowhere else."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    buffer.seek(0)
    return buffer


def load_plain(repository: Place, run: str | None = None, **which: Unpack[Which]) -> dict[str, Any]:
    """The state that was saved, whole and in this process; nothing of ``torch.distributed`` is needed.

    Args:
        repository: where it is.
        run: the run.
        which: which checkpoint; the last one by default.

    Raises:
        UsageError: there is no such checkpoint.
        IntegrityError: it contradicts itself.
        ObjectMissingError: an object cannot be had.
    """
    checkpoint = StoredCheckpoint(repository, run, which)
    paths = checkpoint.index.paths
    flat = {one.name: one for one in checkpoint.full_tensors()}
    state: dict[str, Any] = {}
    for name in [*flat, *checkpoint.index.values] if paths is None else paths:
        if name in flat:
            value = torch_of(read_all(flat[name]), flat[name].dtype, flat[name].shape)
        elif name in checkpoint.index.values:
            value = value_of(checkpoint, name)
        else:
            continue
        try:
            _put(state, (name,) if paths is None else paths[name], value)
        except (TypeError, AttributeError, KeyError, IndexError) as error:
            raise IntegrityError(f"'{printable(name)}' is at an odd place of the state") from error
    return state


def _put(state: Any, path: Path, value: Any) -> None:
    """Put something at its place in dictionaries and lists, which are made where they are missing."""
    for part, after in zip(path, (*path[1:], None), strict=True):
        if isinstance(state, list):
            state.extend([None] * (part + 1 - len(state)))  # type: ignore[operator]
        if after is None:
            state[part] = value
            return
        found = state.get(part) if isinstance(state, dict) else state[part]
        if found is None:
            found = state[part] = [] if isinstance(after, int) else {}
        state = found


def _strides(sizes: Extent) -> Extent:
    """Elements from one to the next along each dimension, in the order of C."""
    return tuple(prod(sizes[axis + 1 :]) for axis in range(len(sizes)))


def _parts(strides: Extent, lengths: Extent, most: int) -> Iterator[tuple[Extent, Extent]]:
    """Places and dimensions of the parts of a box; from the first to the last element of each are few."""
    axis = next((axis for axis, length in enumerate(lengths) if length > 1), None)
    if axis is None or span(lengths, strides) <= most:
        yield (0,) * len(lengths), lengths
        return
    rows = max(1, most // strides[axis])
    for first in range(0, lengths[axis], rows):
        part = (*lengths[:axis], min(rows, lengths[axis] - first), *lengths[axis + 1 :])
        for place, sizes in _parts(strides, part, most):
            yield (*place[:axis], place[axis] + first, *place[axis + 1 :]), sizes
