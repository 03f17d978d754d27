"""A file that is written beside its place, and takes its name when it is complete."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import BinaryIO

from coral_git import fsops
from coral_git.errors import from_os_error


class ReplacedFile:
    """A file that takes its name when all of it is written and on the disk.

    Args:
        out: the name; a file there is replaced.
    """

    def __init__(self, out: str) -> None:
        self._out = out
        folder, name = os.path.split(os.path.abspath(out))
        self._temporary = os.path.join(folder, fsops.unique_name(f".{name}"))
        self._file: BinaryIO | None = None

    def __enter__(self) -> BinaryIO:
        try:
            fd = fsops.create_exclusive(self._temporary)
        except OSError as error:
            raise from_os_error(error, f"write '{self._out}'") from error
        self._file = os.fdopen(fd, "w+b")
        return self._file

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        assert self._file is not None
        try:
            if kind is None:
                self._file.flush()
                fsops.sync_file(self._file.fileno(), self._out)
                fsops.rename(self._temporary, self._out)
                self._temporary = ""
        except OSError as failed:
            raise from_os_error(failed, f"write '{self._out}'") from failed
        finally:
            with suppress(OSError):
                self._file.close()
            if self._temporary:
                with suppress(OSError):
                    os.unlink(self._temporary)
        if isinstance(error, OSError):
            raise from_os_error(error, f"write '{self._out}'") from error
