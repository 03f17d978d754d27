"""The state of a training as tensors and one JSON text: optimizers, schedulers, random generators. No pickle.

Tensors become tensors of a weight file, so that they are deduplicated and stored as differences. What is
around them (dictionaries, lists, numbers, texts) is kept exactly: the bits of every float, ints as keys,
tuples as tuples. What is none of these is refused by name.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from coral_git.api.arrays import is_torch
from coral_git.errors import IntegrityError, UsageError

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


def put_together(tree: Any, tensor: Callable[[str], Any], array: Callable[[str], Any]) -> Any:
    """The state that ``take_apart`` took apart.

    Args:
        tree: what it made of it; JSON in between does no harm.
        tensor: gives what was a tensor of torch, by name.
        array: gives what was an array of numpy, by name.

    Raises:
        IntegrityError: this is no state.
    """
    try:
        return _decode(tree, tensor, array, 0)
    except (KeyError, ValueError, TypeError, IndexError, OverflowError) as error:
        raise IntegrityError(f"this is no state of a training: {error}") from error


def unflatten(tensors: Mapping[str, Any]) -> Any:
    """The state that ``flatten`` took apart.

    Args:
        tensors: by name; those of torch for what was torch, arrays for what was an array.

    Raises:
        IntegrityError: these are no tensors of a state.
    """
    try:
        tree = json.loads(np.asarray(tensors[STATE]).tobytes())
    except (KeyError, ValueError, RecursionError) as error:
        raise IntegrityError(f"this is no state of a training: {error}") from error
    return put_together(tree, tensors.__getitem__, tensors.__getitem__)


def _encode(value: Any, place: str, tensors: dict[str, Any], depth: int) -> Any:
    if depth > _DEEPEST:
        raise UsageError(f"the state of the training is nested too deep at '{place}'")
    if value is None or (isinstance(value, bool | int | str) and type(value) in (bool, int, str)):
        return value
    if type(value) is float:
        return ["f", value.hex()]
    if isinstance(value, bytes | bytearray):
        return ["y", base64.b64encode(value).decode()]
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
        f"'{place.strip('.')}' of the state of the training is a {kind}, which cannot be kept",
        hint="keep numbers, texts, lists, dictionaries and tensors",
    )


def _keep(value: Any, place: str, tensors: dict[str, Any]) -> str:
    name = place.strip(".") or "value"
    while name in tensors or name == STATE:
        name += "_"
    tensors[name] = value
    return name


def _decode(tree: Any, tensor: Callable[[str], Any], array: Callable[[str], Any], depth: int) -> Any:
    if depth > _DEEPEST:
        raise ValueError("it is nested too deep")
    if not isinstance(tree, list):
        return tree
    kind, value = tree
    if kind == "f":
        return float.fromhex(value)
    if kind == "y":
        return base64.b64decode(value, validate=True)
    if kind in ("l", "t"):
        items = [_decode(one, tensor, array, depth + 1) for one in value]
        return items if kind == "l" else tuple(items)
    if kind == "d":
        return dict([_decode(one, tensor, array, depth + 1) for one in pair] for pair in value)
    if kind == "x":
        return tensor(value)
    if kind == "n":
        return array(value)
    if kind == "g":
        return array(value)[()]
    raise ValueError(f"unknown kind {kind!a}")
