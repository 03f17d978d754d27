"""The state of a training as tensors and one JSON text: optimizers, schedulers, random generators. No pickle.

Tensors become tensors of a weight file, so that they are deduplicated and stored as differences. What is
around them (dictionaries, lists, sets, numbers, texts, paths, dtypes, devices) is kept exactly: the bits of
every float, ints as keys, tuples as tuples. Any mapping comes back as a dictionary. What is none of these is
refused by name.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from coral_git.api.arrays import array_of, is_torch, read_all
from coral_git.errors import IntegrityError, UsageError
from coral_git.formats.base import TensorData
from coral_git.integrations.state_values import DECODERS, encode_value

STATE = "__state__"
"""The tensor that holds the JSON text."""

_DEEPEST = 60


def flatten(value: Any) -> dict[str, Any]:
    """A state as tensors by name; one of them, ``__state__``, says how they belong together.

    Raises:
        UsageError: a part of it is nothing that can be kept; the message says where.
    """
    tree, tensors = take_apart(value)
    text = json.dumps(tree, separators=(",", ":"))
    tensors[STATE] = np.frombuffer(text.encode(), np.uint8)
    return tensors


def take_apart(value: Any) -> tuple[Any, dict[str, Any]]:
    """A state as what JSON can say, and the tensors that it names.

    Raises:
        UsageError: a part of it is nothing that can be kept; the message says where.
    """
    tensors: dict[str, Any] = {}
    return _encode(value, "", tensors, 0), tensors


Take = Callable[[str, bool], Any]
"""Gives a tensor by its name: one of torch, or an array."""


def put_together(tree: Any, take: Take) -> Any:
    """The state that ``take_apart`` took apart.

    Args:
        tree: what it made of it; JSON in between does no harm.
        take: gives the tensors that it names.

    Raises:
        IntegrityError: this is no state.
    """
    try:
        return _decode(tree, take, 0)
    except (KeyError, ValueError, TypeError, IndexError, OverflowError) as error:
        raise _no_state(error) from error


def read_state(stored: Iterable[TensorData], read: Callable[[TensorData], Any]) -> Any:
    """A stored state: tensors of torch where there were such, arrays of numpy where there were arrays.

    Args:
        stored: the tensors of its file.
        read: gives a tensor of torch.

    Raises:
        IntegrityError: these are no tensors of a state, or one is damaged.
    """
    known = {one.name: one for one in stored}

    def take(name: str, is_torch: bool) -> Any:
        source = known[name]
        return read(source) if is_torch else array_of(read_all(source), source.dtype, source.shape)

    return put_together(_tree(lambda: read_all(known[STATE])), take)


def _tree(read: Callable[[], bytes | bytearray]) -> Any:
    """The JSON text of a state, parsed."""
    try:
        return json.loads(read())
    except (KeyError, ValueError, RecursionError) as error:
        raise _no_state(error) from error


def _no_state(error: Exception) -> IntegrityError:
    return IntegrityError(f"this is no state of a training: {error}")


def _encode(value: Any, place: str, tensors: dict[str, Any], depth: int) -> Any:
    if depth > _DEEPEST:
        raise UsageError(f"the state of the training is nested too deep at '{place}'")
    if value is None or (isinstance(value, bool | int | str) and type(value) in (bool, int, str)):
        return value
    single = encode_value(value)
    if single is not None:
        return single
    if type(value) in (set, frozenset):
        items = [_encode(one, place, tensors, depth + 1) for one in value]
        return ["s" if type(value) is set else "z", sorted(items, key=json.dumps)]
    if isinstance(value, list | tuple):
        items = [_encode(one, f"{place}.{number}", tensors, depth + 1) for number, one in enumerate(value)]
        return ["l" if isinstance(value, list) else "t", items]
    if isinstance(value, Mapping):
        pairs = [
            [_encode(key, place, tensors, depth + 1), _encode(one, f"{place}.{key}", tensors, depth + 1)]
            for key, one in value.items()
        ]
        return ["d", pairs]
    if is_torch(value) and hasattr(value, "untyped_storage"):
        return ["x", _keep(value, place, tensors)]
    if isinstance(value, np.ndarray):
        return ["n", _keep(value, place, tensors)]
    if isinstance(value, np.generic):
        return ["g", _keep(np.asarray(value), place, tensors)]
    kind = type(value).__name__
    raise UsageError(
        f"'{place.strip('.')}' of the state of the training is of the type {kind}, which cannot be kept",
        hint="keep numbers, texts, lists, dictionaries and tensors",
    )


def _keep(value: Any, place: str, tensors: dict[str, Any]) -> str:
    name = place.strip(".") or "value"
    while name in tensors or name == STATE:
        name += "_"
    tensors[name] = value
    return name


def _decode(tree: Any, take: Take, depth: int) -> Any:
    if depth > _DEEPEST:
        raise ValueError("it is nested too deep")
    if not isinstance(tree, list):
        return tree
    kind, value = tree
    if kind in DECODERS:
        return DECODERS[kind](value)
    if kind in ("l", "t"):
        items = [_decode(one, take, depth + 1) for one in value]
        return items if kind == "l" else tuple(items)
    if kind == "d":
        return {_decode(key, take, depth + 1): _decode(one, take, depth + 1) for key, one in value}
    if kind in ("s", "z"):
        members = [_decode(one, take, depth + 1) for one in value]
        return set(members) if kind == "s" else frozenset(members)
    if kind in ("x", "n"):
        return take(value, kind == "x")
    if kind == "g":
        return take(value, False)[()]
    raise ValueError(f"unknown kind {kind!a}")
