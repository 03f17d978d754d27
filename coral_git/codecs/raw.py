"""Codec 6, "raw": the bytes as they are; no time is spent on them, and no space is saved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from coral_git.codecs.base import is_same
from coral_git.codecs.streams import RAW, read_streams, write_streams
from coral_git.limits import Limits
from coral_git.types import Buffer, Element


class RawCodec(NamedTuple):
    """Any bytes, not compressed."""

    codec_id: int = 6
    name: str = "raw"
    needs_base: bool = False

    def block_size(self, element: Element, limits: Limits) -> int:
        """As many units as a block has elements."""
        return element.width * limits.block_elements

    def base_window(self, start: int, length: int) -> tuple[int, int]:
        """Nothing of a base is wanted."""
        return start, 0

    def encode_block(self, raw: Buffer, base: Buffer, element: Element) -> list[Buffer]:
        """One raw stream."""
        return write_streams([raw], lambda data: (RAW, data))

    def decode_block(self, payload: Buffer, raw_length: int, base: Buffer, element: Element) -> Buffer:
        """The one stream, of ``raw_length`` bytes.

        Raises:
            IntegrityError: the payload is malformed.
        """
        return read_streams(payload, [raw_length])[0]

    def decodes_to(self, payload: Sequence[Buffer], raw: Buffer, base: Buffer, element: Element) -> bool:
        """Whether the one stream has just these bytes."""
        return is_same(self.decode_block(b"".join(payload), len(raw), base, element), raw)
