"""Git's packet lines (``gitprotocol-common(5)``), read and written many at a time.

A packet is four hexadecimal digits, its length with these four, and its payload; ``0000`` ends a list. The
module imports next to nothing, because the handshake of the filter process waits for it.
"""

from __future__ import annotations

import io
import os

from coral_git.errors import GitError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from coral_git.types import Buffer

MAX_PAYLOAD = 65516
"""Bytes that a packet carries at most."""

FLUSH = b"0000"
"""The packet that ends a list."""

BUFFER_BYTES = 1 << 20
"""Length of the buffer that packets are read into, and of a pipe as we ask for it."""

_HEADER = 4
_MAX_PACKET = MAX_PAYLOAD + _HEADER
_MAX_PIECES = 64


class PipeClosed(Exception):
    """The other side closed the pipe in the middle of a conversation."""


class PacketReader:
    """Packets from a pipe, parsed in place in one buffer that is filled by large reads.

    Args:
        fd: the descriptor to read from; it stays open.
        capacity: length of the buffer; at least one packet fits in any case.
    """

    __slots__ = ("_buffer", "_end", "_file", "_start")

    def __init__(self, fd: int, capacity: int = BUFFER_BYTES) -> None:
        self._file = io.FileIO(fd, closefd=False)
        self._buffer = memoryview(bytearray(max(capacity, _MAX_PACKET)))
        self._start = 0
        self._end = 0

    def read(self) -> memoryview | None:
        """The payload of the next packet, valid until the next call; None for a flush.

        Raises:
            PipeClosed: the pipe was closed.
            GitError: what came is no packet.
        """
        self._require(_HEADER)
        length = _parse_length(self._buffer[self._start : self._start + _HEADER])
        if length == 0:
            self._start += _HEADER
            return None
        self._require(length)
        payload = self._buffer[self._start + _HEADER : self._start + length]
        self._start += length
        return payload

    def read_lines(self) -> list[bytes]:
        """The text packets up to the next flush, each without the one line feed at its end.

        Raises:
            PipeClosed: the pipe was closed before the flush.
            GitError: what came is no packet.
        """
        lines = []
        while (packet := self.read()) is not None:
            lines.append(bytes(packet).removesuffix(b"\n"))
        return lines

    def at_end(self) -> bool:
        """Wait for the next packet; True when the pipe was closed instead."""
        return self._start == self._end and not self._fill()

    def _require(self, count: int) -> None:
        while self._end - self._start < count:
            if not self._fill():
                raise PipeClosed("git closed the pipe in the middle of a request")

    def _fill(self) -> bool:
        """Move what is left to the front, at most one packet, and read as much as there is behind it."""
        left = self._end - self._start
        if self._start:
            self._buffer[:left] = self._buffer[self._start : self._end]
            self._start, self._end = 0, left
        count = self._file.readinto(self._buffer[left:])
        self._end += count or 0
        return bool(count)


class PacketWriter:
    """Packets into a pipe, several of them with one system call.

    Texts and short pieces are collected; ``flush`` sends what is left.

    Every method raises ``PipeClosed`` when nobody reads any more.

    Args:
        fd: the descriptor to write to; it stays open.
    """

    __slots__ = ("_fd", "_ready", "_short")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._ready: list[Buffer] = []
        self._short = bytearray()

    def write_lines(self, *lines: bytes) -> None:
        """Queue text packets and the flush packet that ends their list."""
        self._close_packet()
        self._ready.append(b"".join(encode_packet(line + b"\n") for line in lines) + FLUSH)

    def write_end(self) -> None:
        """Queue the flush packet that ends content."""
        self._close_packet()
        self._ready.append(FLUSH)

    def write_content(self, piece: Buffer) -> None:
        """Send content in packets as long as possible; afterwards the caller may reuse the piece."""
        view = memoryview(piece).cast("B")
        head = MAX_PAYLOAD - len(self._short)
        if len(view) < head:
            self._short += view
            return
        self._ready += (b"%04x" % _MAX_PACKET, self._short, view[:head])
        self._short = bytearray()
        offset = head
        while len(view) - offset >= MAX_PAYLOAD:
            self._ready += (b"%04x" % _MAX_PACKET, view[offset : offset + MAX_PAYLOAD])
            offset += MAX_PAYLOAD
        self._send()
        self._short += view[offset:]

    def flush(self) -> None:
        """Send what is queued."""
        self._close_packet()
        self._send()

    def _close_packet(self) -> None:
        if self._short:
            self._ready += (b"%04x" % (len(self._short) + _HEADER), self._short)
            self._short = bytearray()

    def _send(self) -> None:
        pieces, self._ready = self._ready, []
        try:
            for start in range(0, len(pieces), _MAX_PIECES):
                _write_all(self._fd, pieces[start : start + _MAX_PIECES])
        except BrokenPipeError:
            raise PipeClosed("git closed the pipe before it had the whole answer") from None


def encode_packet(payload: bytes) -> bytes:
    """One packet.

    Raises:
        GitError: the payload is too long.
    """
    if len(payload) > MAX_PAYLOAD:
        raise GitError(f"a packet for git cannot hold {len(payload)} bytes")
    return b"%04x%s" % (len(payload) + _HEADER, payload)


def _parse_length(header: memoryview) -> int:
    """Length of a packet with its header, 0 for a flush."""
    try:
        digits = bytes.fromhex(str(header, "ascii"))
    except ValueError:
        digits = b""
    length = int.from_bytes(digits, "big")
    if len(digits) != 2 or 0 < length < _HEADER or length > _MAX_PACKET:
        raise GitError(f"git sent something that is no packet: {bytes(header)!r}")
    return length


def _write_all(fd: int, pieces: list[Buffer]) -> None:
    """Write pieces back to back; short writes are continued."""
    if not hasattr(os, "writev"):
        pieces = [b"".join(pieces)]
    while pieces:
        written = os.writev(fd, pieces) if hasattr(os, "writev") else os.write(fd, pieces[0])
        done = 0
        while done < len(pieces) and written >= len(pieces[done]):
            written -= len(pieces[done])
            done += 1
        pieces = pieces[done:]
        if written:
            pieces[0] = memoryview(pieces[0])[written:]
