"""A file that is nowhere yet: its header and its tensors in memory, read as if they lay on a disk."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate

from coral_git.formats.base import TensorData
from coral_git.types import Buffer


class MemorySource:
    """The bytes of a file that begins with a header, on which tensors follow without gaps.

    Args:
        header: its first bytes.
        tensors: what follows, in this order.
    """

    path = None

    def __init__(self, header: bytes, tensors: Sequence[TensorData]) -> None:
        def read_header(start: int, length: int) -> Buffer:
            return header[start : start + length]

        self._reads: list[Callable[[int, int], Buffer]] = [read_header, *(one.read for one in tensors)]
        self._ends = list(accumulate((len(header), *(one.length for one in tensors))))

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self._ends[-1]

    def read_at(self, offset: int, length: int) -> bytes:
        """The bytes from ``offset``; fewer than ``length`` only at the end."""
        end = min(offset + length, self.size)
        pieces = []
        number = bisect_right(self._ends, offset)
        while offset < end:
            start = self._ends[number - 1] if number else 0
            wanted = min(end, self._ends[number]) - offset
            if wanted:
                pieces.append(bytes(self._reads[number](offset - start, wanted)))
            offset += wanted
            number += 1
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def check_unchanged(self) -> None:
        """Nothing to check: whoever gives tensors leaves them alone until they are stored."""
