"""Reading git's objects through one long-lived ``git cat-file``."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Self

from coral_git.errors import GitError
from coral_git.git.command import Git, Process

_WINDOW = 256
"""Requests in flight at once: few enough to fit into the pipe, so that neither side blocks."""


class CatFile:
    """Reads blobs; ``git cat-file --batch-check`` and ``--batch`` are started when first needed.

    Args:
        git: where to run it.
    """

    def __init__(self, git: Git) -> None:
        self._git = git
        self._batch: Process | None = None
        self._check: Process | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def blob(self, spec: bytes, max_size: int | None = None) -> tuple[str, bytes] | None:
        """A blob by id or by a name such as ``b":path"``.

        Args:
            spec: what names it.
            max_size: a larger one is not read.

        Returns:
            The id in hexadecimal and the content; None where there is no such blob, or it is too large.
        """
        if b"\n" in spec:  # cannot be asked for line by line
            return self._blob_apart(spec, max_size)
        if max_size is not None:
            found = self.info(spec)
            if found is None or found[1] != "blob" or found[2] > max_size:
                return None
            spec = found[0].encode()
        if self._batch is None:
            self._batch = self._git.start("cat-file", "--batch")
        header = _ask(self._batch, spec)
        if header is None:
            return None
        oid, kind, size = header
        content = _read(self._batch, size + 1)[:-1]
        return (oid, content) if kind == "blob" else None

    def info(self, spec: bytes) -> tuple[str, str, int] | None:
        """Id, type and size of an object, or None where there is none."""
        if self._check is None:
            self._check = self._git.start("cat-file", "--batch-check")
        return _ask(self._check, spec)

    def sizes(self, oids: Iterable[str]) -> Iterator[tuple[str, str, int]]:
        """Id, type and size of many objects, in order; missing ones are left out."""
        if self._check is None:
            self._check = self._git.start("cat-file", "--batch-check")
        window: list[str] = []
        for oid in oids:
            window.append(oid)
            if len(window) == _WINDOW:
                yield from _ask_many(self._check, window)
                window = []
        if window:
            yield from _ask_many(self._check, window)

    def close(self) -> None:
        """End the children."""
        for process in (self._batch, self._check):
            if process is not None:
                assert process.stdin is not None
                assert process.stdout is not None
                process.stdin.close()
                process.stdout.close()
                process.wait()
        self._batch = self._check = None

    def _blob_apart(self, spec: bytes, max_size: int | None) -> tuple[str, bytes] | None:
        try:
            oid = self._git.run("rev-parse", "--verify", "--quiet", spec.decode("utf-8", "surrogateescape"))
        except GitError:
            return None
        return self.blob(oid.strip(), max_size)


def blob_oid(data: bytes, object_format: str) -> bytes:
    """The raw id that git gives a blob.

    Args:
        data: the content.
        object_format: ``"sha1"`` or ``"sha256"``.
    """
    hasher = hashlib.new(object_format, b"blob %d\0" % len(data), usedforsecurity=False)
    hasher.update(data)
    return hasher.digest()


def _ask(process: Process, spec: bytes) -> tuple[str, str, int] | None:
    assert process.stdin is not None
    process.stdin.write(spec + b"\n")
    process.stdin.flush()
    return _answer(process)


def _ask_many(process: Process, oids: list[str]) -> Iterator[tuple[str, str, int]]:
    assert process.stdin is not None
    process.stdin.write("".join(f"{oid}\n" for oid in oids).encode())
    process.stdin.flush()
    for _ in oids:
        answer = _answer(process)
        if answer is not None:
            yield answer


def _answer(process: Process) -> tuple[str, str, int] | None:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise GitError("git cat-file ended unexpectedly")
    fields = line.split()
    if len(fields) != 3 or not fields[2].isdigit():
        return None  # "<spec> missing", "<spec> ambiguous"
    return fields[0].decode(), fields[1].decode(), int(fields[2])


def _read(process: Process, size: int) -> bytes:
    assert process.stdout is not None
    data = process.stdout.read(size)
    if len(data) != size:
        raise GitError("git cat-file ended unexpectedly")
    return data
