"""Codec 11, "decay": differences to a base whose units were moved first, by a table of the most usual steps.

Weight decay multiplies every weight by nearly one in every step of training. Nothing else happens to a weight
without a gradient, as those in the rows of an embedding that no batch asks for: its order-preserving integer
moves by a step that follows from the top bits of its mantissa. The table of these steps is in the payload,
and another codec makes the differences to the moved base, most of which are zero then.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from coral_git.codecs import kernels
from coral_git.codecs.base import Codec
from coral_git.codecs.bucket import EXPONENTS, BucketCodec
from coral_git.codecs.planes import cut_planes, whole_units
from coral_git.codecs.streams import encode_bytes, read_streams, write_streams
from coral_git.codecs.sub import SubCodec, pad_base
from coral_git.errors import IntegrityError
from coral_git.limits import Limits
from coral_git.types import Buffer, Element

_HEAD = struct.Struct("<BBI")
_SUB = SubCodec()
_INNER: dict[int, Codec] = {codec.codec_id: codec for codec in (_SUB, BucketCodec())}
_MOST_BITS = 16

_CELL_UNITS_LOG = 5  # as many as the kernel looks at
_MOST_BITS_WRITTEN = 13
_RUNS = 8
_RUN_SHARE = 32
_SAMPLED_FROM = 8 << 10
_WORTH = 0.98
_NOTHING = 64  # where differences are so much smaller than the units, there is nothing to save


class DecayCodec(NamedTuple):
    """Floats against a base with the same unit, many of which only decayed.

    Attributes:
        inner: the codec of the differences: "sub" or "bucket"; what was written says which it was.
    """

    codec_id: int = 11
    name: str = "decay"
    needs_base: bool = True
    inner: Codec = _SUB

    def block_size(self, element: Element, limits: Limits) -> int:
        """As many units as a block has elements."""
        return element.width * limits.block_elements

    def base_window(self, start: int, length: int) -> tuple[int, int]:
        """The same range."""
        return start, length

    def encode_block(self, raw: Buffer, base: Buffer, element: Element) -> list[Buffer]:
        """Head and table in one piece, and then what the inner codec makes with the moved base."""
        units, whole = whole_units(len(raw), element)
        if not units:
            return self.inner.encode_block(raw, base, element)
        head = find_table(raw, base, element)
        moved = pad_base(base, whole)
        if head is None:
            head = _HEAD.pack(self.inner.codec_id, 0, 0)
        else:
            head = bytes((self.inner.codec_id,)) + head[1:]
            moved = _read_head(head, moved, element)[1]
        return [head, *self.inner.encode_block(raw, moved, element)]

    def decode_block(self, payload: Buffer, raw_length: int, base: Buffer, element: Element) -> Buffer:
        """What the inner codec makes of the rest of the payload and the moved base.

        Raises:
            IntegrityError: the payload is malformed.
        """
        units, whole = whole_units(raw_length, element)
        if not units:
            return self.inner.decode_block(payload, raw_length, base, element)
        inner, moved, rest = _read_head(payload, pad_base(base, whole), element)
        return inner.decode_block(rest, raw_length, moved, element)

    def decodes_to(self, payload: Sequence[Buffer], raw: Buffer, base: Buffer, element: Element) -> bool:
        """Whether the rest of the payload decodes to just these bytes with the moved base."""
        units, whole = whole_units(len(raw), element)
        if not units:
            return self.inner.decodes_to(payload, raw, base, element)
        inner, moved, _ = _read_head(payload[0], pad_base(base, whole), element)
        return inner.decodes_to(payload[1:], raw, moved, element)


def find_table(raw: Buffer, base: Buffer, element: Element) -> bytes | None:
    """Head and table for a block, with "sub" as the inner codec; None where no table is worth its bytes.

    Args:
        raw: the block, or a sample of an object.
        base: what faces it.
        element: how both are seen.
    """
    units, whole = whole_units(len(raw), element)
    mantissa = _mantissa(element)
    bits = min(mantissa, _MOST_BITS_WRITTEN, units.bit_length() - 1 - _CELL_UNITS_LOG)
    if bits <= 0:
        return None
    view, padded, width = memoryview(raw)[:whole], pad_base(base, whole), element.width
    own, faced, share = _runs(view, padded, width)
    plain = _size(own, faced, element)
    if plain * _NOTHING < len(own):
        return None
    table = kernels.usual_steps(view, padded, width, mantissa - bits, bits)
    moved = kernels.move_units(faced, table, width, mantissa - bits, bits)
    saved = share * (_WORTH * plain - _size(own, moved, element))
    if saved <= 0:
        return None
    before = b"".join((bytes(width), memoryview(table)[:-width]))
    planes = cut_planes(kernels.sub_split(table, before, width, False), 1 << bits, element)
    stored = b"".join(write_streams(planes, encode_bytes))
    return _HEAD.pack(_SUB.codec_id, bits, len(stored)) + stored if len(stored) < saved else None


def _runs(raw: memoryview, base: Buffer, width: int) -> tuple[Buffer, Buffer, int]:
    """Some runs of a large block and of its base, and which part of it they are; all of a small one."""
    units = len(raw) // width
    if units < _SAMPLED_FROM:
        return raw, base, 1
    run, step = units // _RUN_SHARE * width, units // _RUNS * width
    parts = [slice(at * step, at * step + run) for at in range(_RUNS)]
    view = memoryview(base)
    return b"".join(raw[part] for part in parts), b"".join(view[part] for part in parts), _RUN_SHARE // _RUNS


def _size(raw: Buffer, base: Buffer, element: Element) -> int:
    return sum(len(piece) for piece in _SUB.encode_block(raw, base, element))


def _mantissa(element: Element) -> int:
    return EXPONENTS.get(element, (0, 0))[0]


def _read_head(payload: Buffer, base: Buffer, element: Element) -> tuple[Codec, Buffer, memoryview]:
    """The inner codec, the moved base, and the inner codec's payload."""
    view = memoryview(payload)
    if len(view) < _HEAD.size:
        raise IntegrityError("block payload is shorter than its head")
    codec_id, bits, length = _HEAD.unpack_from(view)
    inner = _INNER.get(codec_id)
    if inner is None:
        raise IntegrityError(f"codec {codec_id} does not work on a moved base")
    end = _HEAD.size + length
    if end > len(view):
        raise IntegrityError("a table runs past the end of its block payload")
    width, mantissa = element.width, _mantissa(element)
    if not bits and not length:
        return inner, base, view[end:]
    if not 0 < bits <= min(mantissa, _MOST_BITS) or width << bits > len(base):
        raise IntegrityError(f"a table has {bits} bits of the mantissa")
    planes = read_streams(view[_HEAD.size : end], [1 << bits] * width)
    table = kernels.running_sums(planes)
    return inner, kernels.move_units(base, table, width, mantissa - bits, bits), view[end:]
