"""The index of a distributed checkpoint: which tensors there are, in which chunks, and what is no tensor.

It says as JSON what torch pickles as ``.metadata``. The bytes are in ``docs/format/distributed.md``. Nothing
here needs torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from math import prod
from typing import Any, NamedTuple

from coral_git.errors import FormatVersionError, IntegrityError, UsageError
from coral_git.formats.base import MAX_TENSORS
from coral_git.formats.boxes import is_tiling
from coral_git.limits import Limits
from coral_git.manifest.escape import printable
from coral_git.types import DTYPES, DType

FOLDER = "distributed"
INDEX = f"{FOLDER}/index.json"
VERSION = 1
_VERSION_KEY = "coral_distributed"
_MOST_ITEMS = 1 << 23
"""Values that a JSON text may have: each takes up to a hundred bytes of memory."""
_MOST_RANKS = 100_000
_LARGEST = 1 << 62
_DEEPEST = 64
_LONGEST_LISTS = 1 << 22

Path = tuple[str | int, ...]


class Chunk(NamedTuple):
    """A part of a tensor that a process stored.

    Attributes:
        rank: the number of the process.
        offsets: its first element along each dimension of the tensor.
        sizes: its elements along each dimension; without elements it is stored nowhere.
    """

    rank: int
    offsets: tuple[int, ...]
    sizes: tuple[int, ...]


class IndexedTensor(NamedTuple):
    """A tensor.

    Attributes:
        dtype: its data type.
        shape: its dimensions.
        requires_grad: whether it is trained.
        chunks: of what it consists, by their offsets.
    """

    dtype: DType
    shape: tuple[int, ...]
    requires_grad: bool
    chunks: tuple[Chunk, ...]


class IndexedValue(NamedTuple):
    """Something that is no tensor.

    Attributes:
        tree: what ``state.take_apart`` made of it.
        rank: the process in whose file its tensors are.
    """

    tree: Any
    rank: int


class Index(NamedTuple):
    """What a checkpoint holds.

    Attributes:
        tensors: the tensors by name.
        values: everything else by name.
        paths: where each is in the state that was saved, keys of dictionaries and places in lists; None where
            the state was saved flat.
    """

    tensors: Mapping[str, IndexedTensor]
    values: Mapping[str, IndexedValue]
    paths: Mapping[str, Path] | None


def rank_file(rank: int) -> str:
    """The file of a process."""
    return f"{FOLDER}/rank-{rank:05d}.safetensors"


def chunk_name(name: str, tensor: IndexedTensor, chunk: Chunk) -> str:
    """What a chunk is called in the file of its process."""
    if chunk.sizes == tensor.shape:
        return name
    return f"{name}@{','.join(map(str, chunk.offsets))}"


def value_name(name: str, place: str) -> str:
    """What a tensor of something that is no tensor is called in the file of its process."""
    return f"{name}@{place}"


def render(index: Index, limits: Limits) -> bytes:
    """The bytes of an index; those of equal indexes are equal.

    Raises:
        UsageError: it would be too long, or nobody could read it.
    """
    tensors = {name: _tensor_json(one) for name, one in index.tensors.items()}
    values = {name: {"rank": one.rank, "value": one.tree} for name, one in index.values.items()}
    head = f'{{"{_VERSION_KEY}":{VERSION},\n"tensors":'
    try:
        paths = "null" if index.paths is None else _lines(index.paths)
        text = f'{head}{_lines(tensors)},\n"values":{_lines(values)},\n"paths":{paths}}}\n'
    except ValueError as error:
        raise UsageError(f"this state cannot be kept: {error}") from error
    data = text.encode("ascii")
    try:
        parse(data, limits)
    except IntegrityError as error:
        raise UsageError(f"this state cannot be kept: {error.message}") from error
    return data


def parse(data: bytes, limits: Limits) -> Index:
    """Read an index; everything is checked that can be without the files.

    Raises:
        FormatVersionError: a newer coral-git wrote it.
        IntegrityError: it contradicts itself.
    """
    items = sum(map(data.count, (b"[", b"{", b",")))
    if len(data) > limits.manifest_bytes or items > _MOST_ITEMS:
        raise _bad("it is too long")
    try:
        found = json.loads(data, object_pairs_hook=_unique, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise _bad(f"it is no JSON: {error}") from error
    version = found.get(_VERSION_KEY) if isinstance(found, dict) else None
    if type(version) is not int:
        raise _bad("it has no version")
    if version != VERSION:
        raise FormatVersionError(
            f"the distributed checkpoint has version {version}", hint="pip install --upgrade coral-git"
        )
    _keys(found, _VERSION_KEY, "tensors", "values", "paths")
    tensors = {_name(name, limits): _tensor(name, one, limits) for name, one in _dict(found["tensors"])}
    values = {_name(name, limits): _value(name, one) for name, one in _dict(found["values"])}
    if len(tensors) + len(values) > MAX_TENSORS or tensors.keys() & values.keys():
        raise _bad("there is too much, or two things of the same name")
    paths = None if found["paths"] is None else dict(_paths(found["paths"], {*tensors, *values}))
    return Index(tensors, values, paths)


def _tensor_json(tensor: IndexedTensor) -> dict[str, Any]:
    return {
        "dtype": tensor.dtype.name,
        "shape": tensor.shape,
        "requires_grad": tensor.requires_grad,
        "chunks": sorted(tensor.chunks, key=lambda one: (one.offsets, one.sizes)),
    }


def _lines(entries: Mapping[str, Any]) -> str:
    """An object of JSON with an entry on each line."""
    lines = (f"{json.dumps(name)}:{json.dumps(one, separators=(',', ':'))}" for name, one in entries.items())
    return "{\n" + ",\n".join(lines) + "\n}" if entries else "{}"


def _tensor(name: str, found: Any, limits: Limits) -> IndexedTensor:
    _keys(found, "dtype", "shape", "requires_grad", "chunks")
    dtype = DTYPES.get(found["dtype"]) if isinstance(found["dtype"], str) else None
    shape = _counts(found["shape"])
    if dtype is None or dtype.values != 1 or dtype.bits % 8 or len(shape) > limits.rank:
        raise _bad(f"the tensor '{printable(name)}' has an unknown dtype, or too many dimensions")
    if type(found["requires_grad"]) is not bool or not isinstance(found["chunks"], list):
        raise _bad(f"the tensor '{printable(name)}' is odd")
    chunks = tuple(_chunk(one) for one in found["chunks"])
    if prod(shape) * dtype.bits > _LARGEST or any(
        not len(one.offsets) == len(one.sizes) == len(shape) for one in chunks
    ):
        raise _bad(f"the tensor '{printable(name)}' and its chunks do not fit")
    if not is_tiling(shape, [(one.offsets, one.sizes) for one in chunks if prod(one.sizes)]):
        raise _bad(f"the chunks of the tensor '{printable(name)}' do not make it up")
    return IndexedTensor(dtype, shape, found["requires_grad"], chunks)


def _chunk(found: Any) -> Chunk:
    if not isinstance(found, list) or len(found) != 3:
        raise _bad("a chunk is odd")
    return Chunk(_rank(found[0]), _counts(found[1]), _counts(found[2]))


def _value(name: str, found: Any) -> IndexedValue:
    _keys(found, "rank", "value")
    return IndexedValue(found["value"], _rank(found["rank"]))


def _paths(found: Any, names: set[str]) -> Iterable[tuple[str, Path]]:
    """Places in the state: the leaves of a tree of dictionaries and lists."""
    lengths: dict[Path, int] = {}
    leaves: set[Path] = set()
    inner: dict[Path, type] = {}
    for name, parts in _dict(found):
        if not isinstance(parts, list) or not 0 < len(parts) <= _DEEPEST or type(parts[0]) is not str:
            raise _bad(f"the place of '{printable(name)}' in the state is odd")
        path: Path = tuple(parts)
        for depth, part in enumerate(path):
            if inner.setdefault(path[:depth], type(part)) is not type(part):
                raise _bad(f"the place of '{printable(name)}' in the state is odd")
            if type(part) is int and part >= 0:
                lengths[path[:depth]] = max(lengths.get(path[:depth], 0), part)
            elif type(part) is not str:
                raise _bad(f"the place of '{printable(name)}' in the state is odd")
        if path in leaves:
            raise _bad(f"the place of '{printable(name)}' in the state is that of something else")
        leaves.add(path)
        names.discard(name)
        yield name, path
    if names:
        raise _bad(f"nobody knows where '{printable(min(names))}' is in the state")
    if leaves & inner.keys():
        raise _bad("something has a place within something else")
    if sum(lengths.values()) > _LONGEST_LISTS:
        raise _bad("a list of the state is too long")


def _name(name: str, limits: Limits) -> str:
    try:
        length = len(name.encode())
    except UnicodeEncodeError:
        length = 0
    if not 0 < length <= limits.name_bytes:
        raise _bad(f"'{printable(name[:80])}' cannot be a name")
    return name


def _rank(found: Any) -> int:
    if type(found) is not int or not 0 <= found < _MOST_RANKS:
        raise _bad("a process has an odd number")
    return found


def _counts(found: Any) -> tuple[int, ...]:
    if not isinstance(found, list) or any(type(one) is not int or not 0 <= one < _LARGEST for one in found):
        raise _bad("a shape is odd")
    return tuple(found)


def _dict(found: Any) -> Iterable[tuple[str, Any]]:
    if not isinstance(found, dict):
        raise _bad("a part of it is odd")
    return found.items()


def _keys(found: Any, *names: str) -> None:
    if not isinstance(found, dict) or found.keys() != set(names):
        raise _bad("a part of it is odd")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is there twice")
    return found


def _refuse(text: str) -> Any:
    raise ValueError(f"{text} is no number of JSON")


def _bad(reason: str) -> IntegrityError:
    return IntegrityError(f"the index of the distributed checkpoint cannot be read: {reason}")
