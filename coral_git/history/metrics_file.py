"""Metrics out of the files that training writes: JSON, or JSON lines of which later ones win."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from coral_git.errors import UsageError, from_os_error

_MOST_BYTES = 16 << 20
_DEEPEST = 16
_FOREIGN = re.compile(r"[^A-Za-z0-9_./@:+-]+")


def read_metrics_file(path: str) -> dict[str, float]:
    """Every number in a file, under the names of the objects it stands in, joined by dots.

    ``{"eval": {"accuracy": 0.9}}`` gives ``eval.accuracy``. Lists, texts and booleans are skipped; characters
    that no name of a metric has become ``_``.

    Raises:
        UsageError: the file cannot be read, or is neither JSON nor JSON lines, or has no number.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise from_os_error(error, f"read '{path}'") from error
    if len(data) > _MOST_BYTES:
        raise UsageError(f"'{path}' is larger than {_MOST_BYTES} bytes")
    found: dict[str, float] = {}
    for value in _values(data, path):
        found.update(_numbers(value, ""))
    if not found:
        raise UsageError(f"there is no number in '{path}'", hint='it should look like {"accuracy": 0.912}')
    return found


def _values(data: bytes, path: str) -> list[object]:
    """The one JSON value, or those of the lines."""
    try:
        text = data.decode()
        try:
            return [json.loads(text)]
        except json.JSONDecodeError:
            return [json.loads(line) for line in text.split("\n") if line.strip()]
    except (ValueError, RecursionError) as error:
        raise UsageError(f"'{path}' is not valid JSON: {error}") from None


def _numbers(value: object, name: str, depth: int = 0) -> Iterator[tuple[str, float]]:
    if isinstance(value, dict) and depth < _DEEPEST:
        for key, inner in value.items():
            word = _FOREIGN.sub("_", str(key)).strip(".") or "_"
            yield from _numbers(inner, f"{name}.{word}" if name else word, depth + 1)
    elif isinstance(value, int | float) and not isinstance(value, bool) and name:
        try:
            yield (name if name[0].isalpha() or name[0] == "_" else f"_{name}"), float(value)
        except OverflowError:
            return
