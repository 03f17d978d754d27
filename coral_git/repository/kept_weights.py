"""Single tensors by key, off the branches: a ref names a commit whose tree has a manifest for each of them.

``docs/format/weights.md`` describes it. The commit has no parent and follows from the tree, so nothing that
was deleted is reachable, and to write the same twice is no change.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from coral_git.errors import CoralError, GitError, UsageError
from coral_git.formats.base import TensorData
from coral_git.formats.safetensors_writer import safetensors_header
from coral_git.git.chains import tip
from coral_git.git.command import Git
from coral_git.pipeline.memory_source import MemorySource
from coral_git.pipeline.storing import store_tensors
from coral_git.pipeline.workspace import Workspace
from coral_git.repository.pushing import push_commit, send_history

WEIGHTS = "refs/coral/weights"
"""The ref, here and on a git remote."""

FETCHED = "refs/coral/fetched-weights/"
"""Before the name of a git remote: what its ref was seen to be."""

_PATH = b"weights.safetensors"
"""Whose attributes say how tensors are stored."""

_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_ATTEMPTS = 200
_WITHOUT_PROGRESS = 5
_NOBODY = {
    f"GIT_{role}_{field}": value
    for role in ("AUTHOR", "COMMITTER")
    for field, value in (("NAME", "coral-git"), ("EMAIL", "coral-git"), ("DATE", "@0 +0000"))
}


class Kept(NamedTuple):
    """What a ref keeps.

    Attributes:
        commit: the commit it names; empty where there is no ref.
        blobs: the id of each manifest, by key.
    """

    commit: str
    blobs: Mapping[str, str]


Change = Callable[[Mapping[str, str]], Mapping[str, str]]
"""Gives the manifests that are to be kept, given those that are."""


def check_key(key: str) -> str:
    """A key that can be kept.

    Raises:
        UsageError: it cannot be the name of a file.
    """
    if not _KEY.fullmatch(key):
        raise UsageError(f"bad key {key!a} for a tensor", hint="up to 200 letters, digits, '.', '_' and '-'")
    return key


class NewWeight(NamedTuple):
    """A tensor that is to be kept.

    Attributes:
        tensor: its values, under the name that it will have.
        metadata: texts by name, for the header of its file.
    """

    tensor: TensorData
    metadata: Mapping[str, str]


def store_weights(workspace: Workspace, weights: Sequence[NewWeight]) -> list[str]:
    """Store tensors, each as a file of its own; gives the ids of the blobs with their manifests.

    Raises:
        UsageError: safetensors has no such dtype, name or shape.
        CoralError: the store cannot be written.
    """
    if not weights:
        return []
    headers = (safetensors_header([one.tensor], one.metadata) for one in weights)
    sources = [MemorySource(header, ordered) for header, ordered in headers]
    git = workspace.git
    return [
        git.run("hash-object", "-w", "--stdin", "--no-filters", input=text).decode().strip()
        for text in store_tensors(workspace, _PATH, sources)
    ]


def read_kept(git: Git, ref: str = WEIGHTS) -> Kept:
    """What a ref keeps.

    Raises:
        GitError: what it names cannot be read.
    """
    commit = tip(git, ref)
    if not commit:
        return Kept("", {})
    blobs = {}
    for line in git.run("ls-tree", "-z", commit).split(b"\0"):
        meta, _, name = line.partition(b"\t")
        if meta.startswith(b"100"):
            blobs[os.fsdecode(name)] = meta.split(b" ")[2].decode()
    return Kept(commit, blobs)


def change_kept(workspace: Workspace, change: Change) -> None:
    """Change what is kept in this repository; of two at the same time neither is lost.

    Raises:
        GitError: the ref cannot be written.
    """
    git = workspace.git

    def publish(old: str, new: str) -> None:
        zero = "0" * len(old or new)
        words = [WEIGHTS, new, old or zero] if new else ["-d", WEIGHTS, old]
        git.run("update-ref", *words)

    _swap(git, change, lambda: read_kept(git), publish)


def fetch_kept(workspace: Workspace, remote: str) -> Kept:
    """What a git remote keeps: the manifests are here then, no objects.

    Raises:
        GitError: the remote cannot be reached.
    """
    git = workspace.git
    ref = FETCHED + remote
    listed = git.run("ls-remote", "--end-of-options", remote, WEIGHTS).split()
    if not listed:
        if tip(git, ref):
            git.run("update-ref", "-d", ref)
        return Kept("", {})
    if tip(git, ref) != listed[0].decode():
        options = ("--quiet", "--no-tags", "--no-write-fetch-head", "--end-of-options")
        git.run("fetch", *options, remote, f"+{WEIGHTS}:{ref}")
    return read_kept(git, ref)


def change_fetched(workspace: Workspace, remote: str, change: Change) -> None:
    """Change what a git remote keeps: objects are sent first, then the ref is moved.

    Raises:
        ObjectMissingError: an object cannot be had; nothing was changed.
        RemoteError: the remote store refused; nothing was changed.
        GitError: the remote cannot be reached, or refuses.
    """
    git = workspace.git

    def publish(old: str, new: str) -> None:
        if new:
            known = [f"^{old}^{{tree}}"] if old else []  # by the tree: the commits are not related
            revisions = [new, *known]
            words = [remote, f"{new}:{WEIGHTS}"]
            send_history(workspace, revisions, remote=remote, command=words, quiet=True)
        push_commit(workspace, remote, WEIGHTS, old, new)
        words = [FETCHED + remote, new] if new else ["-d", FETCHED + remote]
        git.run("update-ref", *words)

    _swap(git, change, lambda: fetch_kept(workspace, remote), publish)


def _swap(git: Git, change: Change, read: Callable[[], Kept], publish: Callable[[str, str], None]) -> None:
    """Compare and swap, as often as somebody else was quicker."""
    seen, stuck = "", 0
    for _ in range(_ATTEMPTS):
        before = read()
        after = change(before.blobs)
        if after == before.blobs:
            return
        try:
            publish(before.commit, _commit(git, after) if after else "")
            return
        except GitError:
            stuck = stuck + 1 if before.commit == seen else 0
            seen = before.commit
            if stuck == _WITHOUT_PROGRESS:
                raise
    raise CoralError("others write to the same weights all the time", hint="try again")


def _commit(git: Git, blobs: Mapping[str, str]) -> str:
    """The commit that keeps manifests; it follows from them."""
    lines = b"".join(
        b"100644 blob " + oid.encode() + b"\t" + os.fsencode(key) + b"\0" for key, oid in blobs.items()
    )
    tree = git.run("mktree", "-z", "--missing", input=lines).decode().strip()
    return git.run("commit-tree", tree, input=b"weights\n", env=_NOBODY).decode().strip()
