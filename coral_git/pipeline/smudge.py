"""A manifest into its file: what ``git checkout`` does with weights.

Git holds a whole smudged file in memory and pipes it. Where the result goes to the work tree, the
manifest itself is therefore the answer, and the file is written directly when git has finished
(``checkout.py``); elsewhere, and where something would run in between, the bytes go through the pipe.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator

from coral_git import fsops
from coral_git.errors import FormatVersionError, InvalidManifestError
from coral_git.git.hook_folder import has_foreign_hook
from coral_git.manifest.model import Manifest
from coral_git.manifest.parse import claims_manifest, parse
from coral_git.pipeline.decode import expanded, stream_file
from coral_git.pipeline.messages import missing_message, warn
from coral_git.pipeline.missing import bring_objects
from coral_git.pipeline.parallel import Workers
from coral_git.pipeline.source import FileSource
from coral_git.pipeline.workspace import Workspace
from coral_git.types import Buffer

_PASSED_BYTES = 1 << 20


def receive_text(workspace: Workspace, content: Iterable[Buffer]) -> bytes | FileSource:
    """What git has stored for the path: the text of a manifest, or a source of anything longer."""
    pieces: list[bytes] = []
    length = 0
    spool: int | None = None
    for piece in content:
        length += len(piece)
        if spool is None and length > workspace.limits.manifest_bytes:
            path = os.path.join(workspace.store.layout.incoming, fsops.unique_name("spool"))
            spool = fsops.create_exclusive(path, 0o600)
            os.unlink(path)
            fsops.write_pieces(spool, pieces, "spool")
        if spool is None:
            pieces.append(bytes(piece))
        else:
            fsops.write_all(spool, piece, "spool")
    return b"".join(pieces) if spool is None else FileSource(spool, os.fstat(spool), None)


def parse_for_checkout(workspace: Workspace, path: bytes, text: bytes) -> Manifest | None:
    """The manifest that a stored text is; None, after a message, where it is data or damaged."""
    if not claims_manifest(text):
        return None
    try:
        return parse(text, workspace.limits)
    except (InvalidManifestError, FormatVersionError) as error:
        warn(f"'{os.fsdecode(path)}' stays a text: {error.message}", error.hint)
        return None


def may_defer(workspace: Workspace, size: int) -> bool:
    """Whether a file that goes to the work tree may be written after git has finished."""
    if not workspace.settings.defer_smudge or sys.platform == "win32":
        return False
    if _is_automation() and size <= workspace.limits.inline_smudge_bytes:
        return False  # a missing or damaged object must fail the job, and only an inline answer can
    hooks_path = workspace.config.get("core.hooksPath")
    if any(has_foreign_hook(workspace.paths, name, hooks_path) for name in ("post-checkout", "post-merge")):
        return False
    return not _rebase_executes(workspace)


def _is_automation() -> bool:
    """Whether a job runs this and not a person, who would read a warning."""
    return os.environ.get("CI", "").lower() in ("true", "1")


def _rebase_executes(workspace: Workspace) -> bool:
    """Whether a rebase in progress has commands of the user's to run between its picks."""
    try:
        with open(os.path.join(workspace.paths.git_dir, "rebase-merge", "git-rebase-todo"), "rb") as todo:
            return any(line.split(b" ", 1)[0] in (b"exec", b"x") for line in todo)
    except OSError:
        return False


def smudge_inline(
    workspace: Workspace, path: bytes, text: bytes, manifest: Manifest
) -> bytes | Iterator[Buffer]:
    """The bytes of the file, decoded ahead; the manifest itself when an object cannot be had.

    Raises:
        ObjectMissingError: an object is missing, and ``coral.strict`` or ``CI`` is set.
    """
    missing = bring_objects(workspace, [(path, manifest)])
    if missing:
        error = missing_message(path, manifest, missing)
        if workspace.settings.strict or _is_automation():
            raise error
        warn(error.message, error.hint)
        return text
    return _stream(workspace, expanded(manifest, workspace.store))


def _stream(workspace: Workspace, manifest: Manifest) -> Iterator[Buffer]:
    with Workers(workspace.settings.threads) as workers:
        yield from stream_file(manifest, workspace.store, workers)


def pass_through(source: FileSource) -> Iterator[Buffer]:
    """The bytes of a file that git has stored raw."""
    try:
        for offset in range(0, source.size, _PASSED_BYTES):
            yield source.read_at(offset, _PASSED_BYTES)
    finally:
        source.close()
