"""Files that a command writes where the user says: whole, or not at all."""

from __future__ import annotations

import os

from coral_git import fsops
from coral_git.errors import from_os_error


def write_new(path: str, data: bytes) -> None:
    """Write a file, in place of one that is there.

    Raises:
        CoralError: it cannot be written; what was there is still there.
    """
    try:
        fsops.replace_file(os.path.abspath(path), data)
    except OSError as error:
        raise from_os_error(error, f"write '{path}'") from error
