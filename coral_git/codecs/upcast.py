"""Codec 12, "upcast": differences between 16-bit floats, of weights that are kept as float32.

Who trains in bfloat16 and saves as float32 writes units whose low half is zero. Their differences as float32
have to say so for every unit, and against a base in full precision the differences are mostly its low half.
Here units and base become 16-bit floats first, and another codec makes the differences. A block whose units
do not all come back from that is left as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from coral_git.codecs.base import Codec, is_same
from coral_git.codecs.bucket import BucketCodec
from coral_git.codecs.facing import face
from coral_git.codecs.planes import append_tail, whole_units
from coral_git.codecs.sparse import SparseCodec
from coral_git.codecs.sub import SubCodec, pad_base
from coral_git.errors import IntegrityError
from coral_git.limits import Limits
from coral_git.types import Buffer, Element

_HEAD_LENGTH = 2
_SUB = SubCodec()
_INNER: dict[int, Codec] = {codec.codec_id: codec for codec in (_SUB, BucketCodec(), SparseCodec())}
_HALVES = (Element.BF16, Element.F16)
_PEEKED = 16 << 10  # the lowest byte of the very first unit tells of most tensors


class UpcastCodec(NamedTuple):
    """Float32 against a base with the same unit, all of whose values a 16-bit float has too.

    Attributes:
        inner: the codec of the differences, "sub", "bucket" or "sparse"; what was written says which it was.
    """

    codec_id: int = 12
    name: str = "upcast"
    needs_base: bool = True
    inner: Codec = _SUB

    def block_size(self, element: Element, limits: Limits) -> int:
        """As many units as a block has elements."""
        return element.width * limits.block_elements

    def base_window(self, start: int, length: int) -> tuple[int, int]:
        """The same range."""
        return start, length

    def encode_block(self, raw: Buffer, base: Buffer, element: Element) -> list[Buffer]:
        """The inner codec and the element it sees, and then what it makes of the narrow units."""
        if len(raw) < element.width:
            return self.inner.encode_block(raw, base, element)
        own, faced, seen = narrow_pair(raw, base, element)
        return [bytes((self.inner.codec_id, seen)), *self.inner.encode_block(own, faced, seen)]

    def decode_block(self, payload: Buffer, raw_length: int, base: Buffer, element: Element) -> Buffer:
        """What the inner codec makes of the narrow base, widened again.

        Raises:
            IntegrityError: the payload is malformed.
        """
        units, whole = whole_units(raw_length, element)
        if not units:
            return self.inner.decode_block(payload, raw_length, base, element)
        inner, seen = _read_head(payload, element)
        rest = memoryview(payload)[_HEAD_LENGTH:]
        if seen is element:
            return inner.decode_block(rest, raw_length, base, element)
        narrow = units * seen.width
        faced = face(pad_base(base, whole), element, seen)
        own = memoryview(inner.decode_block(rest, narrow + raw_length - whole, faced, seen))
        return append_tail(face(own[:narrow], seen, element), own[narrow:])

    def decodes_to(self, payload: Sequence[Buffer], raw: Buffer, base: Buffer, element: Element) -> bool:
        """Whether the payload decodes to just these bytes."""
        return is_same(self.decode_block(b"".join(payload), len(raw), base, element), raw)


def narrow_pair(raw: Buffer, base: Buffer, element: Element) -> tuple[Buffer, Buffer, Element]:
    """A block, what faces it, and their element: the 16-bit float that has all values of the block.

    Bytes after the last whole unit follow the narrow units as they are. Everything is returned as it was
    given where no such float is found; numpy is not asked where the lowest byte of a unit says so.

    Args:
        raw: the block, or a sample of an object.
        base: what faces it.
        element: how both are seen.
    """
    whole = whole_units(len(raw), element)[1]
    view = memoryview(raw)
    if element is not Element.F32 or any(view[: min(whole, _PEEKED) : element.width]):
        return raw, base, element
    for half in _HALVES:
        own = face(view[:whole], element, half)
        if is_same(face(own, half, element), view[:whole]):
            return append_tail(own, view[whole:]), face(pad_base(base, whole), element, half), half
    return raw, base, element


def _read_head(payload: Buffer, element: Element) -> tuple[Codec, Element]:
    """The inner codec, and how it sees the units."""
    if len(payload) < _HEAD_LENGTH:
        raise IntegrityError("block payload is shorter than its head")
    codec_id, code = memoryview(payload)[:_HEAD_LENGTH]
    inner = _INNER.get(codec_id)
    if inner is None:
        raise IntegrityError(f"codec {codec_id} does not work on narrow units")
    if code == element:
        return inner, element
    if element is not Element.F32 or code not in _HALVES:
        raise IntegrityError(f"units of {element.name} are not narrowed to element {code}")
    return inner, Element(code)
