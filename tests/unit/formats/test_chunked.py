"""Cut points are for ever, bounded, and survive insertions."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import dataclass

import pytest
from blake3 import blake3
from hypothesis import example, given, settings
from hypothesis import strategies as st

from coral_git.errors import CoralError
from coral_git.formats.chunked import FORMAT, MAX_CHUNK, MIN_CHUNK, NORMAL_CHUNK, chunk_file
from coral_git.formats.gear import GEAR
from coral_git.types import BytesSource

KIB = 1024
GOLDEN_NOISE = [
    236728,
    212803,
    284776,
    294206,
    278308,
    226769,
    92797,
    240332,
    454473,
    197957,
    300778,
    230300,
    76521,
    18980,
]
GOLDEN_TEXT = [209114, 256202, 236679, 567584, 471378, 232835, 55098]


def noise(length: int, seed: bytes = b"noise") -> bytes:
    """The same bytes on every machine."""
    return blake3(seed).digest(length=length)


def lengths(data: bytes) -> list[int]:
    """The lengths of the chunks, after a check that they tile the data within their bounds."""
    chunks = list(chunk_file(BytesSource(data)))
    end = 0
    for offset, length in chunks:
        assert offset == end
        assert 0 < length <= MAX_CHUNK
        end += length
    assert end == len(data)
    assert all(length >= MIN_CHUNK for _, length in chunks[:-1])
    return [length for _, length in chunks]


def pieces(data: bytes) -> list[bytes]:
    return [data[offset : offset + length] for offset, length in chunk_file(BytesSource(data))]


def slow_lengths(data: bytes) -> list[int]:
    """The definition, one byte at a time."""
    gear = [int.from_bytes(GEAR[4 * n : 4 * n + 4], "little") for n in range(256)]
    found = []
    start = value = 0
    for position, byte in enumerate(data):
        length = position - start
        bound = 1 << 12 if length < NORMAL_CHUNK else 1 << 16
        if length == MAX_CHUNK or (length >= MIN_CHUNK and value < bound):
            found.append(length)
            start = position
        value = (value * 2 + gear[byte]) % (1 << 32)
    if data:
        found.append(len(data) - start)
    return found


def test_the_table_is_what_it_says() -> None:
    derived = b"".join(hashlib.sha256(b"coral-git gear %d" % n).digest()[:4] for n in range(256))
    assert derived == GEAR


def test_cut_points_are_these_for_ever() -> None:
    assert FORMAT == "chunks/1"
    assert lengths(noise(3 * 1024 * KIB)) == GOLDEN_NOISE
    text = b"".join(b"%d bottles of beer on the wall\n" % n for n in range(60_000))
    assert lengths(text) == GOLDEN_TEXT


@pytest.mark.parametrize("seed", [b"one", b"two"])
def test_cut_points_are_those_of_the_definition(seed: bytes) -> None:
    data = noise(700 * KIB, seed) + bytes(1100 * KIB) + noise(100 * KIB, seed)
    assert lengths(data) == slow_lengths(data)


@pytest.mark.parametrize("length", [0, 1, MIN_CHUNK - 1, MIN_CHUNK])
def test_a_small_file_is_one_chunk(length: int) -> None:
    assert lengths(noise(length)) == ([length] if length else [])


@settings(max_examples=8, deadline=None)
@given(st.integers(MIN_CHUNK - 2, 3 * MIN_CHUNK), st.binary(min_size=1, max_size=3))
@example(MIN_CHUNK + 1, b"\0")
@example(2 * MIN_CHUNK, b"\0")
@example(2 * MIN_CHUNK + 1, b"\0")
def test_any_length_is_tiled(length: int, seed: bytes) -> None:
    data = noise(length, seed)
    assert lengths(data) == slow_lengths(data)


def test_constant_data_is_cut_at_the_bounds() -> None:
    for byte in range(0, 256, 15):
        length = 2 * MAX_CHUNK + 7
        found = lengths(bytes([byte]) * length)
        assert found in ([MAX_CHUNK, MAX_CHUNK, 7], [MIN_CHUNK] * 32 + [7])
    assert lengths(bytes(length)) == [MAX_CHUNK, MAX_CHUNK, 7]
    assert lengths(b"\xff" * length) == [MAX_CHUNK, MAX_CHUNK, 7]


def test_chunks_have_the_size_they_should() -> None:
    found = lengths(noise(32 * 1024 * KIB))[:-1]
    assert 200 * KIB < sum(found) / len(found) < 300 * KIB
    assert len(set(found)) > len(found) // 2


@pytest.mark.parametrize("position", [0, 100_000, 4_000_000, 8_000_000 - 1])
def test_an_insertion_keeps_most_chunks(position: int) -> None:
    data = noise(8_000_000)
    before = set(pieces(data))
    for inserted in (b"x", noise(5000, b"other")):
        after = pieces(data[:position] + inserted + data[position:])
        assert len([piece for piece in after if piece not in before]) <= 4
    after = pieces(data[:position] + data[position + 999 :])
    assert len([piece for piece in after if piece not in before]) <= 4


@dataclass
class Shrinking:
    """A file that loses its end while it is read."""

    data: bytes
    size: int

    def read_at(self, offset: int, length: int) -> bytes:
        return self.data[offset : offset + length]


def test_a_file_that_shrinks_is_an_error() -> None:
    source = Shrinking(noise(100_000), 10_000_000)
    with pytest.raises(CoralError, match="became shorter"):
        list(chunk_file(source))


@dataclass
class Counting:
    """A huge file of zeros that knows what was asked of it."""

    size: int
    longest: int = 0
    total: int = 0

    def read_at(self, offset: int, length: int) -> bytes:
        self.longest = max(self.longest, length)
        self.total += length
        return bytes(min(length, self.size - offset))


def test_memory_does_not_grow_with_the_file() -> None:
    source = Counting(64 << 20)
    assert sum(length for _, length in chunk_file(source)) == source.size
    assert source.longest < 2 * MIN_CHUNK
    assert source.total <= source.size * 1.01


def test_numpy_is_not_imported_for_small_files() -> None:
    code = """
import sys
from coral_git.formats.chunked import chunk_file
from coral_git.formats.registry import read_layout
from coral_git.limits import DEFAULT_LIMITS
from coral_git.manifest import build, model, parse, render
from coral_git.types import BytesSource
assert list(chunk_file(BytesSource(bytes(65536)))) == [(0, 65536)]
assert read_layout(BytesSource(b"abc"), DEFAULT_LIMITS) is None
slow = {"numpy", "json", "importlib.metadata", "logging", "tempfile", "subprocess", "asyncio"}
sys.exit(" ".join(slow & set(sys.modules)) or 0)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
