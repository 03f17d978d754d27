"""Packet lines through real pipes."""

from __future__ import annotations

import os
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coral_git.errors import GitError
from coral_git.git.pktline import FLUSH, MAX_PAYLOAD, PacketReader, PacketWriter, PipeClosed, encode_packet

sizes = st.sampled_from(
    [0, 1, 5, MAX_PAYLOAD - 1, MAX_PAYLOAD, MAX_PAYLOAD + 1, 3 * MAX_PAYLOAD + 7, 1 << 20]
)


class Pipe:
    """A pipe whose reader gets what ``feed`` writes, however long that is."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()

    def feed(self, data: bytes, pieces: list[int] | None = None) -> PacketReader:
        def write() -> None:
            with os.fdopen(self.writing, "wb", buffering=0) as file:
                rest = memoryview(data)
                for size in pieces or ():
                    if rest:
                        rest = rest[file.write(rest[:size]) :]
                while rest:
                    rest = rest[file.write(rest) :]

        self.thread = threading.Thread(target=write)
        self.thread.start()
        return PacketReader(self.reading, capacity=1)

    def close(self) -> None:
        os.close(self.reading)
        self.thread.join()


def read_all(data: bytes, pieces: list[int] | None = None) -> list[bytes | None]:
    pipe = Pipe()
    try:
        reader = pipe.feed(data, pieces)
        packets = []
        while not reader.at_end():
            packet = reader.read()
            packets.append(None if packet is None else bytes(packet))
        return packets
    finally:
        pipe.close()


def written_by(use) -> bytes:
    """The bytes that ``use(writer)`` sends."""
    reading, writing = os.pipe()
    received = bytearray()

    def read() -> None:
        while piece := os.read(reading, 1 << 16):
            received.extend(piece)

    thread = threading.Thread(target=read)
    thread.start()
    try:
        use(PacketWriter(writing))
    finally:
        os.close(writing)
        thread.join()
        os.close(reading)
    return bytes(received)


def test_golden_bytes():
    def use(writer):
        writer.write_lines(b"status=success")
        writer.write_content(b"abc")
        writer.write_content(b"de")
        writer.write_end()
        writer.write_lines()
        writer.flush()

    assert written_by(use) == b"0013status=success\n00000009abcde00000000"
    assert encode_packet(b"") == b"0004"
    assert encode_packet(bytes(MAX_PAYLOAD))[:4] == b"fff0"


@settings(max_examples=40, deadline=None)
@given(st.lists(st.binary(max_size=40) | st.none(), max_size=30), st.lists(st.integers(1, 9), max_size=40))
def test_packets_come_back_however_they_are_split(packets, pieces):
    data = b"".join(FLUSH if packet is None else encode_packet(packet) for packet in packets)
    assert read_all(data, pieces) == packets


@settings(max_examples=25, deadline=None)
@given(st.lists(sizes, max_size=6))
def test_content_comes_back_in_full_packets(lengths):
    pieces = [bytes([number + 1]) * length for number, length in enumerate(lengths)]

    def use(writer):
        for piece in pieces:
            reused = bytearray(piece)
            writer.write_content(memoryview(reused))
            reused[:] = bytes(len(reused))  # the caller may do that
        writer.write_end()
        writer.flush()

    *packets, end = read_all(written_by(use))
    assert end is None
    assert b"".join(packets) == b"".join(pieces)
    assert all(len(packet) == MAX_PAYLOAD for packet in packets[:-1])
    assert all(packets)


def test_only_one_line_feed_is_taken_off():
    pipe = Pipe()
    reader = pipe.feed(b"0008a=b\n" + encode_packet(b"pathname=x\n\n") + encode_packet(b"bare") + FLUSH)
    assert reader.read_lines() == [b"a=b", b"pathname=x\n", b"bare"]
    assert reader.at_end()
    pipe.close()


@pytest.mark.parametrize(
    "data",
    [b"0001", b"0003", b"fff1", b"0x1f", b"+005a", b" 005a", b"00 5", b"zzzz", b"\xc3\xa900", b"HTTP/1.1"],
)
def test_what_is_no_packet(data):
    with pytest.raises(GitError, match="no packet"):
        read_all(data)


@pytest.mark.parametrize("data", [b"0", b"000", b"0005", b"0009ab", b"FFF0" + bytes(MAX_PAYLOAD - 1)])
def test_a_pipe_that_ends_in_a_packet(data):
    with pytest.raises(PipeClosed):
        read_all(data)


def test_a_list_without_its_flush():
    pipe = Pipe()
    with pytest.raises(PipeClosed):
        pipe.feed(encode_packet(b"a")).read_lines()
    pipe.close()


def test_nobody_reads():
    reading, writing = os.pipe()
    os.close(reading)
    writer = PacketWriter(writing)
    writer.write_content(b"x")
    with pytest.raises(PipeClosed):
        writer.flush()
    os.close(writing)


def test_a_packet_that_is_too_long():
    with pytest.raises(GitError):
        encode_packet(bytes(MAX_PAYLOAD + 1))
