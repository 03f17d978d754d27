"""Which commit a file comes from: by its SHA-256, else by the tensors that it shares."""

from __future__ import annotations

import hashlib
import os
from typing import NamedTuple

from coral_git.diff.version import describe
from coral_git.errors import UsageError
from coral_git.history.changes import FileChange, WeightCommit, weight_commits
from coral_git.history.commits import walk
from coral_git.manifest.entries import Manifest
from coral_git.manifest.escape import printable
from coral_git.manifest.model import object_ids
from coral_git.pipeline.parallel import Workers
from coral_git.pipeline.source import FileSource, open_regular
from coral_git.pipeline.workspace import Workspace

_READ_BYTES = 1 << 20
EVERYWHERE = ("--exclude=refs/coral/store/*", "--exclude=refs/notes/*", "--exclude=refs/stash", "--all")
"""Options of ``git log`` for every branch and tag, and the runs of experiments."""


class Match(NamedTuple):
    """A version of a file that was committed.

    Attributes:
        found: the commit that brought it in.
        file: the file there.
        shared: how many pieces it has in common with the file in question.
        pieces: how many the file in question has.
    """

    found: WeightCommit
    file: FileChange
    shared: int
    pieces: int


class Identity(NamedTuple):
    """What is known about a file.

    Attributes:
        sha256: its SHA-256 in hexadecimal.
        size: its bytes.
        matches: the commits that brought in exactly this file, the latest first.
        nearest: where there is none, the version that shares most tensors with it; None where none does.
    """

    sha256: str
    size: int
    matches: tuple[Match, ...]
    nearest: Match | None


def identify(workspace: Workspace, path: str) -> Identity:
    """Look a file up in the history of all branches, tags and runs.

    Args:
        workspace: the repository.
        path: the file; it may lie anywhere.

    Raises:
        UsageError: it is no regular file, or it changed while it was read.
    """
    source = open_regular(os.fsencode(path))
    if source is None:
        raise UsageError(f"'{printable(path)}' is no file that can be read")
    try:
        digest = _sha256(source)
        source.check_unchanged()
        matches = [
            Match(found, file, 0, 0)
            for found in weight_commits(workspace, walk(workspace.git, EVERYWHERE))
            for file in found.changes
            if file.new is not None and file.new.sha256.hex() == digest
        ]
        nearest = None if matches else _nearest(workspace, source)
        return Identity(digest, source.size, tuple(matches), nearest)
    finally:
        source.close()


def _nearest(workspace: Workspace, source: FileSource) -> Match | None:
    with Workers(workspace.settings.threads) as workers:
        own = set(_pieces(describe(source, workers, workspace.limits)))
    best: Match | None = None
    for found in weight_commits(workspace, walk(workspace.git, EVERYWHERE)):
        for file in found.changes:
            shared = len(own.intersection(_pieces(file.new))) if file.new is not None else 0
            if shared and (best is None or shared > best.shared):
                best = Match(found, file, shared, len(own))
    return best


def _pieces(manifest: Manifest) -> list[object]:
    """Tensors by name and content; the objects of a file without tensors."""
    if manifest.tensor_count is None:
        return list(object_ids(manifest))
    return list(manifest.tensors)


def _sha256(source: FileSource) -> str:
    digest = hashlib.sha256()
    for offset in range(0, source.size, _READ_BYTES):
        digest.update(source.read_at(offset, _READ_BYTES))
    return digest.hexdigest()
