"""Codec 4, "sub": differences to the units of a base, as byte planes, each a stream.

Sign-magnitude floats are mapped to integers in the same order, so that a small step in value is a small
step in the integer even across zero. The difference is taken modulo 2^bits and zigzagged, which leaves the
high planes almost empty. All of it is integer arithmetic: NaN payloads and negative zeros survive.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from coral_git.codecs import kernels
from coral_git.codecs.base import is_same
from coral_git.codecs.planes import append_tail, cut_planes, stream_lengths, whole_units
from coral_git.codecs.streams import read_streams, reopen_streams, write_streams
from coral_git.limits import Limits
from coral_git.types import Buffer, Element


class SubCodec(NamedTuple):
    """Numbers against a base with the same unit."""

    codec_id: int = 4
    name: str = "sub"
    needs_base: bool = True

    def block_size(self, element: Element, limits: Limits) -> int:
        """As many units as a block has elements."""
        return element.width * limits.block_elements

    def base_window(self, start: int, length: int) -> tuple[int, int]:
        """The same range."""
        return start, length

    def encode_block(self, raw: Buffer, base: Buffer, element: Element) -> list[Buffer]:
        """One stream per plane, and one of the bytes after the last whole unit, which are not subtracted."""
        view = memoryview(raw)
        units, whole = whole_units(len(view), element)
        padded = pad_base(base, whole)
        planes = kernels.sub_split(view[:whole], padded, element.width, element.is_float)
        return write_streams([*cut_planes(planes, units, element), view[whole:]])

    def decode_block(self, payload: Buffer, raw_length: int, base: Buffer, element: Element) -> Buffer:
        """The base's units plus the differences, and the bytes after them.

        Raises:
            IntegrityError: the payload is malformed.
        """
        *planes, tail = read_streams(payload, stream_lengths(raw_length, element))
        padded = pad_base(base, whole_units(raw_length, element)[1])
        return append_tail(kernels.sub_merge(planes, padded, element.width, element.is_float), tail)

    def decodes_to(self, payload: Sequence[Buffer], raw: Buffer, base: Buffer, element: Element) -> bool:
        """Whether the base's units plus the differences, and the tail, give just these bytes."""
        *planes, tail = reopen_streams(payload, stream_lengths(len(raw), element))
        whole = whole_units(len(raw), element)[1]
        view = memoryview(raw)
        padded = pad_base(base, whole)
        is_whole = kernels.sub_merges_to(planes, padded, view[:whole], element.is_float)
        return is_whole and is_same(tail, view[whole:])


def pad_base(base: Buffer, length: int) -> Buffer:
    """The first ``length`` bytes of a base, zeros where it is shorter; no copy where it is not."""
    if len(base) < length:
        return b"".join((base, bytes(length - len(base))))
    return memoryview(base)[:length]
