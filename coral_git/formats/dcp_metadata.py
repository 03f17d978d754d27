"""The ``.metadata`` of a distributed checkpoint of torch: tensors, their chunks, and where those are.

It is a pickle of ``torch.distributed.checkpoint.metadata.Metadata``, which is read, not executed:

    state_dict_metadata     name → TensorStorageMetadata (properties, size, chunks) or BytesStorageMetadata
    storage_data            MetadataIndex (fqn, offset) → _StorageInfo (relative_path, offset, length)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import prod
from typing import NamedTuple

from coral_git.formats.base import MAX_TENSORS, NotThisFormat
from coral_git.formats.pickle_values import Global, Made, read_pickle
from coral_git.limits import Limits


class Item(NamedTuple):
    """Where something that was saved is.

    Attributes:
        file: the name of a file in the folder of the checkpoint.
        offset: the byte it begins at.
        length: its bytes.
    """

    file: str
    offset: int
    length: int


class Chunk(NamedTuple):
    """A box of a tensor.

    Attributes:
        offsets: its first element along each dimension.
        sizes: its elements along each dimension.
        item: where it is; None for one without elements.
    """

    offsets: tuple[int, ...]
    sizes: tuple[int, ...]
    item: Item | None


class SavedTensor(NamedTuple):
    """A tensor of a checkpoint.

    Attributes:
        name: its name in the state dict.
        dtype: its data type, as an attribute of ``torch``.
        shape: its dimensions.
        chunks: of what it consists; together they have as many elements as it has.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    chunks: tuple[Chunk, ...]


class Metadata(NamedTuple):
    """What a checkpoint holds.

    Attributes:
        tensors: the tensors.
        objects: names of what was pickled instead.
        items: everything that is in files; they share no bytes.
    """

    tensors: list[SavedTensor]
    objects: list[str]
    items: list[Item]


def read_metadata(data: bytes, limits: Limits) -> Metadata:
    """Read a ``.metadata`` file.

    Raises:
        NotThisFormat: it is none, or contradicts itself.
    """
    value, _ = read_pickle(data, 0, limits)
    if _maker(value) != "Metadata":
        raise NotThisFormat("its metadata are those of something else")
    fields = _fields(value)
    items = dict(_items(_pairs(fields.get("storage_data"))))
    tensors, objects = [], []
    for name, saved in _pairs(fields.get("state_dict_metadata")):
        if not isinstance(name, str) or len(name.encode(errors="replace")) > limits.name_bytes:
            raise NotThisFormat("something has an odd name")
        kind = _maker(saved)
        if kind == "BytesStorageMetadata":
            objects.append(name)
        elif kind == "TensorStorageMetadata":
            tensors.append(_tensor(name, _fields(saved), items, limits))
        else:
            raise NotThisFormat(f"{name!a} is neither a tensor nor an object")
    if len(tensors) > MAX_TENSORS or len({tensor.name for tensor in tensors}) != len(tensors):
        raise NotThisFormat("there are too many tensors, or two of the same name")
    _check_apart(items.values())
    return Metadata(tensors, objects, list(items.values()))


def _items(pairs: Iterable[tuple[object, object]]) -> Iterator[tuple[tuple[str, tuple[int, ...]], Item]]:
    """Name and offsets of everything that was saved, and where it is."""
    for key, value in pairs:
        index, info = _fields(key), _fields(value)
        name, file = index.get("fqn"), info.get("relative_path")
        offset, length = info.get("offset"), info.get("length")
        if not isinstance(name, str) or not isinstance(file, str) or not _is_plain(file):
            raise NotThisFormat("something has no name, or is not in a file of the folder")
        if type(offset) is not int or type(length) is not int or min(offset, length) < 0:
            raise NotThisFormat(f"nobody knows where {name!a} is")
        if info.get("transform_descriptors"):
            raise NotThisFormat(f"{name!a} is compressed or encrypted")
        offsets = index.get("offset")
        yield (name, () if offsets is None else _counts(offsets)), Item(file, offset, length)


def _is_plain(file: str) -> bool:
    """Whether a name is that of a file in a folder, on every system."""
    return file not in ("", ".", "..") and file.isprintable() and not set(file) & set("/\\:")


def _tensor(
    name: str,
    fields: dict[str, object],
    items: dict[tuple[str, tuple[int, ...]], Item],
    limits: Limits,
) -> SavedTensor:
    shape, chunks = _counts(fields.get("size")), fields.get("chunks")
    dtype = _dtype(fields.get("properties"))
    if dtype is None or not isinstance(chunks, list) or len(shape) > limits.rank:
        raise NotThisFormat(f"the tensor {name!a} has no dtype, no chunks, or too many dimensions")
    made = []
    for chunk in map(_fields, chunks):
        offsets, sizes = _counts(chunk.get("offsets")), _counts(chunk.get("sizes"))
        places = zip(offsets, sizes, shape, strict=False)
        if not len(offsets) == len(sizes) == len(shape) or any(a + size > b for a, size, b in places):
            raise NotThisFormat(f"a chunk of the tensor {name!a} exceeds it")
        item = items.get((name, offsets)) if prod(sizes) else None
        if prod(sizes) and item is None:
            raise NotThisFormat(f"a chunk of the tensor {name!a} was not saved")
        made.append(Chunk(offsets, sizes, item))
    if sum(prod(chunk.sizes) for chunk in made) != prod(shape):
        raise NotThisFormat(f"the chunks of the tensor {name!a} do not make it up")
    return SavedTensor(name, dtype, shape, tuple(made))


def _dtype(properties: object) -> str | None:
    """The name of the dtype; the first of the properties, or one by name, as the first releases have it."""
    state = properties.state if isinstance(properties, Made) else None
    first = state[0] if isinstance(state, tuple) and state else _fields(properties).get("dtype")
    return first.name if isinstance(first, Global) and first.module == "torch" else None


def _check_apart(items: Iterable[Item]) -> None:
    """Refuse a checkpoint in which bytes are used twice: it would become larger than its files."""
    ends: dict[str, int] = {}
    for item in sorted(items):
        if item.offset < ends.get(item.file, 0):
            raise NotThisFormat("two items share bytes")
        ends[item.file] = item.offset + item.length


def _maker(value: object) -> str:
    """The name of the class of a value."""
    return value.maker.name if isinstance(value, Made) and isinstance(value.maker, Global) else ""


def _fields(value: object) -> dict[str, object]:
    """The attributes of a value."""
    state = value.state if isinstance(value, Made) else None
    return {name: field for name, field in _pairs(state) if isinstance(name, str)}


def _pairs(value: object) -> Iterator[tuple[object, object]]:
    """The keys and values of a dict."""
    items = value.items or [] if isinstance(value, Made) else []
    return zip(items[::2], items[1::2], strict=False)


def _counts(value: object) -> tuple[int, ...]:
    """A ``torch.Size``.

    Raises:
        NotThisFormat: it is none.
    """
    arguments = value.arguments if _maker(value) == "Size" and isinstance(value, Made) else None
    counts = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    if not isinstance(counts, tuple | list):
        raise NotThisFormat("a shape is odd")
    if any(type(count) is not int or not 0 <= count < 1 << 63 for count in counts):
        raise NotThisFormat("a shape is odd")
    return tuple(counts)
