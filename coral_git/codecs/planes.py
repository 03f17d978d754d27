"""Codec 3, "planes": the byte planes of the units, each a stream.

The exponents of weights are few, their low mantissa bits are noise: bytes of one significance compress
together, the others are stored as they are. Rotating the sign away first leaves the eight exponent bits of
F32 and BF16 in one byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from coral_git.codecs import kernels
from coral_git.codecs.base import is_same
from coral_git.codecs.streams import read_streams, reopen_streams, write_streams
from coral_git.limits import Limits
from coral_git.types import Buffer, Element


class PlanesCodec(NamedTuple):
    """Numbers without a base."""

    codec_id: int = 3
    name: str = "planes"
    needs_base: bool = False

    def block_size(self, element: Element, limits: Limits) -> int:
        """As many units as a block has elements."""
        return element.width * limits.block_elements

    def base_window(self, start: int, length: int) -> tuple[int, int]:
        """Nothing of a base is wanted."""
        return start, 0

    def encode_block(self, raw: Buffer, base: Buffer, element: Element) -> list[Buffer]:
        """One stream per plane, and one of the bytes after the last whole unit."""
        view = memoryview(raw)
        units, whole = whole_units(len(view), element)
        planes: Buffer = view[:whole]
        if element.width > 1:
            planes = kernels.split(planes, element.width, element.rotates)
        return write_streams([*cut_planes(planes, units, element), view[whole:]])

    def decode_block(self, payload: Buffer, raw_length: int, base: Buffer, element: Element) -> Buffer:
        """The units of the planes, and the bytes after them.

        Raises:
            IntegrityError: the payload is malformed.
        """
        *planes, tail = read_streams(payload, stream_lengths(raw_length, element))
        whole = planes[0] if element.width == 1 else kernels.merge(planes, element.rotates)
        return append_tail(whole, tail)

    def decodes_to(self, payload: Sequence[Buffer], raw: Buffer, base: Buffer, element: Element) -> bool:
        """Whether planes and tail give just these bytes."""
        *planes, tail = reopen_streams(payload, stream_lengths(len(raw), element))
        whole = whole_units(len(raw), element)[1]
        view = memoryview(raw)
        return kernels.merges_to(planes, view[:whole], element.rotates) and is_same(tail, view[whole:])


def whole_units(length: int, element: Element) -> tuple[int, int]:
    """How many whole units there are in ``length`` bytes, and how many bytes those have."""
    units = length // element.width
    return units, units * element.width


def cut_planes(planes: Buffer, units: int, element: Element) -> list[Buffer]:
    """The planes of a kernel's result, as views."""
    view = memoryview(planes)
    return [view[i * units : (i + 1) * units] for i in range(element.width)]


def stream_lengths(raw_length: int, element: Element) -> list[int]:
    """The length of each plane, and of the bytes after the last whole unit."""
    units, whole = whole_units(raw_length, element)
    return [*([units] * element.width), raw_length - whole]


def append_tail(whole: Buffer, tail: Buffer) -> Buffer:
    """The whole units and the bytes after them; no copy where there are none."""
    return b"".join((whole, tail)) if len(tail) else whole
