"""Codec 8, "sparse": only the units that differ from the base, with their places.

For tensors of which little changed, such as an embedding some of whose rows were trained. A place is stored
as the distance to the one before, so that neighbours cost nearly nothing; a value as its difference, as "sub"
does.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from coral_git.codecs import kernels
from coral_git.codecs.base import is_same
from coral_git.codecs.planes import append_tail, cut_planes, whole_units
from coral_git.codecs.streams import read_streams, write_streams
from coral_git.codecs.sub import pad_base
from coral_git.errors import IntegrityError
from coral_git.limits import Limits
from coral_git.types import Buffer, Element

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

_COUNT = struct.Struct("<I")
_GAP_WIDTH = 4


class SparseCodec(NamedTuple):
    """Units that changed, against a base with the same unit."""

    codec_id: int = 8
    name: str = "sparse"
    needs_base: bool = True

    def block_size(self, element: Element, limits: Limits) -> int:
        """As many units as a block has elements."""
        return element.width * limits.block_elements

    def base_window(self, start: int, length: int) -> tuple[int, int]:
        """The same range."""
        return start, length

    def encode_block(self, raw: Buffer, base: Buffer, element: Element) -> list[Buffer]:
        """How many units changed, their gaps and differences in planes, and the bytes after the last unit."""
        import numpy as np

        view = memoryview(raw)
        units, whole = whole_units(len(view), element)
        if not units:
            return write_streams([view])
        own, other = _units(view[:whole], element), _units(pad_base(base, whole), element)
        places = np.flatnonzero(own != other)
        gaps = np.diff(places, prepend=-1) - 1
        gap_planes = kernels.split(gaps.astype("<u4").tobytes(), _GAP_WIDTH, False)
        planes = kernels.sub_split(
            own[places].tobytes(), other[places].tobytes(), element.width, element.is_float
        )
        count = len(places)
        streams = [memoryview(gap_planes)[i * count : (i + 1) * count] for i in range(_GAP_WIDTH)]
        return [
            _COUNT.pack(count),
            *write_streams([*streams, *cut_planes(planes, count, element), view[whole:]]),
        ]

    def decode_block(self, payload: Buffer, raw_length: int, base: Buffer, element: Element) -> Buffer:
        """The base's units, those that changed changed, and the bytes after them.

        Raises:
            IntegrityError: the payload is malformed.
        """
        units, whole = whole_units(raw_length, element)
        if not units:
            return read_streams(payload, [raw_length])[0]
        count = _read_count(payload, units)
        lengths = [count] * (_GAP_WIDTH + element.width)
        *planes, tail = read_streams(memoryview(payload)[_COUNT.size :], [*lengths, raw_length - whole])
        result = _units(pad_base(base, whole), element).copy()
        if count:
            places = _places(planes[:_GAP_WIDTH], units)
            before = result[places]
            merged = kernels.sub_merge(planes[_GAP_WIDTH:], before.tobytes(), element.width, element.is_float)
            result[places] = _units(merged, element)
            if (result[places] == before).any():
                raise IntegrityError("a unit that is listed as changed did not change")
        return append_tail(result.tobytes(), tail)

    def decodes_to(self, payload: Sequence[Buffer], raw: Buffer, base: Buffer, element: Element) -> bool:
        """Whether the payload decodes to just these bytes."""
        return is_same(self.decode_block(b"".join(payload), len(raw), base, element), raw)


def _units(data: Buffer, element: Element) -> NDArray[Any]:
    import numpy as np

    return np.frombuffer(data, f"<u{element.width}")


def _read_count(payload: Buffer, units: int) -> int:
    if len(payload) < _COUNT.size:
        raise IntegrityError("a sparse block is cut short")
    count: int = _COUNT.unpack_from(payload)[0]
    if count > units:
        raise IntegrityError("a sparse block has more changes than units")
    return count


def _places(planes: Sequence[Buffer], units: int) -> NDArray[Any]:
    """The places of the changed units, all of them in the block.

    Raises:
        IntegrityError: the gaps lead beyond it.
    """
    import numpy as np

    gaps = np.frombuffer(kernels.merge(planes, False), "<u4").astype(np.int64)
    places = np.cumsum(gaps + 1) - 1
    if places[-1] >= units:
        raise IntegrityError("a sparse block has a change beyond its end")
    return places
