"""One object encoded with a codec and a base that are given: for what is chosen elsewhere."""

from __future__ import annotations

from typing import NamedTuple

from blake3 import blake3

from coral_git.codecs.base import Codec, EncodedObject
from coral_git.codecs.facing import base_window, face
from coral_git.errors import IntegrityError
from coral_git.limits import Limits
from coral_git.pipeline.part_source import ReadRange
from coral_git.store.objects import ObjectReader
from coral_git.types import Buffer, Element, ObjectId


class Raw(NamedTuple):
    """The raw bytes of an object.

    Attributes:
        object_id: its id.
        read: reads a range of its bytes.
        length: its bytes.
        element: how codecs see them.
    """

    object_id: ObjectId
    read: ReadRange
    length: int
    element: Element


def encode_against(raw: Raw, codec: Codec, base: ObjectReader | None, limits: Limits) -> EncodedObject:
    """Encode an object block by block, decode each block again and compare.

    Args:
        raw: the object.
        codec: what encodes it.
        base: the object that it is to be a delta on, whose bytes are known to be sound; None for none.
        limits: the caps that apply.

    Raises:
        IntegrityError: the bytes are not those that the id names, or an encoded block does not decode.
    """
    size = codec.block_size(raw.element, limits)
    digest = blake3()
    blocks: list[list[Buffer]] = []
    for start in range(0, raw.length, size):
        data = raw.read(start, min(size, raw.length - start))
        digest.update(data)
        faced = facing_block(codec, raw.element, base, start, len(data))
        blocks.append(codec.encode_block(data, faced, raw.element))
        if not codec.decodes_to(blocks[-1], data, faced, raw.element):
            raise IntegrityError(f"codec '{codec.name}' does not decode object '{raw.object_id.hex()}'")
    if digest.digest() != raw.object_id:
        raise IntegrityError(f"object '{raw.object_id.hex()}' has the wrong bytes")
    return EncodedObject(
        object_id=raw.object_id,
        raw_length=raw.length,
        codec=codec.codec_id,
        element=raw.element,
        base=None if base is None else base.object_id,
        base_element=Element.BYTES if base is None else base.element,
        base_offset=0,
        block_size=size,
        blocks=blocks,
    )


def facing_block(
    codec: Codec, element: Element, base: ObjectReader | None, start: int, length: int
) -> Buffer:
    """What faces a range of an object in its base, cast to the element of the object; empty without one."""
    if base is None:
        return b""
    window = base.read(*base_window(codec, element, base.element, 0, start, length))
    return face(window, base.element, element)
