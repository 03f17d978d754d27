"""What a process stores of the items of a plan of torch, and the index of all of them."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any, NamedTuple

from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from torch.distributed.checkpoint.planner import SavePlanner, WriteItem
from torch.distributed.checkpoint.storage import WriteResult

from coral_git.api.arrays import is_torch, tensor_data
from coral_git.errors import CoralError, UsageError
from coral_git.formats.base import TensorData
from coral_git.integrations.dcp_index import (
    Chunk,
    Index,
    IndexedTensor,
    IndexedValue,
    chunk_name,
    value_name,
)
from coral_git.integrations.dcp_torch import dtype_of, shard_data
from coral_git.integrations.state import take_apart
from coral_git.limits import DEFAULT_LIMITS
from coral_git.manifest.escape import printable

_ROOM = 128
"""Bytes of a name that are for what is added to it."""


class Stored(NamedTuple):
    """What a process says of something that it has stored.

    Attributes:
        rank: its number.
        blob: the manifest of its file; empty where that has nothing of it.
        tree: what ``state.take_apart`` made of something that is no tensor.
    """

    rank: int
    blob: str
    tree: Any = None


def shard_of(item: WriteItem, planner: SavePlanner) -> list[TensorData]:
    """What is stored of a tensor: nothing of an empty one.

    Raises:
        UsageError: it cannot be kept, or is not what was planned.
    """
    assert item.tensor_data is not None
    name, planned = _checked(item.index.fqn), item.tensor_data
    value = planner.resolve_data(item)
    if not is_torch(value):
        raise UsageError(f"'{printable(name)}' was planned as a tensor, and is none")
    chunk = Chunk(0, tuple(planned.chunk.offsets), tuple(planned.chunk.sizes))
    if tuple(value.shape) != chunk.sizes or value.dtype != planned.properties.dtype:  # type: ignore[union-attr]
        raise UsageError(f"tensor '{printable(name)}' is not what was planned")
    dtype = dtype_of(name, planned.properties.dtype)
    if not prod(chunk.sizes):
        return []
    tensor = IndexedTensor(dtype, tuple(planned.size), False, (chunk,))
    return [shard_data(chunk_name(name, tensor, chunk), value)]  # type: ignore[arg-type]


def value_of_item(item: WriteItem, planner: SavePlanner) -> tuple[Any, list[TensorData]]:
    """Something that is no tensor as a tree, and the tensors in it; never as torch would pickle it.

    Raises:
        UsageError: it cannot be kept.
    """
    name = _checked(item.index.fqn)
    lookup = getattr(planner, "lookup_object", None)
    if lookup is None:
        raise UsageError(f"{type(planner).__name__} cannot say what '{printable(name)}' is, only pickle it")
    try:
        tree, tensors = take_apart(lookup(item.index))
    except UsageError as error:
        raise UsageError(f"'{printable(name)}' cannot be kept: {error.message}", hint=error.hint) from error
    found = []
    for place, value in tensors.items():
        make = shard_data if is_torch(value) else tensor_data
        found.append(make(value_name(name, place), value))
    return tree, found


def _checked(name: str) -> str:
    """A name that an index may have, and a file where something is added to it.

    Raises:
        UsageError: it is too long, or no text.
    """
    try:
        length = len(name.encode())
    except UnicodeEncodeError:
        length = 0
    if not 0 < length <= DEFAULT_LIMITS.name_bytes - _ROOM:
        raise UsageError(f"'{printable(name[:80])}' cannot be the name of a tensor or a value")
    return name


def index_of(metadata: Metadata, results: list[list[WriteResult]]) -> Index:
    """The index of a checkpoint.

    Raises:
        UsageError: the planner keeps something that is no state dictionary.
        CoralError: a process did not say what it stored.
    """
    stored = {
        (one.index.fqn, tuple(one.index.offset or ())): one.storage_data
        for of_rank in results
        for one in of_rank
    }
    paths = metadata.planner_data or None
    if paths is not None and not isinstance(paths, dict):
        raise UsageError(f"the planner keeps a {type(paths).__name__}, which cannot be kept")
    found = metadata.state_dict_metadata
    tensors, values = {}, {}
    for name in dict.fromkeys([*(one for one in paths or () if one in found), *found]):
        what = found[name]
        try:
            if isinstance(what, TensorStorageMetadata):
                tensors[name] = _indexed(name, what, stored)
            else:
                values[name] = IndexedValue(stored[name, ()].tree, stored[name, ()].rank)
        except KeyError as error:
            raise CoralError(f"no process has stored '{printable(name)}', or not all of it") from error
    return Index(tensors, values, paths)


def _indexed(
    name: str, tensor: TensorStorageMetadata, stored: Mapping[tuple[str, tuple[int, ...]], Stored]
) -> IndexedTensor:
    chunks = []
    for one in tensor.chunks:
        offsets = tuple(one.offsets)
        chunks.append(Chunk(stored[name, offsets].rank, offsets, tuple(one.sizes)))
    properties = tensor.properties
    dtype = dtype_of(name, properties.dtype)
    return IndexedTensor(dtype, tuple(tensor.size), properties.requires_grad, tuple(chunks))
