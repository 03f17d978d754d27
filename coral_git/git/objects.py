"""Reading git's objects through long-lived ``git cat-file`` children."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Self

from coral_git.errors import GitError
from coral_git.git.command import Git, Process

_WINDOW = 256
"""Requests in flight at once: few enough to fit into the pipe, so that neither side blocks."""

ObjectInfo = tuple[str, str, int]
"""Id in hexadecimal, type and size of an object."""


class CatFile:
    """Reads blobs; ``git cat-file --batch-check`` and ``--batch`` are started when first needed.

    Two children instead of one ``--batch-command`` (git 2.36), so that the size is known before a content is
    sent, with every git. A child reads the index once, at the first name such as ``:path``: after ``close``,
    new children see the new index. Several threads may use one reader.

    Args:
        git: where to run it.
    """

    def __init__(self, git: Git) -> None:
        self._git = git
        self._batch = _Child(git, "--batch")
        self._check = _Child(git, "--batch-check")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def blob(self, spec: bytes, max_size: int | None = None) -> tuple[str, bytes] | None:
        """A blob by id or by a name such as ``b":path"`` or ``b"HEAD:path"``.

        Args:
            spec: what names it.
            max_size: a larger one is not read.

        Returns:
            The id in hexadecimal and the content; None where there is no such blob, the name is ambiguous, or
            it is too large.

        Raises:
            GitError: git failed, e.g. because the object is damaged.
        """
        if max_size is not None or b"\n" in spec:
            found = self.info(spec)
            if found is None or found[1] != "blob" or (max_size is not None and found[2] > max_size):
                return None
            spec = found[0].encode()
        answer = self._batch.ask(spec)
        if answer is None or answer[0][1] != "blob":
            return None
        (oid, _, _), content = answer
        return oid, content

    def contents(self, oids: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """Many blobs by id, in order, each with its content; what is missing or no blob is left out.

        They are held a window at a time: ask for small ones only, after ``sizes``.

        Raises:
            GitError: git failed.
        """
        rest = iter(oids)
        while window := [oid.encode() for oid in islice(rest, _WINDOW)]:
            for found in self._batch.ask_many(window):
                if found is not None and found[0][1] == "blob":
                    yield found[0][0], found[1]

    def info(self, spec: bytes) -> ObjectInfo | None:
        """Id, type and size of an object, or None where there is none.

        Raises:
            GitError: git failed.
        """
        if b"\n" in spec:  # cannot be asked for line by line
            answer = self._git.run("rev-parse", "--verify", "--quiet", os.fsdecode(spec), check=False)
            spec = answer.strip()
            if not spec:
                return None
        found = self._check.ask(spec)
        return None if found is None else found[0]

    def sizes(self, oids: Iterable[str]) -> Iterator[ObjectInfo]:
        """Id, type and size of many objects, in order; missing ones are left out.

        Raises:
            GitError: git failed.
        """
        rest = iter(oids)
        while window := [oid.encode() for oid in islice(rest, _WINDOW)]:
            for found in self._check.ask_many(window):
                if found is not None:
                    yield found[0]

    def close(self) -> None:
        """End the children; the next question starts new ones."""
        self._batch.close()
        self._check.close()


class _Child:
    """One ``git cat-file``; after any failure it is ended, so that no answer can be taken for another one."""

    def __init__(self, git: Git, mode: str) -> None:
        self._git = git
        self._mode = mode
        self._process: Process | None = None
        self._lock = threading.Lock()

    def ask(self, spec: bytes) -> tuple[ObjectInfo, bytes] | None:
        """The answer to one question."""
        return self.ask_many([spec])[0]

    def ask_many(self, specs: list[bytes]) -> list[tuple[ObjectInfo, bytes] | None]:
        """The answers to a few questions, all sent before the first answer is read."""
        with self._lock:
            try:
                if self._process is None:
                    self._process = self._git.start("cat-file", self._mode)
                _send(self._process, specs)
                return [self._receive(self._process) for _ in specs]
            except BaseException as error:
                self._end()
                if isinstance(error, OSError):
                    raise GitError("git cat-file ended unexpectedly") from error
                raise

    def close(self) -> None:
        """End the child."""
        with self._lock:
            self._end()

    def _receive(self, process: Process) -> tuple[ObjectInfo, bytes] | None:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.endswith(b"\n"):
            raise GitError("git cat-file ended unexpectedly")
        fields = line.split()
        if len(fields) != 3 or not fields[2].isdigit():
            return None  # "<spec> missing", "<spec> ambiguous"
        found = fields[0].decode(), fields[1].decode(), int(fields[2])
        if self._mode != "--batch":
            return found, b""
        content = process.stdout.read(found[2])
        if len(content) != found[2] or process.stdout.read(1) != b"\n":
            raise GitError(f"git cat-file ended in the middle of {found[0]}")
        return found, content

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        process.wait()


def blob_oid(data: bytes, object_format: str) -> bytes:
    """The raw id that git gives a blob.

    Args:
        data: the content.
        object_format: ``"sha1"`` or ``"sha256"``.
    """
    hasher = hashlib.new(object_format, b"blob %d\0" % len(data), usedforsecurity=False)
    hasher.update(data)
    return hasher.digest()


def _send(process: Process, specs: list[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.write(b"".join(spec + b"\n" for spec in specs))
    process.stdin.flush()
