"""The search for a cut of the chunker, in C where the extension was built and in numpy elsewhere.

Both find the same cuts. ``CORAL_KERNEL=numpy`` in the environment forces the second one. numpy hashes a whole
block at once, by doubling: a window of 2k bytes is two windows of k.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from coral_git.formats.gear import GEAR

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FindCut = Callable[[bytes, int], int | None]
"""Finds the first window of a block whose hash is below a bound: its number, or None for none.

Window *n* is the 32 bytes from byte *n* on. The block has one at least.
"""

WINDOW = 32
"""Bytes that a hash depends on."""


def load_finder(name: str) -> FindCut:
    """The search ``"c"`` or ``"numpy"``.

    Raises:
        ImportError: the C extension was not built.
    """
    return _c_finder() if name == "c" else _numpy_finder()


def pick_finder() -> FindCut:
    """The fastest search there is; call it only when a file is long enough to need one."""
    if os.environ.get("CORAL_KERNEL") != "numpy":
        try:
            return load_finder("c")
        except ImportError:
            pass  # the extension is optional: no compiler when this was installed
    return load_finder("numpy")


def _c_finder() -> FindCut:
    find = cast(
        "Callable[[bytes, bytes, int], int | None]",
        importlib.import_module("coral_git.formats._gear").find_cut,
    )

    def find_cut(block: bytes, bound: int) -> int | None:
        return find(block, GEAR, bound)

    return find_cut


def _numpy_finder() -> FindCut:
    import numpy as np

    gear = np.frombuffer(GEAR, "<u4").astype(np.uint32)
    first = second = np.empty(0, np.uint32)

    def find_cut(block: bytes, bound: int) -> int | None:
        nonlocal first, second
        codes = np.frombuffer(block, np.uint8)
        if len(first) < len(codes):  # fresh memory for each block would take a third of the time
            first, second = np.empty(len(codes), np.uint32), np.empty(len(codes), np.uint32)
        hashes = np.take(gear, codes, out=first[: len(codes)], mode="clip")
        hashes = _windows(hashes, second[: len(codes)])[WINDOW - 1 :]
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
