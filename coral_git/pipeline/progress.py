"""A progress line on stderr: for a terminal only, and only when something takes longer than a moment."""

from __future__ import annotations

import os
import sys
import time
from typing import Self

_DELAY_SECONDS = 0.5
_INTERVAL_SECONDS = 0.1
_UNITS = ("B", "KB", "MB", "GB", "TB")


class Progress:
    """Shows how far an operation is; use as a context manager, which clears the line at the end.

    Args:
        title: what is being done.
        quiet: show nothing.
    """

    def __init__(self, title: str, *, quiet: bool = False) -> None:
        self._title = title
        self._quiet = quiet or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb"
        self._next = time.monotonic() + _DELAY_SECONDS
        self._shown = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown:
            print("\r\033[K", end="", file=sys.stderr, flush=True)

    def update(self, item: str, done: int, total: int) -> None:
        """Show the item in hand, and the bytes done of all."""
        now = time.monotonic()
        if self._quiet or now < self._next:
            return
        self._next = now + _INTERVAL_SECONDS
        self._shown = True
        share = 100 * done // total if total else 100
        shown = "".join(char if char.isprintable() else "?" for char in item)
        text = f"{self._title}: {share:3d} % ({format_size(done)} of {format_size(total)}) {shown}"
        print(f"\r\033[K{text[:100]}", end="", file=sys.stderr, flush=True)


def format_size(count: float) -> str:
    """A number of bytes for people: ``90.9 MB`` (powers of ten, as disks and git-lfs count)."""
    for unit in _UNITS[:-1]:
        if abs(count) < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} {_UNITS[-1]}"
