"""Streams: the byte strings that a block's payload is made of.

A payload is a table with one descriptor per stream (u8 kind, u32 stored length, little endian), then the
stored bytes of the streams back to back. The lengths of the streams before storing are not written: the
reader knows them. Streams of length zero have no descriptor. ``docs/format/codecs.md`` is the reference.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

from coral_git.codecs import frames
from coral_git.errors import IntegrityError
from coral_git.types import Buffer

CONSTANT = 0
RAW = 1
ZSTD = 2

DESCRIPTOR = struct.Struct("<BI")

Compress = Callable[[Buffer], bytes]
Decompress = Callable[[Buffer, int], Buffer]

_PROBE_FROM = 64 << 10
_PROBE_SLICES = 4
_PROBE_SLICE = 4 << 10
_PROBE_RATIO = 0.985
_COMPARE = 16 << 10


def encode_plane(plane: Buffer) -> tuple[int, Buffer]:
    """The kind and the stored bytes of a byte plane; a large one that looks like noise is not even tried."""
    return encode_stream(plane, frames.compress_plane, probe=True)


def encode_bytes(data: Buffer) -> tuple[int, Buffer]:
    """The kind and the stored bytes of arbitrary bytes."""
    return encode_stream(data, frames.compress_bytes)


def encode_stream(
    data: Buffer, compress: Compress = frames.compress_plane, *, probe: bool = False
) -> tuple[int, Buffer]:
    """The kind and the stored bytes of a stream.

    Args:
        data: at least one byte.
        compress: makes the zstd frame.
        probe: whether a large stream is stored raw when a sample of it does not shrink.
    """
    if is_constant(data):
        return CONSTANT, bytes(data[:1])
    if probe and len(data) >= _PROBE_FROM and not _shrinks(data, compress):
        return RAW, data
    frame = compress(data)
    return (ZSTD, frame) if len(frame) < len(data) else (RAW, data)


def write_streams(
    streams: Iterable[Buffer], encode: Callable[[Buffer], tuple[int, Buffer]] = encode_plane
) -> list[Buffer]:
    """The pieces of a payload: the table, then what each stream is stored as."""
    stored = [encode(stream) for stream in streams if len(stream)]
    table = b"".join(DESCRIPTOR.pack(kind, len(data)) for kind, data in stored)
    return [table, *(data for _, data in stored)]


def read_streams(
    payload: Buffer, lengths: Sequence[int], decompress: Decompress = frames.decompress
) -> list[Buffer]:
    """The streams of a payload; raw ones are views of it.

    Args:
        payload: the whole payload.
        lengths: the length of every stream, zero included.
        decompress: opens a zstd frame of known length.

    Raises:
        IntegrityError: the payload is not one of streams with these lengths.
    """
    view = memoryview(payload)
    position = DESCRIPTOR.size * sum(1 for length in lengths if length)
    if len(view) < position:
        raise IntegrityError("block payload is shorter than its stream table")
    descriptors = DESCRIPTOR.iter_unpack(view[:position])
    streams: list[Buffer] = []
    for length in lengths:
        if not length:
            streams.append(b"")
            continue
        kind, stored = next(descriptors)
        if stored > len(view) - position:
            raise IntegrityError("stream runs past the end of its block payload")
        streams.append(_decode_stream(kind, view[position : position + stored], length, decompress))
        position += stored
    if position != len(view):
        raise IntegrityError(f"{len(view) - position} bytes too many in a block payload")
    return streams


def reopen_streams(
    pieces: Sequence[Buffer], lengths: Sequence[int], decompress: Decompress = frames.decompress
) -> list[Buffer]:
    """The streams of a payload that is still in the pieces which ``write_streams`` gave.

    What ``read_streams`` gives for the joined pieces, without joining them.
    """
    stored = iter(zip(DESCRIPTOR.iter_unpack(pieces[0]), pieces[1:], strict=True))
    streams: list[Buffer] = []
    for length in lengths:
        if not length:
            streams.append(b"")
            continue
        (kind, size), data = next(stored)
        if size != len(data):
            raise IntegrityError("stream table does not state the length of its stream")
        streams.append(_decode_stream(kind, memoryview(data), length, decompress))
    return streams


def is_constant(data: Buffer) -> bool:
    """Whether all bytes of a non-empty buffer are equal."""
    view = memoryview(data)
    first = view[0]
    if view[-1] != first or view[len(view) // 2] != first:
        return False
    pattern = bytes((first,)) * min(len(view), _COMPARE)
    for start in range(0, len(view), _COMPARE):
        part = view[start : start + _COMPARE].tobytes()
        if part != (pattern if len(part) == len(pattern) else pattern[: len(part)]):
            return False
    return True


def _shrinks(data: Buffer, compress: Compress) -> bool:
    view = memoryview(data)
    step = (len(view) - _PROBE_SLICE) // (_PROBE_SLICES - 1)
    probe = b"".join(view[i * step : i * step + _PROBE_SLICE] for i in range(_PROBE_SLICES))
    return len(compress(probe)) < _PROBE_RATIO * len(probe)


@lru_cache(maxsize=4)
def _constant(byte: bytes, length: int) -> bytes:
    """A constant plane; most are zero and of one length, and a chain of deltas asks for many."""
    return byte * length


def _decode_stream(kind: int, stored: memoryview, length: int, decompress: Decompress) -> Buffer:
    if kind == ZSTD:
        return decompress(stored, length)
    if kind == RAW:
        if len(stored) != length:
            raise IntegrityError(f"raw stream has {len(stored)} bytes instead of {length}")
        return stored
    if kind == CONSTANT:
        if len(stored) != 1:
            raise IntegrityError(f"constant stream has {len(stored)} bytes instead of 1")
        return _constant(stored.tobytes(), length)
    raise IntegrityError(f"unknown stream kind {kind}")
