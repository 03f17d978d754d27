"""Content-defined chunking, for files that no reader understands.

After FastCDC (Xia et al., USENIX ATC 2016): a gear hash over the last 32 bytes decides where to cut, the
first 64 KiB of a chunk are skipped, and a harder condition before the normal size than after it keeps sizes
close to each other. A cut depends on nothing but the bytes since the one before, so an insertion moves few
cuts. The hashes of a whole block are computed at once, by doubling: a window of 2k bytes is two windows of k.

Cut points decide object ids, so nothing here may change; another rule would be ``chunks/2``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from coral_git.errors import CoralError
from coral_git.formats.gear import GEAR
from coral_git.limits import KIB, MIB
from coral_git.types import ByteSource

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FORMAT = "chunks/1"
"""The format of a file that is cut by ``chunk_file``, as manifests name it."""

MIN_CHUNK = 64 * KIB
"""No chunk but the last of a file is shorter."""

NORMAL_CHUNK = 192 * KIB
"""From this length on the easier condition holds; chunks have 256 KiB on average."""

MAX_CHUNK = MIB
"""No chunk is longer."""

_WINDOW = 32
_BLOCK = 64 * KIB
_HARD = 1 << 12
_EASY = 1 << 16

_FindCut = Callable[[bytes, int], int | None]


def chunk_file(source: ByteSource) -> Iterator[tuple[int, int]]:
    """The chunks of a file as (offset, length), in order; an empty file has none.

    Memory is a block of 64 KiB and its hashes, whatever the size of the file.

    Raises:
        CoralError: the file became shorter while it was read.
    """
    find_cut: _FindCut | None = None
    start = 0
    while source.size - start > MIN_CHUNK:
        if find_cut is None:
            find_cut = _finder()
        length = _chunk_length(source, start, find_cut)
        yield start, length
        start += length
    if start < source.size:
        yield start, source.size - start


def _chunk_length(source: ByteSource, start: int, find_cut: _FindCut) -> int:
    """The length of the chunk that begins at ``start``; more than the shortest chunk is left there."""
    limit = min(source.size - start, MAX_CHUNK)
    for low in range(MIN_CHUNK, limit, _BLOCK):
        high = min(low + _BLOCK, limit)
        wanted = high - low + _WINDOW - 1
        block = source.read_at(start + low - _WINDOW, wanted)
        if len(block) != wanted:
            raise CoralError("the file became shorter while it was read", hint="add it again")
        found = find_cut(block, _HARD if low < NORMAL_CHUNK else _EASY)
        if found is not None:
            return low + found
    return limit


def _finder() -> _FindCut:
    """The search for a cut; numpy is imported only when a file is long enough to need it."""
    import numpy as np

    gear = np.frombuffer(GEAR, "<u4").astype(np.uint32)
    first = np.empty(_BLOCK + _WINDOW, np.uint32)
    second = np.empty_like(first)

    def find_cut(block: bytes, bound: int) -> int | None:
        """The first byte, counted from byte 32 of the block, before which the hash is below ``bound``."""
        codes = np.frombuffer(block, np.uint8)
        hashes = np.take(gear, codes, out=first[: len(codes)], mode="clip")
        hashes = _windows(hashes, second[: len(codes)])[_WINDOW - 1 :]
        if int(hashes.min()) >= bound:
            return None
        return int((hashes < bound).argmax())

    return find_cut


def _windows(sums: NDArray[np.uint32], spare: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Gear hashes of the 32 bytes that end at each position; right from position 31 on."""
    import numpy as np

    for width in (1, 2, 4, 8, 16):
        np.left_shift(sums[:-width], width, out=spare[width:])
        np.add(spare[width:], sums[width:], out=spare[width:])
        sums, spare = spare, sums
    return sums
