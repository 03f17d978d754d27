"""The result of a conflict, written down: git's object database, the work tree, the index.

In this order. Whatever stops it before the last step leaves the path in conflict, and the same command can be
typed again. What somebody has changed in the work tree since is not replaced.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Sequence

from coral_git.errors import PolicyError, UsageError
from coral_git.git.index import is_settled
from coral_git.manifest.parse import parse
from coral_git.merge.conflicts import Conflict, Version, is_broken
from coral_git.merge.settled import forget
from coral_git.pipeline.checkout import Pending, tell_git, write_pending
from coral_git.pipeline.messages import show_path
from coral_git.pipeline.source import FileSource, identity, open_regular
from coral_git.pipeline.workspace import Workspace
from coral_git.repository.conflicts import manifest_text, place_of

_READ_BYTES = 1 << 20


def write_result(workspace: Workspace, conflict: Conflict, text: bytes, mode: str, force: bool) -> None:
    """Put the result into git's object database, the work tree and the index.

    Args:
        workspace: the repository.
        conflict: what it is the result of.
        text: its manifest, whose objects are stored.
        mode: of the file, e.g. ``"100644"``.
        force: replace whatever the work tree has.

    Raises:
        PolicyError: the work-tree file was changed since the conflict.
        CoralError: objects are missing, or something cannot be written; the path stays in conflict.
    """
    path = conflict.path
    seen = _require_untouched(workspace, conflict, text, force)
    oid = _store_blob(workspace, text)

    def is_as_seen(fd: int | None) -> bool:
        return (None if fd is None else identity(os.fstat(fd))) == seen

    pending = Pending(path, text, parse(text, workspace.limits), is_as_seen, mode == "100755")
    outcome = write_pending(workspace, [pending])
    for error in outcome.failed.values():
        raise error
    if outcome.changed:
        raise _touched(path)
    _update_index(workspace, [f"0 {'0' * len(oid)}\t", f"{mode} {oid} 0\t"], path)
    now = time.time_ns()
    status = os.lstat(place_of(workspace, path))
    if is_settled(status, now):  # nobody has written to it since
        tell_git(workspace, {path: (bytes.fromhex(oid), status)})
    forget(workspace, path)


def take_version(workspace: Workspace, conflict: Conflict, version: Version | None, force: bool) -> None:
    """Make one version the result as it is; None deletes the file.

    Raises:
        UsageError: the version is no manifest.
        PolicyError: the work-tree file was changed since the conflict.
        CoralError: objects are missing, or something cannot be written; the path stays in conflict.
    """
    shown = show_path(conflict.path)
    if version is None:
        _require_untouched(workspace, conflict, b"", force)
        workspace.git.run("rm", "-q", "-f", "--", f":(top,literal){os.fsdecode(conflict.path)}")
        forget(workspace, conflict.path)
    elif version.manifest is None:
        raise UsageError(
            f"that version of '{shown}' is no valid manifest",
            hint=f"take it as it is: git checkout --ours -- '{shown}' or --theirs, then git add",
        )
    else:
        write_result(workspace, conflict, version.text, version.mode, force)


def make_unmerged(workspace: Workspace, conflict: Conflict) -> None:
    """Make a conflict of git's out of a broken manifest."""
    lines = []
    for number, version in enumerate((conflict.base, conflict.ours, conflict.theirs), 1):
        if version is not None:
            lines.append(f"{version.mode} {_store_blob(workspace, version.text)} {number}\t")
    nothing = "0" * len(conflict.versions[0].oid)
    _update_index(workspace, [f"0 {nothing}\t", *lines], conflict.path)


def _require_untouched(
    workspace: Workspace, conflict: Conflict, result: bytes, force: bool
) -> tuple[int, ...] | None:
    """What the work-tree file looks like, once it is known to be a version, or broken, or missing.

    Raises:
        PolicyError: it is something else, so that replacing it would lose somebody's work.
    """
    place = place_of(workspace, conflict.path)
    source = open_regular(place)
    if source is None:
        if os.path.lexists(place) and not force:
            raise _touched(conflict.path)
        return None
    try:
        if not force and not _is_version(workspace, source, conflict, result):
            raise _touched(conflict.path)
        return identity(source.status)
    finally:
        source.close()


def _is_version(workspace: Workspace, source: FileSource, conflict: Conflict, result: bytes) -> bool:
    """Whether a file is one of the versions or the result, as a manifest or as the file, or broken."""
    texts = {version.text for version in conflict.versions} | {result}
    text = manifest_text(workspace, source)
    if text:
        return text in texts or is_broken(workspace, text)
    known = [version.manifest for version in conflict.versions]
    known.append(parse(result, workspace.limits) if result else None)
    digests = {one.sha256 for one in known if one is not None and one.size == source.size}
    if not digests:
        return False
    hasher = hashlib.sha256()
    for offset in range(0, source.size, _READ_BYTES):
        hasher.update(source.read_at(offset, _READ_BYTES))
    return hasher.digest() in digests


def _touched(path: bytes) -> PolicyError:
    return PolicyError(
        f"'{show_path(path)}' was changed since the conflict",
        hint="git add it if it is what you want; --force replaces it",
    )


def _store_blob(workspace: Workspace, text: bytes) -> str:
    return workspace.git.run("hash-object", "-w", "--stdin", input=text).decode().strip()


def _update_index(workspace: Workspace, lines: Sequence[str], path: bytes) -> None:
    """Give a path other entries in the index."""
    workspace.git.run(
        "update-index", "-z", "--index-info", input=b"".join(line.encode() + path + b"\0" for line in lines)
    )
    workspace.objects.close()  # its children have read the old index
