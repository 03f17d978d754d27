"""The tensors in what torch has pickled: their names, and which bytes of which storage they are.

A name is the way to a tensor: keys, indices and attributes, joined by dots. Wrappers such as parameters add
nothing to it, and neither do the three dicts in which a module keeps what it holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from coral_git.formats.base import MAX_TENSORS, NotThisFormat
from coral_git.formats.pickle_values import Global, Made, Persistent
from coral_git.formats.torch_dtypes import BY_ATTRIBUTE, BY_STORAGE, TorchDType
from coral_git.limits import Limits
from coral_git.types import DTYPES

UNTYPED = TorchDType(DTYPES["U8"])
"""The data type of a storage of which nothing is known."""

_SAME_NAME = ""
_MODULE_DICTS = frozenset({"_parameters", "_buffers", "_modules"})
_TENSOR_MAKERS = frozenset(
    {"_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_qtensor"}
)
_ARGUMENT_NAMES: dict[str, tuple[str | None, ...]] = {
    "_rebuild_parameter": (_SAME_NAME,),
    "_rebuild_parameter_with_state": (_SAME_NAME, None, None, _SAME_NAME),
    "_rebuild_from_type_v2": (None, None, None, _SAME_NAME),
    "_rebuild_device_tensor_from_cpu_tensor": (_SAME_NAME,),
    "_rebuild_nested_tensor": ("values", "sizes", "strides", "offsets"),
    "restore_type_tag": (_SAME_NAME,),
}
"""Function → names of its arguments; None for those that hold no tensors."""

_SPARSE_NAMES = ("indices", "values")
_COMPRESSED_NAMES = ("compressed_indices", "plain_indices", "values")
_QUANTIZER_NAMES = (None, "scales", "zero_points")

Way = tuple["Way", str] | tuple[()]
"""How a value was reached: the way to what holds it, and its key there."""

_CONTAINERS = (list, tuple, Made, Persistent)

_Child = tuple[str, object]


class Storage(NamedTuple):
    """A storage as a pickle names it.

    Attributes:
        key: its key.
        dtype: what it holds.
        elements: how many, as torch counts them.
        start: the element of the storage with that key at which it begins (old files only).
    """

    key: str
    dtype: TorchDType
    elements: int
    start: int


class View(NamedTuple):
    """A tensor: a view of a storage.

    Attributes:
        way: the way to it, from which its name is made.
        key: the key of the storage.
        dtype: the data type.
        offset: the element it starts at.
        shape: its dimensions.
        stride: the elements between neighbours along each dimension.
    """

    way: Way
    key: str
    dtype: TorchDType
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


class Findings(NamedTuple):
    """What a pickle holds.

    Attributes:
        views: the tensors, in the order of the pickle.
        storages: the storages that it names, each as it is named first.
    """

    views: list[View]
    storages: dict[str, Storage]


def find_tensors(root: object, way: Way, limits: Limits) -> Findings:
    """The tensors that can be reached from a value. Each value is looked at once, however often it is held.

    Args:
        root: what ``read_pickle`` gave.
        way: the way to it.
        limits: the caps; tensors with more dimensions are passed over.

    Raises:
        NotThisFormat: values are nested too deeply, or there are too many tensors.
    """
    found = Findings([], {})
    seen: dict[int, object] = {}  # the values themselves too: an id belongs to a value only while it lives
    waiting: list[tuple[object, Way, int]] = [(root, way, 0)]
    while waiting:
        value, way, depth = waiting.pop()
        if id(value) in seen:
            continue
        seen[id(value)] = value
        if isinstance(value, Persistent):
            _note_storage(value, found)
            continue
        view = _view(value, way, limits.rank, found)
        if view is not None:
            found.views.append(view)
        if depth > limits.pickle_depth or len(found.views) > MAX_TENSORS:
            raise NotThisFormat("values are nested too deeply, or there are too many tensors")
        children = [
            (child, (way, key) if key else way, depth + 1)
            for key, child in _children(value, seen)
            if _may_hold(child)
        ]
        waiting.extend(reversed(children))
    return found


def name_of(way: Way, most: int) -> str | None:
    """The name that a way makes; None for the way to nothing, and where it has more than ``most`` bytes."""
    keys: list[str] = []
    length = -1
    while way:
        way, key = way
        keys.append(key)
        length += len(key.encode()) + 1
        if length > most:
            return None
    return ".".join(reversed(keys)) or None


def _note_storage(value: Persistent, found: Findings) -> Storage | None:
    storage = _storage(value.id)
    if storage is not None:
        found.storages.setdefault(storage.key, storage)
    return storage


def _storage(persistent_id: object) -> Storage | None:
    """The storage that ``("storage", class, key, device, elements, view)`` names; the view is optional."""
    if not isinstance(persistent_id, tuple) or len(persistent_id) not in (5, 6):
        return None
    word, kind, key, _, elements = persistent_id[:5]
    if word != "storage" or not isinstance(kind, Global) or not isinstance(key, str):
        return None
    if type(elements) is not int or elements < 0:
        return None
    view = persistent_id[5] if len(persistent_id) == 6 else None
    start = view[1] if isinstance(view, tuple) and len(view) == 3 else 0
    dtype = BY_STORAGE.get(kind.name, UNTYPED)
    return Storage(key, dtype, elements, start) if type(start) is int and start >= 0 else None


def _view(value: object, way: Way, rank: int, found: Findings) -> View | None:
    """What a value is, if it is a tensor whose description makes sense."""
    maker = _maker(value)
    arguments = value.arguments if isinstance(value, Made) else ()
    if maker not in _TENSOR_MAKERS or not isinstance(arguments, tuple) or len(arguments) < 4:
        return None
    source, offset, shape, stride = arguments[:4]
    storage = _note_storage(source, found) if isinstance(source, Persistent) else None
    if storage is None or type(offset) is not int or offset < 0:
        return None
    dtype: TorchDType | None = storage.dtype
    if maker == "_rebuild_tensor_v3":
        kind = arguments[6] if len(arguments) > 6 else None
        dtype = BY_ATTRIBUTE.get(kind.name) if isinstance(kind, Global) else None
    counts, steps = _counts(shape, rank), _counts(stride, rank)
    if dtype is None or counts is None or steps is None or len(counts) != len(steps):
        return None
    return View(way, storage.key, dtype, storage.start + offset, counts, steps)


def _counts(values: object, most: int) -> tuple[int, ...] | None:
    """A short sequence of numbers that are not negative; None for anything else."""
    if not isinstance(values, tuple | list) or len(values) > most:
        return None
    counts = tuple(value for value in values if type(value) is int and value >= 0)
    return counts if len(counts) == len(values) else None


def _maker(value: object) -> str:
    """The name of the function or class that would have made a value."""
    return value.maker.name if isinstance(value, Made) and isinstance(value.maker, Global) else ""


def _children(value: object, seen: dict[int, object]) -> Iterator[_Child]:
    """What a value holds, each with its key; in a few steps for each opcode that made it."""
    if isinstance(value, Made):
        yield from _arguments(value, seen)
        if value.items:
            yield from _items(value.items)
        yield _SAME_NAME, value.state
    elif isinstance(value, list | tuple):
        for index, child in enumerate(value):
            if isinstance(child, _CONTAINERS):  # there may be millions of numbers
                yield str(index), child


def _may_hold(value: object) -> bool:
    """Whether there may be a tensor in a value."""
    if isinstance(value, Made):
        return bool(value.arguments or value.items or value.state)
    return isinstance(value, _CONTAINERS) and value != () and value != []


def _arguments(made: Made, seen: dict[int, object]) -> Iterator[_Child]:
    """What a function was given."""
    maker, arguments = _maker(made), made.arguments
    if not isinstance(arguments, tuple):
        return
    if maker == "OrderedDict" and arguments:  # as Python 2 pickles it: a list of keys and values
        pairs = arguments[0]
        if isinstance(pairs, list) and id(pairs) not in seen:
            seen[id(pairs)] = pairs
            for pair in pairs:
                yield from _items(pair if isinstance(pair, list | tuple) and len(pair) == 2 else ())
    elif maker == "_rebuild_qtensor" and len(arguments) > 4:
        yield from _named(arguments[4], _QUANTIZER_NAMES)
    elif maker == "_rebuild_sparse_tensor" and len(arguments) > 1:
        data = arguments[1]
        compressed = isinstance(data, tuple) and len(data) > 2 and _maker(data[2]).startswith("_rebuild")
        yield from _named(data, _COMPRESSED_NAMES if compressed else _SPARSE_NAMES)
    elif maker in _ARGUMENT_NAMES:
        if maker == "_rebuild_from_type_v2" and _maker(Made(arguments[0], ())) in _TENSOR_MAKERS:
            yield _SAME_NAME, Made(arguments[0], arguments[2] if len(arguments) > 2 else ())
        yield from _named(arguments, _ARGUMENT_NAMES[maker])
    elif maker not in _TENSOR_MAKERS:
        yield _SAME_NAME, arguments


def _named(values: object, names: tuple[str | None, ...]) -> Iterator[_Child]:
    if isinstance(values, tuple):
        for name, value in zip(names, values, strict=False):
            if name is not None:
                yield name, value


def _items(items: list[object] | tuple[object, ...]) -> Iterator[_Child]:
    """What a dict holds, given as keys and values in turn; a module's own dicts add nothing to a name."""
    for index in range(0, len(items) - 1, 2):
        key = items[index]
        if isinstance(key, str) and key in _MODULE_DICTS:
            yield _SAME_NAME, items[index + 1]
        else:
            yield str(key) if isinstance(key, str | int | float) else str(index // 2), items[index + 1]
