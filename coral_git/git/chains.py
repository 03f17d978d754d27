"""Commits that are appended to a ref off the branches: no work tree, no index, no HEAD."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from coral_git import fsops
from coral_git.errors import GitError, UsageError
from coral_git.git.command import Git

_ATTEMPTS = 20


def tip(git: Git, ref: str) -> str:
    """The id of the commit that a ref names; empty where there is none."""
    return git.run("rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}", check=False).decode().strip()


def empty_tree(git: Git) -> str:
    """The id of the tree without entries; it is written, so that a commit may have it."""
    return git.run("mktree").decode().strip()


def append_commit(
    git: Git,
    ref: str,
    make_tree: Callable[[str], str],
    message: str,
    *,
    others: Sequence[str] = (),
    options: Sequence[str] = (),
) -> str:
    """Append a commit to a ref; when somebody else did so meanwhile, to theirs.

    Args:
        git: runs in the repository.
        ref: the full name of the ref; it need not be there yet.
        make_tree: gives the tree of the new commit, given the commit before it (empty for none).
        message: its message.
        others: further parents; where the ref is new, the only ones.
        options: of ``git commit-tree``, e.g. ``-S``.

    Returns:
        The id of the commit.

    Raises:
        GitError: git refuses, e.g. because it does not know who commits.
    """
    for attempt in range(_ATTEMPTS):
        before = tip(git, ref)
        parents = [word for parent in (*([before] if before else []), *others) for word in ("-p", parent)]
        made = git.run("commit-tree", *options, make_tree(before), *parents, input=message.encode("utf-8"))
        commit = made.decode().strip()
        try:
            git.run("update-ref", "-m", "coral", ref, commit, before or "0" * len(commit))
            return commit
        except GitError:
            if attempt == _ATTEMPTS - 1 or tip(git, ref) == before:
                raise
    raise GitError(f"cannot append to '{ref}'")


def delete_ref(git: Git, ref: str, expected: str) -> None:
    """Delete a ref that names what it is expected to name.

    Raises:
        GitError: it names something else by now.
    """
    git.run("update-ref", "-d", ref, expected)


def check_name(git: Git, ref: str, shown: str) -> None:
    """Refuse what cannot be the name of a ref.

    Raises:
        UsageError: git would not take it.
    """
    if shown.startswith("-") or not git.succeeds("check-ref-format", ref):
        raise UsageError(f"{shown!a} is no name git would take", hint="see 'git check-ref-format --help'")


def tree_with(git: Git, git_dir: str, tree: str, blobs: Mapping[bytes, str]) -> str:
    """A tree with other blobs at some paths, made in an index of its own.

    Args:
        git: runs in the repository.
        git_dir: where the index may lie for a moment.
        tree: the tree, or a commit.
        blobs: ids by path; an empty id takes away what is there.
    """
    if not blobs:
        return git.run("rev-parse", f"{tree}^{{tree}}").decode().strip()
    return replace_entries(git, git_dir, tree, index_lines(git, blobs))


def index_lines(git: Git, blobs: Mapping[bytes, str]) -> bytes:
    """What ``git update-index --index-info -z`` takes.

    Args:
        git: runs in the repository.
        blobs: ids by path; an empty id takes away what is there.
    """
    digits = max(map(len, blobs.values()), default=0) or len(empty_tree(git))
    lines = []
    for path, oid in blobs.items():
        start = f"100644 {oid} 0" if oid else f"0 {'0' * digits} 0"
        lines.append(start.encode() + b"\t" + path + b"\0")
    return b"".join(lines)


def replace_entries(git: Git, git_dir: str, tree: str, lines: bytes) -> str:
    """A tree with other entries, given as ``git update-index --index-info -z`` takes them."""
    index = os.path.join(git_dir, fsops.unique_name("coral-index"))
    environment = {"GIT_INDEX_FILE": index}
    try:
        git.run("read-tree", tree, env=environment)
        git.run("update-index", "-z", "--index-info", input=lines, env=environment)
        return git.run("write-tree", env=environment).decode().strip()
    finally:
        with suppress(FileNotFoundError):
            os.unlink(index)
