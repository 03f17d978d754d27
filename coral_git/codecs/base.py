"""What a codec is, and the encoded form of an object that goes into a pack.

An object is encoded block by block; every block can be decoded on its own, given the same window of the
base's bytes that it was encoded against. Codecs hold no state and may be used from any number of threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from coral_git.limits import Limits
from coral_git.types import Buffer, Element, ObjectId


class EncodedObject(NamedTuple):
    """An object ready to be written to a pack.

    Attributes:
        object_id: BLAKE3-256 of the raw bytes.
        raw_length: length of the raw bytes.
        codec: id of the codec that made the blocks.
        element: how that codec saw the raw bytes.
        base: the object that the blocks are deltas against, or None for a full copy.
        base_element: how the base's bytes were seen (``BYTES`` where there is no base).
        base_offset: the byte of the base that belongs to the first raw byte.
        block_size: raw bytes of every block but the last, which may be shorter.
        blocks: the payload of each block, as pieces that are written back to back.
    """

    object_id: ObjectId
    raw_length: int
    codec: int
    element: Element
    base: ObjectId | None
    base_element: Element
    base_offset: int
    block_size: int
    blocks: Sequence[Sequence[Buffer]]


class Codec(Protocol):
    """A reversible map from the raw bytes of a block to its payload.

    The ``base`` given to ``encode_block`` and ``decode_block`` is the window that ``base_window`` names,
    clipped to the base's end: it may be shorter, and is empty where there is no base. Codecs that pair
    units with the base's units treat missing base bytes as zero.
    """

    @property
    def codec_id(self) -> int:
        """The number on disk, 1 to 255; never reused."""

    @property
    def name(self) -> str:
        """The name in settings and listings."""

    @property
    def needs_base(self) -> bool:
        """Whether the codec makes deltas."""

    def block_size(self, element: Element, limits: Limits) -> int:
        """Raw bytes of a full block: the same for every object with this element."""

    def base_window(self, start: int, length: int) -> tuple[int, int]:
        """The start and length of the base bytes wanted for the raw bytes ``start`` to ``start + length``.

        Both ranges count from the byte of the base that belongs to the first raw byte.
        """

    def encode_block(self, raw: Buffer, base: Buffer, element: Element) -> list[Buffer]:
        """The payload of a block as pieces; they may be views of ``raw``, which must not change meanwhile."""

    def decode_block(self, payload: Buffer, raw_length: int, base: Buffer, element: Element) -> Buffer:
        """The raw bytes of a block; they may be a view of ``payload``.

        Memory is bounded by ``raw_length``, whatever the payload claims.

        Raises:
            IntegrityError: the payload is not one that this codec writes for ``raw_length`` bytes.
        """

    def decodes_to(self, payload: Sequence[Buffer], raw: Buffer, base: Buffer, element: Element) -> bool:
        """Whether a payload, in the pieces that ``encode_block`` gave, decodes to just these bytes.

        Raises:
            IntegrityError: it does not decode at all.
        """


def is_same(decoded: Buffer, raw: Buffer) -> bool:
    """Whether the bytes are equal; ``==`` takes a view byte by byte, ``startswith`` compares all at once."""
    whole = decoded if isinstance(decoded, bytes) else bytes(decoded)
    return len(whole) == len(raw) and whole.startswith(raw)
