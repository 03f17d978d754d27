"""Sketches: 256 bits of a tensor that differ in few places from those of a similar tensor.

Each bit is the sign of a random projection of sampled values, so that the share of bits in which two
sketches differ is the angle between the samples divided by π (M. Charikar, "Similarity estimation techniques
from rounding algorithms", STOC 2002). A sketch is a hint: what is alike is decided by a longer sample.

The sample lies in the first units of an object, up to a power of two of them: its *reach*. So tensors whose
first dimension has grown have a reach in common, and one block has to be decoded to sketch a stored object.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from coral_git.types import Buffer, Element

if TYPE_CHECKING:  # most objects are too small for a sketch, or have a base by their name
    import numpy as np
    import numpy.typing as npt

BITS = 256
_RUNS, _RUN = 16, 64
_SAMPLED = _RUNS * _RUN
_LEAST, _MOST = 13, 18  # reaches, as powers of two
_LARGEST = 1e30  # their sum is finite in float32
_SEED = b"coral-git sketch 1"

SKETCHED_UNITS = 1 << _LEAST
"""An object with fewer units is too small to look for a base of it everywhere."""

Read = Callable[[int, int], Buffer]
"""Reads (start, length) of the raw bytes of an object."""


class Sketch(NamedTuple):
    """A sketch of the first ``2 ** reach`` units of an object: 256 bits."""

    reach: int
    bits: bytes


def sketches(read: Read, length: int, element: Element) -> list[Sketch]:
    """The sketches of an object, one for each of its two longest reaches; none where nothing can be told.

    Args:
        read: reads the object.
        length: its bytes.
        element: how they are seen; plain bytes have no sketch.
    """
    units = length // element.width
    if element == Element.BYTES or units < SKETCHED_UNITS:
        return []
    longest = min(units.bit_length() - 1, _MOST)
    made = (_sketch(read, reach, element) for reach in range(max(longest - 1, _LEAST), longest + 1))
    return [one for one in made if one is not None]


def _sketch(read: Read, reach: int, element: Element) -> Sketch | None:
    import numpy as np

    from coral_git.floats import to_float32

    step = ((1 << reach) - _RUN) // (_RUNS - 1)
    width = element.width
    sample = b"".join(bytes(read(step * run * width, _RUN * width)) for run in range(_RUNS))
    values = to_float32(sample, element).clip(-_LARGEST, _LARGEST)
    if len(values) != _SAMPLED or not values.any():
        return None
    return Sketch(reach, np.packbits(_projections() @ values > 0).tobytes())


@cache
def _projections() -> npt.NDArray[np.float32]:
    """Signs, shape (256, 1024), the same everywhere and for ever."""
    import numpy as np

    drawn = np.frombuffer(hashlib.shake_128(_SEED).digest(BITS * _SAMPLED // 8), np.uint8)
    return (np.unpackbits(drawn).astype(np.float32) * 2 - 1).reshape(BITS, _SAMPLED)


def distances(bits: bytes, others: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """In how many bits a sketch differs from each of several.

    Args:
        bits: a sketch.
        others: sketches as rows of four 64-bit words, shape (n, 4).
    """
    import numpy as np

    words = np.frombuffer(bits, np.uint64)
    apart: npt.NDArray[np.int64] = np.bitwise_count(others ^ words).sum(axis=1, dtype=np.int64)
    return apart


def as_words(sketched: Sequence[bytes]) -> npt.NDArray[np.uint64]:
    """Sketches as rows of four 64-bit words, shape (n, 4), for ``distances``."""
    import numpy as np

    return np.frombuffer(b"".join(sketched), np.uint64).reshape(len(sketched), BITS // 64)


def cosine(first: Buffer, second: Buffer, element: Element) -> float:
    """The cosine of the angle between two samples of the same length; 0 where one is zero everywhere."""
    import numpy as np

    from coral_git.floats import to_float32

    one = to_float32(first, element).astype(np.float64)
    other = to_float32(second, element).astype(np.float64)
    norms = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / norms if norms else 0.0
