"""Single values of the state of a training as JSON, exactly: numbers, bytes, paths, and words of torch."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

from coral_git.api.arrays import is_torch

_TORCH: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "dtype": ("D", lambda value: str(value).removeprefix("torch.")),
    "device": ("V", str),
    "Size": ("S", list),
}


def encode_value(value: Any) -> list[Any] | None:
    """What stands for a value: a letter for its kind, and JSON; None for what is no such value."""
    if type(value) is float:
        return ["f", value.hex()]
    if type(value) is complex:
        return ["c", [value.real.hex(), value.imag.hex()]]
    if isinstance(value, bytes | bytearray):
        return ["y", base64.b64encode(value).decode()]
    if isinstance(value, Path):
        return ["p", str(value)]
    if is_torch(value) and type(value).__name__ in _TORCH:
        kind, take = _TORCH[type(value).__name__]
        return [kind, take(value)]
    return None


def _device(text: str) -> Any:
    import torch

    try:
        return torch.device(text)
    except RuntimeError as error:
        raise ValueError(f"unknown device {text!a}") from error


def _dtype(text: str) -> Any:
    import torch

    found = getattr(torch, text, None)
    if not isinstance(found, torch.dtype):
        raise ValueError(f"unknown dtype {text!a}")
    return found


def _size(numbers: list[int]) -> Any:
    import torch

    return torch.Size(numbers)


DECODERS: dict[str, Callable[[Any], Any]] = {
    "f": float.fromhex,
    "c": lambda pair: complex(*map(float.fromhex, pair)),
    "y": lambda text: base64.b64decode(text, validate=True),
    "p": Path,
    "D": _dtype,
    "V": _device,
    "S": _size,
}
"""By kind, what gives the value back; each may raise ValueError or TypeError."""
