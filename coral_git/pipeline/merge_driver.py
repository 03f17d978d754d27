"""What git calls when both sides changed the same weight file.

Two manifests of the same file are equal, whoever made them. Otherwise ours stays, as a whole and valid
file, the path is left unmerged, and one line says what to type. A manifest never gets conflict markers.
"""

from __future__ import annotations

import sys

from coral_git.errors import CoralError, UsageError
from coral_git.limits import DEFAULT_LIMITS
from coral_git.manifest.escape import printable
from coral_git.manifest.model import Manifest
from coral_git.manifest.parse import parse

_CONFLICT = 1


def merge_files(arguments: list[str]) -> int:
    """Merge ``%O %A %B %L %P``: base, ours (also the result), theirs, marker size, path.

    Returns:
        0 when both sides are the same file, 1 for a conflict.

    Raises:
        UsageError: git gave other arguments.
    """
    if len(arguments) < 5:
        raise UsageError("the merge driver takes %O %A %B %L %P", hint="git coral install")
    _, ours, theirs, _, path = arguments[:5]
    first, second = _read(ours), _read(theirs)
    if first is not None and second is not None and first.sha256 == second.sha256:
        return 0
    shown = printable(path)
    reason = "is a different file on both sides" if first and second else "is not valid on both sides"
    print(f"coral: '{shown}' {reason}; ours stays in the work tree", file=sys.stderr)
    print(f"hint: git checkout --ours -- '{shown}' or --theirs, then git add '{shown}'", file=sys.stderr)
    return _CONFLICT


def _read(path: str) -> Manifest | None:
    try:
        with open(path, "rb") as file:
            return parse(file.read(), DEFAULT_LIMITS)
    except (CoralError, OSError):
        return None
