"""Copying packs with their SHA-256 checked on the way."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator

from coral_git import fsops
from coral_git.errors import IntegrityError, PolicyError
from coral_git.remotes.base import PIECE_BYTES
from coral_git.types import PackId

_FLAGS = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


def read_pieces(path: str) -> Iterator[bytes]:
    """The bytes of a file in pieces."""
    fd = os.open(path, _FLAGS)
    try:
        while piece := os.read(fd, PIECE_BYTES):
            yield piece
    finally:
        os.close(fd)


def file_digest(path: str) -> PackId:
    """SHA-256 of a file."""
    digest = hashlib.sha256()
    for piece in read_pieces(path):
        digest.update(piece)
    return PackId(digest.digest())


def write_pack(
    pieces: Iterable[bytes],
    path: str,
    pack: PackId,
    origin: str,
    limit: int,
    *,
    mode: int = 0o666,
    fsync: bool = True,
) -> None:
    """Write a pack to a new file; it exists afterwards only when it is complete and right.

    Args:
        pieces: the bytes.
        path: the file to create.
        pack: what their SHA-256 must be.
        origin: where they come from, for the message.
        limit: most bytes that are accepted.
        mode: permissions of the file.
        fsync: whether to flush it.

    Raises:
        IntegrityError: the bytes are not those of the pack.
        PolicyError: there are more bytes than the limit.
        OSError: they cannot be written.
    """
    digest = hashlib.sha256()
    length = 0
    fd = fsops.create_exclusive(path, mode)
    try:
        for piece in pieces:
            length += len(piece)
            if length > limit:
                raise PolicyError(f"the pack {pack.hex()} in {origin} is longer than {limit} bytes")
            digest.update(piece)
            fsops.write_all(fd, piece, path)
        if digest.digest() != pack:
            raise IntegrityError(
                f"the pack {pack.hex()} in {origin} is damaged: its bytes have another SHA-256",
                hint="get it from another remote, or push it again from a repository that has it",
            )
        if fsync:
            fsops.sync_file(fd, path)
    except BaseException:
        fsops.discard(fd, path)
        raise
    os.close(fd)
