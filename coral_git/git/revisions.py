"""Walking git's history and object database for blobs that may be manifests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from coral_git.errors import GitError, UsageError
from coral_git.git.command import Git


class Blob(NamedTuple):
    """A blob and a path it was seen at.

    Attributes:
        oid: its id in hexadecimal.
        path: the path, empty where git does not say.
    """

    oid: str
    path: bytes


class TreeEntry(NamedTuple):
    """A path in a tree or in the index.

    Attributes:
        mode: e.g. ``"100644"``.
        oid: the id of the blob in hexadecimal.
        path: the path from the root.
        stage: 0, or 1 to 3 for a path in conflict.
        is_skipped: whether a sparse checkout leaves it out of the work tree.
    """

    mode: str
    oid: str
    path: bytes
    stage: int = 0
    is_skipped: bool = False

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file: no link, no submodule."""
        return self.mode.startswith("100")


def resolve_commit(git: Git, revision: str) -> str:
    """The id of the commit that a revision names.

    Raises:
        UsageError: there is no such commit.
    """
    answer = git.run(
        "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}", check=False
    )
    if answer.count(b"\n") != 1:  # a range gives two
        raise UsageError(f"'{revision}' is no commit", hint="see 'git log --oneline --all'")
    return answer.decode().strip()


def has_commits(git: Git) -> bool:
    """Whether HEAD names a commit yet."""
    return bool(git.run("rev-parse", "--verify", "--quiet", "HEAD", check=False))


def list_commits(git: Git, revisions: Sequence[str]) -> list[str]:
    """The commits of a range such as ``main..topic`` or ``--all``, the oldest first.

    Raises:
        UsageError: git does not understand the range.
    """
    try:
        answer = git.run("rev-list", "--reverse", "--topo-order", *revisions, "--")
    except GitError as error:
        raise UsageError(f"bad revision range '{' '.join(revisions)}'", hint=error.message) from error
    return answer.decode().split()


def reachable_blobs(git: Git, revisions: Sequence[str]) -> Iterator[Blob]:
    """Every blob that a range introduces, each once, with the first path it was found at.

    Tags may be among them: who needs to know asks ``CatFile.sizes``, which tells the kind. A path ends at its
    first line feed, because git writes no more of it. What a partial clone has not fetched is named too.

    Args:
        git: runs in the repository.
        revisions: as for ``git rev-list``, e.g. ``["main", "^origin/main"]`` or ``["--all", "--reflog"]``.

    Raises:
        GitError: a revision is not there.
    """
    if not revisions:
        return
    arguments = [
        "--objects",
        "--filter=object:type=blob",
        "--missing=allow-any",
        "--end-of-options",
        *revisions,
    ]
    if any(one.startswith(("^", "-")) for one in revisions):
        arguments.remove("--end-of-options")
    with git.stream("rev-list", *arguments, "--") as output:
        for line in output:
            oid, space, path = line.rstrip(b"\n").partition(b" ")
            if space:  # commits have none
                yield Blob(oid.decode(), path)


def all_blobs(git: Git, max_size: int) -> Iterator[str]:
    """The ids of all blobs in the object database, reachable or not, up to a size."""
    check = "--batch-check=%(objecttype) %(objectsize) %(objectname)"
    with git.stream("cat-file", "--batch-all-objects", "--unordered", check) as output:
        for line in output:
            kind, size, oid = line.split()
            if kind == b"blob" and int(size) <= max_size:
                yield oid.decode()


def list_tree(git: Git, revision: str, paths: Iterable[bytes] = ()) -> list[TreeEntry]:
    """The files of a commit, recursively."""
    selected = [path.decode("utf-8", "surrogateescape") for path in paths]
    output = git.run("ls-tree", "-r", "-z", "--full-tree", revision, "--", *selected)
    entries = []
    for line in output.split(b"\0"):
        if line:
            meta, _, path = line.partition(b"\t")
            mode, kind, oid = meta.split(b" ")
            if kind == b"blob":
                entries.append(TreeEntry(mode.decode(), oid.decode(), path))
    return entries


def list_index(git: Git, pathspecs: Sequence[str] = ()) -> list[TreeEntry]:
    """The files in the index, paths from the root; pathspecs are git's.

    Raises:
        UsageError: a pathspec matches nothing.
    """
    try:
        if pathspecs:  # by itself, as it drops all but the first stage of a path that is named exactly
            git.run("ls-files", "--error-unmatch", "--", *pathspecs)
    except GitError as error:
        raise UsageError(error.message.partition(": ")[2] or error.message) from error
    output = git.run("ls-files", "-s", "-t", "-z", "--full-name", "--", *pathspecs)
    entries = []
    for line in output.split(b"\0"):
        if line:
            meta, _, path = line.partition(b"\t")
            tag, mode, oid, stage = meta.split(b" ")
            entries.append(TreeEntry(mode.decode(), oid.decode(), path, int(stage), tag == b"S"))
    return entries


def changed_files(git: Git, commit: str) -> list[TreeEntry]:
    """The files that a commit has and its first parent does not have like that; all of a root commit."""
    output = git.run(
        "diff-tree",
        "-r",
        "-z",
        "--root",
        "--no-commit-id",
        "--no-renames",
        "--diff-merges=first-parent",
        commit,
    )
    return _raw_entries(output)


def recent_files(git: Git, commits: int = 32) -> list[TreeEntry]:
    """The files that the last commits of HEAD changed, as they were then, the most recent first.

    Raises:
        GitError: there is no commit yet.
    """
    output = git.run(
        "log", f"-{commits}", "--format=", "--raw", "-z", "--no-abbrev", "--no-renames", "-m", "HEAD"
    )
    return _raw_entries(output)


def _raw_entries(output: bytes) -> list[TreeEntry]:
    """What ``--raw -z`` lists, without what was deleted."""
    fields = output.split(b"\0")
    entries = []
    for meta, path in zip(fields[::2], fields[1::2], strict=False):
        _, mode, _, oid, status = meta.lstrip(b":\n").split(b" ")
        if status != b"D":
            entries.append(TreeEntry(mode.decode(), oid.decode(), path))
    return entries
