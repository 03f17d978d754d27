"""The units of a base in the element of the object that is built on it.

A model is published as float32 and as bfloat16; each is a good base for the other. The base's units become
units of the object's element by integer arithmetic alone, so that every machine gets the same bits, and a
codec sees a base of its own element. What is cast is a guess at the object's units, never part of the result.
"""

from __future__ import annotations

from coral_git.codecs.base import Codec
from coral_git.types import Buffer, Element

_HALVES = (Element.BF16, Element.F16)


def can_face(element: Element, base_element: Element) -> bool:
    """Whether a base seen as ``base_element`` can serve an object seen as ``element``."""
    if element == Element.F32:
        return base_element == Element.F32 or base_element in _HALVES
    return element == base_element or (element in _HALVES and base_element == Element.F32)


def base_window(
    codec: Codec, element: Element, base_element: Element, base_offset: int, start: int, length: int
) -> tuple[int, int]:
    """Which bytes of the base a codec gets for a raw range, as (start, length); the end may be clipped.

    Encoder and decoder must agree on this.

    Args:
        codec: the codec.
        element: how it sees the object.
        base_element: how the base is seen.
        base_offset: the byte of the base that the first raw byte faces.
        start: first raw byte of the block, the first of a unit.
        length: raw bytes of the block.
    """
    first, wanted = codec.base_window(start, length)
    if element != base_element:
        width, base_width = element.width, base_element.width
        first, wanted = first // width * base_width, wanted // width * base_width
    return base_offset + first, wanted


def face(base: Buffer, base_element: Element, element: Element) -> Buffer:
    """The units of a base as units of another element; the base itself where they are the same.

    Args:
        base: the window of the base; bytes after its last whole unit are left out.
        base_element: how it is seen.
        element: what it becomes.

    Raises:
        ValueError: ``can_face`` says no.
    """
    if element == base_element:
        return base
    from coral_git import floats  # numpy is not needed to decode anything else

    if not can_face(element, base_element):
        raise ValueError(f"{base_element.name} cannot become {element.name}")
    if base_element == Element.F32:
        return floats.narrow(base, element)
    return floats.widen(base, base_element)
