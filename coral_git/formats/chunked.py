"""Content-defined chunking, for files that no reader understands.

After FastCDC (Xia et al., USENIX ATC 2016): a gear hash over the last 32 bytes decides where to cut, the
first 64 KiB of a chunk are skipped, and a harder condition before the normal size than after it keeps sizes
close to each other. A cut depends on nothing but the bytes since the one before, so an insertion moves few
cuts.

Cut points decide object ids, so nothing here may change; another rule would be ``chunks/2``.
"""

from __future__ import annotations

from collections.abc import Iterator

from coral_git.errors import CoralError
from coral_git.formats.cuts import WINDOW, FindCut, pick_finder
from coral_git.limits import KIB, MIB
from coral_git.types import ByteSource

FORMAT = "chunks/1"
"""The format of a file that is cut by ``chunk_file``, as manifests name it."""

MIN_CHUNK = 64 * KIB
"""No chunk but the last of a file is shorter."""

NORMAL_CHUNK = 192 * KIB
"""From this length on the easier condition holds; chunks have 256 KiB on average."""

MAX_CHUNK = MIB
"""No chunk is longer."""

_BLOCK = 64 * KIB
_HARD = 1 << 12
_EASY = 1 << 16


def chunk_file(source: ByteSource) -> Iterator[tuple[int, int]]:
    """The chunks of a file as (offset, length), in order; an empty file has none.

    Memory is a block of 64 KiB and at most its hashes, whatever the size of the file.

    Raises:
        CoralError: the file became shorter while it was read.
    """
    find_cut: FindCut | None = None
    start = 0
    while source.size - start > MIN_CHUNK:
        if find_cut is None:
            find_cut = pick_finder()
        length = _chunk_length(source, start, find_cut)
        yield start, length
        start += length
    if start < source.size:
        yield start, source.size - start


def _chunk_length(source: ByteSource, start: int, find_cut: FindCut) -> int:
    """The length of the chunk that begins at ``start``; more than the shortest chunk is left there."""
    limit = min(source.size - start, MAX_CHUNK)
    for low in range(MIN_CHUNK, limit, _BLOCK):
        high = min(low + _BLOCK, limit)
        wanted = high - low + WINDOW - 1
        block = source.read_at(start + low - WINDOW, wanted)
        if len(block) != wanted:
            raise CoralError("the file became shorter while it was read", hint="add it again")
        found = find_cut(block, _HARD if low < NORMAL_CHUNK else _EASY)
        if found is not None:
            return low + found
    return limit
