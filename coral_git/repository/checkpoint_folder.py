"""The folder of a distributed checkpoint, opened."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from coral_git.errors import CoralError, UsageError
from coral_git.formats.base import NotThisFormat
from coral_git.formats.dcp import METADATA, Checkpoint, read_checkpoint
from coral_git.limits import Limits
from coral_git.pipeline.source import FileSource, identity, open_regular


def open_source(path: str) -> FileSource:
    """Open a file that is to be imported; a link to one will do.

    Raises:
        UsageError: it is no regular file, or cannot be read.
    """
    found = open_regular(os.fsencode(os.path.realpath(path)))
    if found is None:
        raise UsageError(f"cannot read '{path}'", hint="is it a file, and whole?")
    return found


def is_checkpoint(folder: str) -> bool:
    """Whether a folder is a distributed checkpoint."""
    return os.path.isfile(os.path.join(folder, METADATA))


@contextmanager
def open_checkpoint(folder: str, limits: Limits) -> Iterator[Checkpoint]:
    """What is in the folder of a checkpoint; its tensors can be read within the block.

    Raises:
        UsageError: it is none, or it contradicts itself or its files.
    """
    files = _Files(folder)
    try:
        source = files(METADATA)
        if source.size > limits.header_bytes:
            raise NotThisFormat("its metadata are too long")
        yield read_checkpoint(source.read_at(0, source.size), files, limits)
    except NotThisFormat as error:
        raise UsageError(f"cannot read the checkpoint '{folder}': {error}") from error
    finally:
        files.close()


class _Files:
    """Opens files of a folder; only one is open."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._current: tuple[str, FileSource] | None = None
        self._identities: dict[str, tuple[int, ...]] = {}

    def __call__(self, name: str) -> FileSource:
        """A file by its plain name, the same one as before.

        Raises:
            UsageError: it cannot be read.
            CoralError: it has changed.
        """
        if self._current is None or self._current[0] != name:
            self.close()
            source = open_source(os.path.join(self._folder, name))
            self._current = name, source
            seen = identity(source.status)
            if self._identities.setdefault(name, seen) != seen:
                raise CoralError(f"'{os.path.join(self._folder, name)}' changed while it was read")
        return self._current[1]

    def close(self) -> None:
        """Close what is open."""
        if self._current is not None:
            self._current[1].close()
            self._current = None
