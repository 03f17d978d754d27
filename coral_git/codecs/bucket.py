"""Codec 5, "bucket": differences to the units of a base, sorted by the exponent of the base's unit.

What a step of training adds does not depend on the exponent of the weight, but the worth of its last bit
does: the smaller the weight, the larger its difference as an integer. So differences beside the same exponent
compress better together. The reader has the base, and with it the order, so that sorting costs nothing in the
payload. Where few units of a bucket changed, a mask says which.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from coral_git.codecs import kernels
from coral_git.codecs.base import is_same
from coral_git.codecs.planes import append_tail, cut_planes, whole_units
from coral_git.codecs.streams import encode_bytes, read_streams, write_streams
from coral_git.codecs.sub import pad_base
from coral_git.errors import IntegrityError
from coral_git.limits import Limits
from coral_git.types import Buffer, Element

_ALL, _SOME, _NONE = range(3)
_MODES = frozenset((_ALL, _SOME, _NONE))
_MASK_BELOW = 0.6  # share of units that are not zero
_HEAD = struct.Struct("<HI")

EXPONENTS = {
    Element.F16: (10, 5),
    Element.BF16: (7, 8),
    Element.F32: (23, 8),
    Element.F64: (52, 8),
    Element.F8: (2, 5),
}
"""Lowest bit and length of a unit's key: the exponent, or the low bits of it. Other elements have none."""


class _Bucket(NamedTuple):
    """The units of a bucket that are in the payload.

    Attributes:
        length: units in the bucket.
        kept: units in the payload.
        mask: a bit for each unit that is; None where all are, or none.
    """

    length: int
    kept: int
    mask: Buffer | None = None


class BucketCodec(NamedTuple):
    """Numbers against a base with the same unit, smaller and slower than "sub"."""

    codec_id: int = 5
    name: str = "bucket"
    needs_base: bool = True

    def block_size(self, element: Element, limits: Limits) -> int:
        """As many units as a block has elements."""
        return element.width * limits.block_elements

    def base_window(self, start: int, length: int) -> tuple[int, int]:
        """The same range."""
        return start, length

    def encode_block(self, raw: Buffer, base: Buffer, element: Element) -> list[Buffer]:
        """The modes of the buckets, their masks, and then the planes of each bucket and the tail."""
        view = memoryview(raw)
        units, whole = whole_units(len(view), element)
        padded = pad_base(base, whole)
        shift, bits = EXPONENTS.get(element, (0, 0))
        split = kernels.bucket_split(view[:whole], padded, element.width, element.is_float, shift, bits)
        modes = bytearray()
        masks: list[Buffer] = []
        streams: list[Buffer] = []
        start = 0
        for length in kernels.bucket_lengths(padded, element.width, shift, bits):
            planes: list[Buffer] = [
                memoryview(split)[at + start : at + start + length] for at in range(0, whole, units)
            ]
            start += length
            modes.append(_mode(kernels.nonzero_count(planes), length))
            if modes[-1] == _SOME:
                mask, kept = kernels.nonzero_split(planes)
                masks.append(mask)
                planes = cut_planes(kept, len(kept) // element.width, element)
            if modes[-1] != _NONE:
                streams += planes
        body = write_streams([*streams, view[whole:]])
        if not modes:
            return body
        mode_list, mask_list = write_streams([bytes(modes)], encode_bytes), write_streams(masks, encode_bytes)
        return [_HEAD.pack(_length(mode_list), _length(mask_list)), *mode_list, *mask_list, *body]

    def decode_block(self, payload: Buffer, raw_length: int, base: Buffer, element: Element) -> Buffer:
        """The base's units plus the differences, and the bytes after them.

        Raises:
            IntegrityError: the payload is malformed.
        """
        whole = whole_units(raw_length, element)[1]
        padded = pad_base(base, whole)
        shift, bits = EXPONENTS.get(element, (0, 0))
        lengths = kernels.bucket_lengths(padded, element.width, shift, bits)
        buckets, body = _read_buckets(memoryview(payload), lengths)
        wanted = [bucket.kept for bucket in buckets for _ in range(element.width)]
        *streams, tail = read_streams(body, [*wanted, raw_length - whole])
        pieces: list[list[Buffer]] = [[] for _ in range(element.width)]
        for number, bucket in enumerate(buckets):
            planes = streams[number * element.width : (number + 1) * element.width]
            for piece, plane in zip(pieces, _expand(bucket, planes, element), strict=True):
                piece.append(plane)
        joined = [b"".join(piece) for piece in pieces]
        return append_tail(kernels.bucket_merge(joined, padded, element.is_float, shift, bits), tail)

    def decodes_to(self, payload: Sequence[Buffer], raw: Buffer, base: Buffer, element: Element) -> bool:
        """Whether the payload decodes to just these bytes."""
        return is_same(self.decode_block(b"".join(payload), len(raw), base, element), raw)


def _mode(changed: int, length: int) -> int:
    if not changed:
        return _NONE
    return _SOME if changed < _MASK_BELOW * length else _ALL


def _length(pieces: Sequence[Buffer]) -> int:
    return sum(len(piece) for piece in pieces)


def _expand(bucket: _Bucket, planes: list[Buffer], element: Element) -> list[Buffer]:
    """The planes of all units of a bucket."""
    if bucket.mask is not None:
        return cut_planes(kernels.nonzero_merge(bucket.mask, planes, bucket.length), bucket.length, element)
    return planes if bucket.kept else [bytes(bucket.length)] * element.width


def _read_buckets(payload: memoryview, lengths: Sequence[int]) -> tuple[list[_Bucket], memoryview]:
    """What the payload has of each bucket, and the streams behind modes and masks."""
    if not lengths:
        return [], payload
    if len(payload) < _HEAD.size:
        raise IntegrityError("block payload is shorter than its head")
    modes_end, masks_end = _HEAD.unpack_from(payload)
    modes_end += _HEAD.size
    masks_end += modes_end
    if masks_end > len(payload):
        raise IntegrityError("modes and masks run past the end of their block payload")
    modes = bytes(read_streams(payload[_HEAD.size : modes_end], [len(lengths)])[0])
    if not _MODES.issuperset(modes):
        raise IntegrityError("a bucket has an unknown mode")
    masked = [(length + 7) // 8 for mode, length in zip(modes, lengths, strict=True) if mode == _SOME]
    masks = iter(read_streams(payload[modes_end:masks_end], masked))
    buckets = []
    for mode, length in zip(modes, lengths, strict=True):
        if mode == _SOME:
            buckets.append(_masked(next(masks), length))
        else:
            buckets.append(_Bucket(length, length if mode == _ALL else 0))
    return buckets, payload[masks_end:]


def _masked(mask: Buffer, length: int) -> _Bucket:
    bits = int.from_bytes(mask, "little")
    if bits >> length:
        raise IntegrityError("a mask has more bits than its bucket has units")
    return _Bucket(length, bits.bit_count(), mask)
