"""What somebody let go of on purpose: manifests of checkpoints that were dropped, until git has pruned them.

Everything that a blob in git's object database names is live, so the weights of a dropped checkpoint would
stay until ``git gc`` prunes its commit. Therefore the ids of its blobs are noted in ``dropped/<commit>`` in
the store, one to a line. A blob that is noted there and that nothing reaches any more, neither a ref nor a
reflog nor an index of any work tree, names nothing. A note that is lost costs time until the space is free.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from coral_git import fsops
from coral_git.errors import GitError
from coral_git.git.command import Git
from coral_git.git.revisions import Blob
from coral_git.pipeline.history import manifest_blobs
from coral_git.pipeline.workspace import Workspace

_FOLDER = "dropped"
_FREED = "freed"
_HEX = frozenset("0123456789abcdef")


def note_dropped(workspace: Workspace, commits: Iterable[str]) -> None:
    """Note the manifests that commits brought in; to be called before their ref goes.

    Raises:
        GitError: git cannot read a commit.
        OSError: a note cannot be written.
    """
    folder = os.path.join(workspace.store.root, _FOLDER)
    fsops.make_directory(folder)
    for commit in commits:
        brought = [Blob(oid, b"") for oid in _brought_in(workspace.git, commit)]
        blobs = [found.blob.oid for found in manifest_blobs(workspace, brought)]
        if blobs:
            fsops.replace_file(os.path.join(folder, commit), "".join(f"{one}\n" for one in blobs).encode())


def dropped_blobs(workspace: Workspace) -> frozenset[str]:
    """The ids of noted blobs that nothing reaches; empty, and cheap, where there are no notes."""
    noted = {blob for blobs in _notes(workspace).values() for blob in blobs}
    if not noted:
        return frozenset()
    arguments = ("--objects", "--no-object-names", "--all", "--reflog", "--indexed-objects")
    try:
        with workspace.git.stream("rev-list", *arguments) as output:
            for line in output:
                noted.discard(line.decode().strip())
    except GitError:  # a ref names what is not here: nobody can tell what is reached, so nothing was dropped
        return frozenset()
    return frozenset(noted)


def count_waiting(workspace: Workspace) -> int:
    """How many commits were noted since ``mark_freed``."""
    marked = _time(os.path.join(workspace.store_root, _FOLDER, _FREED))
    return sum(_time(path) >= marked for path in _notes(workspace))


def mark_freed(workspace: Workspace, began_ns: int) -> None:
    """Remember that what was noted before a time, in nanoseconds since the epoch, was seen by a gc."""
    path = os.path.join(workspace.store_root, _FOLDER, _FREED)
    fsops.replace_file(path, b"")
    fsops.touch(path, began_ns)


def forget_pruned(workspace: Workspace) -> None:
    """Remove the notes about blobs that git has pruned."""
    for path, blobs in _notes(workspace).items():
        if not any(kind == "blob" for _, kind, _ in workspace.objects.sizes(blobs)):
            fsops.remove(path)


def _notes(workspace: Workspace) -> dict[str, list[str]]:
    """The notes by path; what does not look like one is passed over."""
    folder = os.path.join(workspace.store_root, _FOLDER)
    try:
        names = sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    notes = {}
    for path in (os.path.join(folder, name) for name in names if _is_id(name)):
        with open(path, encoding="ascii", errors="replace") as file:
            notes[path] = [line for line in file.read().split("\n") if _is_id(line)]
    return notes


def _time(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except FileNotFoundError:
        return 0


def _is_id(text: str) -> bool:
    return len(text) in (40, 64) and _HEX.issuperset(text)


def _brought_in(git: Git, commit: str) -> list[str]:
    """The blobs of a commit that its first parent does not have at the same path."""
    words = git.run("rev-list", "-1", "--parents", commit).decode().split()
    before = words[1:2] or [git.run("mktree").decode().strip()]
    output = git.run("diff-tree", "-r", "-z", "--raw", "--no-renames", "--no-abbrev", *before, commit)
    heads = (token.decode().split() for token in output.split(b"\0") if token.startswith(b":"))
    return [new for _, mode, _, new, _ in heads if mode in ("100644", "100755")]
