"""Writing a file of objects in git's own pack format (``gitformat-pack``), without compression.

``git hash-object`` would be started several times, and would write every part to a file of its own first.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from types import TracebackType
from typing import Self

from coral_git import fsops

_TYPES = {"commit": 1, "tree": 2, "blob": 3}


def object_name(kind: str, data: bytes, object_format: str) -> str:
    """The id that git gives to an object, in hexadecimal digits.

    Args:
        kind: ``"blob"``, ``"tree"`` or ``"commit"``.
        data: its content.
        object_format: ``"sha1"`` or ``"sha256"``.
    """
    digest = hashlib.new(object_format, b"%b %d\0" % (kind.encode(), len(data)), usedforsecurity=False)
    digest.update(data)
    return digest.hexdigest()


class GitPackWriter:
    """Writes objects into a new pack file; leaving the ``with`` block by an error removes it.

    Args:
        path: the file to create.
        count: how many objects will be added.
        object_format: ``"sha1"`` or ``"sha256"``.
    """

    __slots__ = ("_digest", "_fd", "_path")

    def __init__(self, path: str, count: int, object_format: str) -> None:
        self._path = path
        self._digest = hashlib.new(object_format, usedforsecurity=False)
        self._fd = fsops.create_exclusive(path)
        try:
            self._write(b"PACK" + (2).to_bytes(4, "big") + count.to_bytes(4, "big"))
        except BaseException:
            fsops.discard(self._fd, path)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            fsops.discard(self._fd, self._path)
            return
        try:
            fsops.write_all(self._fd, self._digest.digest(), self._path)
        finally:
            os.close(self._fd)

    def add(self, kind: str, data: bytes) -> None:
        """Append an object; adding one twice is the caller's mistake."""
        length = len(data)
        byte = _TYPES[kind] << 4 | length & 15
        length >>= 4
        header = bytearray()
        while length:
            header.append(byte | 0x80)
            byte = length & 0x7F
            length >>= 7
        header.append(byte)
        self._write(bytes(header) + zlib.compress(data, 0))

    def _write(self, data: bytes) -> None:
        self._digest.update(data)
        fsops.write_all(self._fd, data, self._path)
