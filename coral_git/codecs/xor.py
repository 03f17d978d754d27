"""Codec 7, "xor": which bits differ from the units of a base, as byte planes, each a stream.

What BitX does (Wang et al., "ZipLLM", 2025). ``sub`` is smaller nearly always, as a small step may change
many bits by a carry.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from coral_git.codecs import kernels
from coral_git.codecs.base import is_same
from coral_git.codecs.planes import append_tail, cut_planes, stream_lengths, whole_units
from coral_git.codecs.streams import read_streams, write_streams
from coral_git.codecs.sub import pad_base
from coral_git.limits import Limits
from coral_git.types import Buffer, Element


class XorCodec(NamedTuple):
    """Units against a base with the same unit, bit by bit."""

    codec_id: int = 7
    name: str = "xor"
    needs_base: bool = True

    def block_size(self, element: Element, limits: Limits) -> int:
        """As many units as a block has elements."""
        return element.width * limits.block_elements

    def base_window(self, start: int, length: int) -> tuple[int, int]:
        """The same range."""
        return start, length

    def encode_block(self, raw: Buffer, base: Buffer, element: Element) -> list[Buffer]:
        """One stream per plane, and one of the bytes after the last whole unit, which are as they are."""
        view = memoryview(raw)
        units, whole = whole_units(len(view), element)
        planes = kernels.split(_xor(view[:whole], base), element.width, False)
        return write_streams([*cut_planes(planes, units, element), view[whole:]])

    def decode_block(self, payload: Buffer, raw_length: int, base: Buffer, element: Element) -> Buffer:
        """The base's units with the bits that differ, and the bytes after them.

        Raises:
            IntegrityError: the payload is malformed.
        """
        *planes, tail = read_streams(payload, stream_lengths(raw_length, element))
        return append_tail(_xor(kernels.merge(planes, False), base), tail)

    def decodes_to(self, payload: Sequence[Buffer], raw: Buffer, base: Buffer, element: Element) -> bool:
        """Whether the payload decodes to just these bytes."""
        return is_same(self.decode_block(b"".join(payload), len(raw), base, element), raw)


def _xor(data: Buffer, base: Buffer) -> Buffer:
    """The bits in which bytes differ from the first ones of a base; what it lacks is zero."""
    import numpy as np

    own = np.frombuffer(data, np.uint8)
    return (own ^ np.frombuffer(pad_base(base, len(own)), np.uint8)).data
