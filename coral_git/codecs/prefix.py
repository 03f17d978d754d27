"""Codec 2, "bytes-delta": one zstd frame per block, with the base's bytes around it as its past.

The same technique as ``zstd --patch-from``: the bytes of the base come before those of the block in the
compressor's window, so what did not change, even if it moved by less than the margin, is a match.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from coral_git.codecs import frames
from coral_git.codecs.base import is_same
from coral_git.codecs.bytes_codec import BLOCK_UNIT
from coral_git.codecs.streams import encode_bytes, encode_stream, read_streams, write_streams
from coral_git.limits import MIB, Limits
from coral_git.types import Buffer, Element

MARGIN = MIB
"""Bytes of the base on each side of a block's place that the block may refer to."""


class PrefixCodec(NamedTuple):
    """Arbitrary bytes against the bytes of a base."""

    codec_id: int = 2
    name: str = "bytes-delta"
    needs_base: bool = True

    def block_size(self, element: Element, limits: Limits) -> int:
        """Four bytes per block element."""
        return BLOCK_UNIT * limits.block_elements

    def base_window(self, start: int, length: int) -> tuple[int, int]:
        """The same range and the margin on each side of it."""
        first = max(0, start - MARGIN)
        return first, start + length + MARGIN - first

    def encode_block(self, raw: Buffer, base: Buffer, element: Element) -> list[Buffer]:
        """One stream whose zstd frame needs the base."""
        if not len(base):
            return write_streams([raw], encode_bytes)
        return write_streams(
            [raw],
            lambda data: encode_stream(data, lambda block: frames.compress_with_prefix(block, base)),
        )

    def decode_block(self, payload: Buffer, raw_length: int, base: Buffer, element: Element) -> Buffer:
        """The one stream, of ``raw_length`` bytes.

        Raises:
            IntegrityError: the payload is malformed, or was made against another base.
        """
        if not len(base):
            return read_streams(payload, [raw_length])[0]
        return read_streams(
            payload, [raw_length], lambda frame, length: frames.decompress_with_prefix(frame, length, base)
        )[0]

    def decodes_to(self, payload: Sequence[Buffer], raw: Buffer, base: Buffer, element: Element) -> bool:
        """Whether the one stream decodes to just these bytes."""
        return is_same(self.decode_block(b"".join(payload), len(raw), base, element), raw)
