"""Files named as ``REV:PATH``, as git names them."""

from __future__ import annotations

import os
import posixpath

from coral_git.errors import ObjectMissingError, UsageError
from coral_git.git.revisions import resolve_commit
from coral_git.manifest.entries import Manifest
from coral_git.manifest.escape import printable
from coral_git.pipeline.decode import expanded
from coral_git.pipeline.manifests import read_manifest
from coral_git.pipeline.messages import missing_message
from coral_git.pipeline.workspace import Workspace


def split_spec(workspace: Workspace, spec: str) -> tuple[str, bytes]:
    """Revision and path of ``REV:PATH``, ``:PATH`` (the index) or ``PATH`` (the index too).

    The path is from the root, from where the user stands when it begins with ``./`` or ``../``, or when no
    revision stands before it.

    Raises:
        UsageError: there is no such revision, or the path leads out of the repository.
    """
    revision, colon, path = spec.partition(":")
    if not colon:
        revision, path = "", f"./{spec}"
    if revision:
        resolve_commit(workspace.git, revision)
    if path.startswith(("./", "../")):
        path = posixpath.join(workspace.paths.prefix, path)
    path = posixpath.normpath(path)
    if path.startswith(("../", "/")) or path in (".", ".."):
        raise UsageError(f"'{printable(spec)}' names no file of this repository")
    return revision, os.fsencode(path)


def stored_manifest(workspace: Workspace, spec: str) -> Manifest:
    """The expanded manifest of a file of a revision; its tables are fetched where they are missing.

    Raises:
        UsageError: there is no such file of weights.
        ObjectMissingError: a table cannot be had.
    """
    revision, path = split_spec(workspace, spec)
    found = read_manifest(workspace, os.fsencode(revision) + b":" + path)
    if found is None:
        raise UsageError(f"'{printable(spec)}' is no file of weights", hint="git coral ls-tree REV")
    tables = [table.object_id for table in found.manifest.tables]
    if workspace.store.find_missing(tables):
        from coral_git.pipeline.fetch import fetch_objects

        fetch_objects(workspace, tables)
    try:
        return expanded(found.manifest, workspace.store)
    except ObjectMissingError as error:
        raise missing_message(path, found.manifest, tables) from error
