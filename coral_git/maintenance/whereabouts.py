"""Where a blob is in git: a commit that has it and its path, or the index of a work tree."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from coral_git.git.command import Git
from coral_git.git.revisions import list_index
from coral_git.maintenance.leftovers import git_directories
from coral_git.manifest.escape import printable
from coral_git.pipeline.workspace import Workspace

_AT_ONCE = 200
_HEADS = ("MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD", "REBASE_HEAD", "ORIG_HEAD")


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """Where a blob was seen.

    Attributes:
        blob: its id in hexadecimal.
        path: its path.
        commit: a commit that has it there; empty when only an index has it.
    """

    blob: str
    path: bytes
    commit: str = ""

    def __str__(self) -> str:
        where = f"commit {self.commit[:12]}" if self.commit else "the index"
        return f"{printable(os.fsdecode(self.path))} in {where}"


def indexed_blobs(workspace: Workspace) -> dict[str, bytes]:
    """The blobs in the indexes of all work trees, each with a path."""
    found: dict[str, bytes] = {}
    for git_dir in git_directories(workspace):
        for entry in list_index(Git.elsewhere(git_dir)):
            found.setdefault(entry.oid, entry.path)
    return found


def find_blobs(workspace: Workspace, oids: Iterable[str]) -> dict[str, Whereabouts]:
    """Where blobs are; those that only the object database has are left out.

    Every ref, every reflog, the stash, the heads of all work trees and of what is being merged are searched,
    then the indexes.
    """
    wanted = list(dict.fromkeys(oids))
    found: dict[str, Whereabouts] = {}
    if not wanted:
        return found
    heads = _heads(workspace)
    for start in range(0, len(wanted), _AT_ONCE):
        batch = wanted[start : start + _AT_ONCE]
        for place in _search(workspace, batch, heads):
            found.setdefault(place.blob, place)
    if len(found) < len(wanted):
        indexed = indexed_blobs(workspace)
        for oid in wanted:
            if oid in indexed:
                found.setdefault(oid, Whereabouts(oid, indexed[oid]))
    return found


def _search(workspace: Workspace, oids: list[str], heads: list[str]) -> Iterator[Whereabouts]:
    output = workspace.git.run(
        "log", "--all", "--reflog", *heads, "-m", "--raw", "-z", "--no-abbrev", "--no-renames",
        "--format=%x01%H", *(f"--find-object={oid}" for oid in oids), "--",
        check=False,
    )  # fmt: skip
    wanted = frozenset(oids)
    commit = ""
    fields = iter(output.split(b"\0"))
    for field in fields:
        text = field.lstrip(b"\n")
        if text.startswith(b"\x01"):
            commit = text[1:].decode()
        elif text.startswith(b":"):
            oid = text.split(b" ")[3].decode()
            path = next(fields, b"")
            if oid in wanted:  # else the commit removed it, and one before it had it
                yield Whereabouts(oid, path, commit)


def _heads(workspace: Workspace) -> list[str]:
    answers = (
        workspace.git.run("rev-parse", "--verify", "--quiet", name, check=False).decode().strip()
        for name in _HEADS
    )
    return [answer for answer in answers if answer]
