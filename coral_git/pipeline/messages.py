"""What the pipeline tells the user, in git's manner, on stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from coral_git.errors import ObjectMissingError
from coral_git.manifest.escape import escape_name, printable
from coral_git.manifest.model import Manifest
from coral_git.types import ObjectId

_NAMED = 3


def say(message: str) -> None:
    """Print a line on stderr."""
    print(f"coral: {message}", file=sys.stderr, flush=True)


def warn(message: str, hint: str = "") -> None:
    """Print a warning, and a hint when there is one."""
    print(f"warning: {message}", file=sys.stderr)
    for line in hint.splitlines():
        print(f"hint: {line}", file=sys.stderr)
    sys.stderr.flush()


def show_path(path: bytes) -> str:
    """A path for a message."""
    return printable(os.fsdecode(path))


def missing_message(
    path: bytes, manifest: Manifest, missing: Sequence[ObjectId], asked: Sequence[str] = ()
) -> ObjectMissingError:
    """The error for a file some of whose objects cannot be had; it names tensors and remotes."""
    owners = list(dict.fromkeys(filter(None, (owner_of(manifest, one) for one in missing))))
    named = ", ".join(owners[:_NAMED])
    if len(owners) > _NAMED:
        named += f" and {len(owners) - _NAMED} more"
    where = f"; asked: {', '.join(asked)}" if asked else ""
    count = f"{len(missing)} object{'s' if len(missing) != 1 else ''}"
    return ObjectMissingError(
        f"'{show_path(path)}' lacks {count} ({named}){where}",
        hint="run 'git coral fetch' where the objects can be reached, then 'git coral checkout'",
    )


def owner_of(manifest: Manifest, object_id: ObjectId) -> str:
    """What an object is in a manifest, for messages, e.g. ``tensor 'a.b'``; empty when it is unknown."""
    if object_id in manifest.rest:
        return "bytes between the tensors"
    for tensor in manifest.tensors:
        if object_id in tensor.objects:
            return f"tensor '{escape_name(tensor.name)}'"
    for index, chunk in enumerate(manifest.chunks):
        if chunk.object_id == object_id:
            return f"chunk {index + 1} of {len(manifest.chunks)}"
    for table in manifest.tables:
        if table.object_id == object_id:
            return "table"
    return ""
