"""Annotated tags of git with what their trailers say about the version."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from coral_git.errors import UsageError
from coral_git.git.command import Git
from coral_git.history.facts import TRAILERS, Facts, read_facts, trailer_lines
from coral_git.manifest.escape import printable

_FIELDS = (
    "%(refname:strip=2)", "%(objecttype)", "%(objectname)", "%(*objecttype)", "%(*objectname)",
    "%(taggername)", "%(creatordate:unix)", "%(contents:subject)", "%(contents:trailers:only,unfold)",
)  # fmt: skip


class Tag(NamedTuple):
    """A tag.

    Attributes:
        name: its name, without ``refs/tags/``.
        oid: the id of the tag object; of the commit for a tag that is not annotated.
        commit: the id of what it points to in the end.
        tagger: who made it; empty for a tag that is not annotated.
        time: when, in seconds since the epoch; of the commit for a tag that is not annotated.
        description: first line of its message; empty for a tag that is not annotated.
        text: the trailers of its message.
        facts: what they say.
    """

    name: str
    oid: str
    commit: str
    tagger: str
    time: int
    description: str
    text: str
    facts: Facts


def list_tags(git: Git, patterns: Sequence[str] = ()) -> Iterator[Tag]:
    """Tags by name, as versions count: ``v2`` before ``v10``.

    Args:
        git: runs in the repository.
        patterns: globs, one of which a name has to match; every tag without any.
    """
    arguments = ("--sort=version:refname", "--format=" + "%00".join(_FIELDS) + "%00", "refs/tags/")
    fields = git.run(*TRAILERS, "for-each-ref", *arguments).decode("utf-8", "replace").split("\0")
    for start in range(0, len(fields) - 1, len(_FIELDS)):
        one = fields[start : start + len(_FIELDS)]
        name, kind, oid, target_kind, target, tagger, time, subject, trailers = one
        name = name.lstrip("\n")
        if patterns and not any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns):
            continue
        is_annotated = kind == "tag"
        if target_kind == "tag":
            target = git.run("rev-parse", f"{oid}^{{}}").decode().strip()
        yield Tag(
            name,
            oid,
            target or oid,
            tagger,
            int(time or 0),
            subject if is_annotated else "",
            trailers if is_annotated else "",
            read_facts(trailers) if is_annotated else Facts(),
        )


def said_by_tags(git: Git) -> dict[str, str]:
    """Trailers of annotated tags, by the id of the commit they point to."""
    said: dict[str, str] = {}
    for tag in list_tags(git):
        if "Coral-" in tag.text:
            said[tag.commit] = said.get(tag.commit, "") + tag.text + "\n"
    return said


class NewTag(NamedTuple):
    """A tag to make.

    Attributes:
        name: its name.
        revision: what it points to.
        description: its message; its name by default.
        metrics: what its trailers say.
        labels: labels that its trailers name.
        force: whether a tag of that name is replaced.
        sign: whether it is signed; None for what git's configuration says.
    """

    name: str
    revision: str = "HEAD"
    description: str = ""
    metrics: Mapping[str, float] = {}
    labels: tuple[str, ...] = ()
    force: bool = False
    sign: bool | None = None


def make_tag(git: Git, tag: NewTag) -> None:
    """Make an annotated tag.

    Raises:
        UsageError: the name or the revision is none, or there is such a tag already.
    """
    if tag.name.startswith("-") or not git.succeeds("check-ref-format", f"refs/tags/{tag.name}"):
        raise UsageError(
            f"'{printable(tag.name)}' is no name of a tag", hint="see 'git check-ref-format --help'"
        )
    if not git.succeeds("rev-parse", "--verify", "--quiet", "--end-of-options", f"{tag.revision}^{{commit}}"):
        raise UsageError(f"'{printable(tag.revision)}' is no commit", hint="see 'git log --oneline --all'")
    if not tag.force and git.succeeds("rev-parse", "--verify", "--quiet", f"refs/tags/{tag.name}"):
        raise UsageError(f"tag '{tag.name}' exists already", hint="to move it: git coral tag --force")
    lines = trailer_lines(tag.metrics, tag.labels)
    message = f"{tag.description or tag.name}\n" + ("\n" + "\n".join(lines) + "\n" if lines else "")
    kinds = {None: ["-a"], True: ["-s"], False: ["-a", "--no-sign"]}
    options = [*kinds[tag.sign], *(["-f"] if tag.force else [])]
    arguments = ("--cleanup=verbatim", "-F", "-", "--", tag.name, tag.revision)
    git.run("tag", *options, *arguments, input=os.fsencode(message))
