"""Walking commits with what they changed, as one stream out of ``git log``.

One git that walks, compares trees and finds trailers is as fast as a library that does (2,000 commits take
tens of milliseconds), and it opens every repository that the user's git opens.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import IO, NamedTuple

from coral_git.errors import GitError, UsageError
from coral_git.git.command import Git
from coral_git.history.facts import NOTES_REF, TRAILERS, Facts, read_facts
from coral_git.history.tags import said_by_tags

_FIELDS = ("%H", "%P", "%an", "%ae", "%at", "%D", "%s", "%b", "%(trailers:only,unfold)", "%N")
_START = b"\x1e"
_SETTINGS = (
    *TRAILERS, "-c", "log.showRoot=true", "-c", "log.showSignature=false", "-c", "log.follow=false",
    "-c", "diff.relative=false",
)  # fmt: skip


class Touched(NamedTuple):
    """A file that a commit has otherwise than its first parent.

    Attributes:
        path: where it is, or was before it was deleted; from the root.
        old_path: where the first parent has it; the same unless git followed a rename.
        old: the id of the blob in the first parent; empty where there is none.
        new: the id of the blob in the commit; empty where there is none.
    """

    path: bytes
    old_path: bytes
    old: str
    new: str


class Commit(NamedTuple):
    """A commit.

    Attributes:
        oid: its id in hexadecimal.
        parents: the ids of its parents.
        author: name of the author.
        email: address of the author.
        time: author date, in seconds since the epoch.
        refs: branches and tags that point to it, as git decorates them, e.g. ``"HEAD -> main"``.
        subject: first line of the message.
        body: the rest of the message.
        facts: what its trailers, annotated tags on it, and notes say; the later ones of these win.
        files: regular files that differ from the first parent; all for a root commit.
    """

    oid: str
    parents: tuple[str, ...]
    author: str
    email: str
    time: int
    refs: tuple[str, ...]
    subject: str
    body: str
    facts: Facts
    files: tuple[Touched, ...]


def walk(git: Git, arguments: Sequence[str] = ("HEAD",), paths: Sequence[str] = ()) -> Iterator[Commit]:
    """Commits in the order of ``git log``, as git finds them.

    Args:
        git: runs in the repository, where pathspecs are meant.
        arguments: revisions and options of ``git log`` that choose or order commits.
        paths: pathspecs; all files without any.

    Raises:
        UsageError: git does not understand the revisions.
    """
    notes = (f"--notes={NOTES_REF}",) if _has_notes(git) else ("--no-notes",)
    options = (
        "--raw", "-z", "-O/dev/null", "--no-abbrev", "--diff-merges=first-parent",
        "--no-color", "--decorate=short", "--encoding=UTF-8",
        "--format=%x1e" + "%x00".join(_FIELDS) + "%x00", *notes,
    )  # fmt: skip
    renames = () if "--follow" in arguments else ("--no-renames",)
    tags = said_by_tags(git)
    started = False
    try:
        with git.stream(*_SETTINGS, "log", *options, *renames, *arguments, "--", *paths) as output:
            for commit in _parse(_tokens(output), tags):
                started = True
                yield commit
    except GitError as error:
        if started:
            raise
        raise _refusal(git, error) from error


def _refusal(git: Git, error: GitError) -> UsageError:
    """What git said about revisions that it does not understand."""
    if not git.succeeds("rev-parse", "--verify", "--quiet", "HEAD"):
        return UsageError("there is no commit on this branch yet", hint="git coral log --all")
    said = error.message.partition(": ")[2] or error.message
    return UsageError(said.removeprefix("fatal: "), hint="see 'git log --oneline --all'")


def one_commit(git: Git, revision: str) -> Commit:
    """The commit that a revision names.

    Raises:
        UsageError: there is none.
    """
    for commit in walk(git, ("-1", "--end-of-options", revision)):
        return commit
    raise UsageError(f"'{revision}' is no commit", hint="see 'git log --oneline --all'")


def _has_notes(git: Git) -> bool:
    return git.succeeds("rev-parse", "--verify", "--quiet", NOTES_REF)


def _tokens(output: IO[bytes]) -> Iterator[bytes]:
    """What lies between the NULs of a stream."""
    rest = b""
    while piece := output.read1(1 << 16):  # type: ignore[attr-defined]
        *whole, rest = (rest + piece).split(b"\0")
        yield from whole
    if rest:
        yield rest


def _parse(tokens: Iterator[bytes], tags: Mapping[str, str]) -> Iterator[Commit]:
    """Commits out of the tokens: the fields of one, then its files; git puts line ends between them."""
    fields: list[str] = []
    files: list[Touched] = []
    for token in tokens:
        token = token.lstrip(b"\n")
        if token.startswith(_START):
            if fields:
                yield _commit(fields, files, tags)
            fields = [token[1:].decode()]
            fields += [next(tokens).decode("utf-8", "replace") for _ in _FIELDS[1:]]
            files = []
        elif token.startswith(b":"):
            files += _touched(token, tokens)
    if fields:
        yield _commit(fields, files, tags)


def _touched(meta: bytes, tokens: Iterator[bytes]) -> Iterator[Touched]:
    """What a line of ``--raw`` says, where it is about a regular file."""
    old_mode, new_mode, old, new, status = meta[1:].split(b" ")
    old_path = path = next(tokens)
    if status[:1] in b"RC":
        path = next(tokens)
    before = old.decode() if old_mode.startswith(b"100") else ""
    after = new.decode() if new_mode.startswith(b"100") else ""
    if before or after:
        yield Touched(path, old_path, before, after)


def _commit(fields: list[str], files: list[Touched], tags: Mapping[str, str]) -> Commit:
    oid, parents, author, email, time, refs, subject, body, trailers, notes = fields
    return Commit(
        oid,
        tuple(parents.split()),
        author,
        email,
        int(time),
        tuple(filter(None, refs.split(", "))),
        subject,
        body.strip(),
        read_facts(trailers, tags.get(oid, ""), notes),
        tuple(files),
    )
