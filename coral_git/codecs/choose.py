"""Which codec an object gets: decided by compressing a sample, never by trying everything on everything.

A sample is too small to tell whether sorting by exponents is worth its time: what it costs to describe many
short streams would count too much. That follows from the element and the profile instead, by measurement: it
saves 3 to 7 % of fp32 deltas, a fifth and more of 16-bit and 8-bit ones, and takes two to three times as
long.
"""

from __future__ import annotations

from collections.abc import Callable

from coral_git.codecs import kernels
from coral_git.codecs.base import Codec
from coral_git.codecs.bucket import BucketCodec
from coral_git.codecs.bytes_codec import BytesCodec
from coral_git.codecs.decay import DecayCodec, find_table
from coral_git.codecs.facing import face
from coral_git.codecs.planes import PlanesCodec, cut_planes, whole_units
from coral_git.codecs.prefix import PrefixCodec
from coral_git.codecs.sparse import SparseCodec
from coral_git.codecs.streams import is_constant
from coral_git.codecs.sub import SubCodec
from coral_git.codecs.upcast import UpcastCodec, narrow_pair
from coral_git.types import Buffer, Element

Read = Callable[[int, int], Buffer]
"""Reads (start, length) of the raw bytes of an object, fewer only at its end."""

PROFILES = {"fast": 0, "balanced": 2, "best": 8}
"""Name of a profile → bytes of the largest float whose differences are sorted by exponents."""

_SORTED_UNITS = 4096
_LITTLE = 8
_FEW = 0.6
_RUNS = 4
_RUN_ELEMENTS = 4096
_BYTES_RUNS = 4
_BYTES_RUN = 32 << 10

_ALONE: Codec = PlanesCodec()
_DELTA: Codec = SubCodec()
_SORTED: Codec = BucketCodec()
_FEW_CHANGED: Codec = SparseCodec()
_BYTES_ALONE: Codec = BytesCodec()
_BYTES_DELTA: Codec = PrefixCodec()


def sample_ranges(raw_length: int, element: Element) -> list[tuple[int, int]]:
    """Start and length of the runs to look at: whole units, spread evenly; all of a small object."""
    runs, run = _RUNS, _RUN_ELEMENTS * element.width
    if element == Element.BYTES:
        runs, run = _BYTES_RUNS, _BYTES_RUN
    if raw_length <= runs * run:
        return [(0, raw_length)] if raw_length else []
    spare = (raw_length - run) // element.width
    return [(spare * i // (runs - 1) * element.width, run) for i in range(runs)]


def sample(read: Read, raw_length: int, element: Element, offset: int = 0) -> bytes:
    """The sampled runs of an object back to back, or those of its base at the same places.

    Args:
        read: gives the bytes from a start, fewer than the length asked for only at the end.
        raw_length: length of the object that is to be encoded, also when its base is read.
        element: how its bytes are seen.
        offset: added to every start.

    Returns:
        As many bytes as the object's own sample has: what is missing at the end is zero.
    """
    pieces = [
        bytes(read(offset + start, length)).ljust(length, b"\0")
        for start, length in sample_ranges(raw_length, element)
    ]
    return b"".join(pieces)


def facing_sample(read: Read, base_element: Element, length: int, element: Element) -> bytes:
    """What faces the sample of an object in a base, in the element of the object.

    Args:
        read: reads the base.
        base_element: how the base is seen.
        length: length of the object that is to be encoded.
        element: how that is seen.
    """
    width, base_width = element.width, base_element.width

    def read_facing(start: int, wanted: int) -> Buffer:
        if element == base_element:
            return read(start, wanted)
        units = read(start // width * base_width, wanted // width * base_width)
        return face(units, base_element, element)

    return sample(read_facing, length, element)


def estimate(element: Element, sample_raw: Buffer, sample_base: Buffer | None) -> int:
    """Bytes of an encoded sample: of its differences, or alone where there is no base.

    Args:
        element: how the object is seen.
        sample_raw: the object's sample.
        sample_base: what faces it in the base.
    """
    if sample_base is None:
        return _size(standalone_codec(element), element, sample_raw, b"")
    delta = _BYTES_DELTA if element == Element.BYTES else _DELTA
    own, faced, seen = _narrowed(element, sample_raw, sample_base)
    return _size(delta, seen, own, faced)


def standalone_codec(element: Element) -> Codec:
    """The codec for an object without a base."""
    return _BYTES_ALONE if element == Element.BYTES else _ALONE


def delta_codec(element: Element, units: int, profile: str) -> Codec:
    """The codec that a profile has for differences.

    Args:
        element: how the object is seen.
        units: units of the whole object; few are not worth sorting.
        profile: one of ``PROFILES``.
    """
    if element == Element.BYTES:
        return _BYTES_DELTA
    sorts = units >= _SORTED_UNITS and element.is_float and element.width <= PROFILES[profile]
    return _SORTED if sorts else _DELTA


def fitted_codec(
    element: Element, units: int, profile: str, sample_raw: Buffer, sample_base: Buffer
) -> Codec:
    """The codec for the kind of differences that a sample shows, else what ``delta_codec`` gives.

    Float32 whose values are those of a 16-bit float are compared as such. Few changed units are stored with
    their places. Weight decay leaves differences that follow from the base; only float32 has been seen to
    have them, as such a step is nothing at all for a shorter mantissa. A sample with hardly any
    differences says too little about that: then each block looks for itself.

    Args:
        element: how the object is seen.
        units: units of the whole object.
        profile: one of ``PROFILES``.
        sample_raw: the object's sample.
        sample_base: what faces it in the base.
    """
    own, faced, seen = _narrowed(element, sample_raw, sample_base)
    if seen is not element:
        return UpcastCodec(inner=fitted_codec(seen, units, profile, own, faced))
    codec = delta_codec(element, units, profile)
    sampled, whole = whole_units(len(sample_raw), element)
    if element is Element.BYTES or sampled < _SORTED_UNITS:
        return codec
    raw, base = memoryview(sample_raw)[:whole], memoryview(sample_base)[:whole]
    candidates = [codec, _FEW_CHANGED] if _changed(raw, base, element) <= sampled * _FEW else [codec]
    if element is Element.F32:
        raw_runs, base_runs = _thinned(raw), _thinned(base)
        says_little = _size(_DELTA, element, raw_runs, base_runs) * _LITTLE < len(raw_runs)
        if says_little or find_table(raw_runs, base_runs, element) is not None:
            candidates = [DecayCodec(inner=inner) for inner in (codec, _FEW_CHANGED)]
    if len(candidates) == 1:
        return codec
    return min(candidates, key=lambda one: _size(one, element, raw, base))


def _thinned(sampled: memoryview) -> bytes:
    """A quarter of a sample of float32, from everywhere in it: enough to see decay, which takes time."""
    step = len(sampled) // _RUNS // 4 * 4
    return b"".join(sampled[at * step : at * step + step // 4 // 4 * 4] for at in range(_RUNS))


def _changed(raw: memoryview, base: memoryview, element: Element) -> int:
    """How many units differ."""
    planes = kernels.sub_split(raw, base, element.width, element.is_float)
    return kernels.nonzero_count(cut_planes(planes, len(raw) // element.width, element))


def _narrowed(element: Element, raw: Buffer, base: Buffer) -> tuple[Buffer, Buffer, Element]:
    """A sample and what faces it, as narrow as its values allow; zeros say nothing about the others."""
    if not len(raw) or is_constant(raw):
        return raw, base, element
    return narrow_pair(raw, base, element)


def _size(codec: Codec, element: Element, raw: Buffer, base: Buffer) -> int:
    return sum(len(piece) for piece in codec.encode_block(raw, base, element))
