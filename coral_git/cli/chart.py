"""A line of numbers drawn in the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

_LEVELS = " ▁▂▃▄▅▆▇█"
_ROWS = 8


def chart_lines(title: str, values: Sequence[float | None], width: int) -> Iterator[str]:
    """A chart of bars.

    Args:
        title: what is drawn.
        values: the numbers from left to right; None and what is not finite leaves a gap.
        width: columns at most; of more numbers, each column shows the last of those that fall into it.
    """
    finite = [value for value in values if value is not None and math.isfinite(value)]
    if not finite:
        yield f"{title}: no finite value"
        return
    low, high = min(finite), max(finite)
    yield f"{title}: {finite[0]:.6g} first, {finite[-1]:.6g} last, {low:.6g} least, {high:.6g} most"
    columns = list(_columns(values, width))
    labels = [f"{high:.4g}", *[""] * (_ROWS - 2), f"{low:.4g}"]
    margin = max(map(len, labels))
    for row, label in enumerate(labels):
        cells = (_cell(value, low, high, _ROWS - 1 - row) for value in columns)
        yield f"{label:>{margin}} │{''.join(cells)}".rstrip()


def sparkline(values: Sequence[float | None], width: int = 32) -> str:
    """The same in one line."""
    finite = [value for value in values if value is not None and math.isfinite(value)]
    if not finite:
        return ""
    low, high = min(finite), max(finite)
    levels = ((_height(value, low, high, 7), value) for value in _columns(values, width))
    return "".join(" " if level is None else _LEVELS[1 + level] for level, _ in levels)


def _columns(values: Sequence[float | None], width: int) -> Iterator[float | None]:
    count = min(width, len(values))
    for column in range(count):
        group = values[column * len(values) // count : (column + 1) * len(values) // count]
        shown = [value for value in group if value is not None and math.isfinite(value)]
        yield shown[-1] if shown else None


def _height(value: float | None, low: float, high: float, most: int) -> int | None:
    if value is None:
        return None
    return round((value - low) / (high - low) * most) if high > low else most // 2


def _cell(value: float | None, low: float, high: float, row: int) -> str:
    """The part of a bar that lies in a row, counted from below."""
    height = _height(value, low, high, _ROWS * 8 - 1)
    return " " if height is None else _LEVELS[min(max(height + 1 - row * 8, 0), 8)]
