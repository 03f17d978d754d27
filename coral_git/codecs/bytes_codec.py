"""Codec 1, "bytes": each block is one stream, compressed with zstd level 3."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from coral_git.codecs.base import is_same
from coral_git.codecs.streams import encode_bytes, read_streams, write_streams
from coral_git.limits import Limits
from coral_git.types import Buffer, Element

BLOCK_UNIT = 4
"""Bytes per block element, so that the default block is 1 MiB whatever the element."""


class BytesCodec(NamedTuple):
    """Arbitrary bytes without a base."""

    codec_id: int = 1
    name: str = "bytes"
    needs_base: bool = False

    def block_size(self, element: Element, limits: Limits) -> int:
        """Four bytes per block element."""
        return BLOCK_UNIT * limits.block_elements

    def base_window(self, start: int, length: int) -> tuple[int, int]:
        """Nothing of a base is wanted."""
        return start, 0

    def encode_block(self, raw: Buffer, base: Buffer, element: Element) -> list[Buffer]:
        """One stream."""
        return write_streams([raw], encode_bytes)

    def decode_block(self, payload: Buffer, raw_length: int, base: Buffer, element: Element) -> Buffer:
        """The one stream, of ``raw_length`` bytes.

        Raises:
            IntegrityError: the payload is malformed.
        """
        return read_streams(payload, [raw_length])[0]

    def decodes_to(self, payload: Sequence[Buffer], raw: Buffer, base: Buffer, element: Element) -> bool:
        """Whether the one stream decodes to just these bytes."""
        return is_same(self.decode_block(b"".join(payload), len(raw), base, element), raw)
