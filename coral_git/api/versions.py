"""Commits and tags as programs see them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from coral_git.history.commits import Commit as HistoryCommit
from coral_git.history.tags import Tag


@dataclass(frozen=True)
class CommitMetadata:
    """Who made a commit, when, and what is said about it.

    Attributes:
        author: name of the author.
        email: address of the author.
        message: the whole message.
        timestamp: author date.
        tags: labels.
        metrics: what was measured.
        environment: what it was trained with.

    Example:
        >>> from datetime import UTC, datetime
        >>> said = CommitMetadata("Ada", "ada@example.org", "base", datetime(2026, 1, 1, tzinfo=UTC))
        >>> said.message, said.tags
        ('base', ())
    """

    author: str
    email: str
    message: str
    timestamp: datetime
    tags: tuple[str, ...] = ()
    metrics: Mapping[str, float] | None = None
    environment: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Commit:
    """A commit.

    Attributes:
        commit_hash: its id in hexadecimal.
        parent_hashes: those of its parents.
        metadata: who, when, what.

    Example:
        >>> from datetime import UTC, datetime
        >>> said = CommitMetadata("Ada", "ada@example.org", "base", datetime(2026, 1, 1, tzinfo=UTC))
        >>> one = Commit("ab" * 20, (), said)
        >>> one.is_root_commit, one.is_merge_commit
        (True, False)
    """

    commit_hash: str
    parent_hashes: tuple[str, ...]
    metadata: CommitMetadata

    @property
    def is_merge_commit(self) -> bool:
        """Whether it has several parents."""
        return len(self.parent_hashes) > 1

    @property
    def is_root_commit(self) -> bool:
        """Whether it has no parent."""
        return not self.parent_hashes


@dataclass(frozen=True)
class Version:
    """A tag.

    Attributes:
        version_id: the id of the tag object.
        commit_hash: the id of the commit.
        name: its name.
        description: first line of its message.
        metrics: what its trailers say.

    Example:
        >>> Version("ab" * 20, "cd" * 20, "v1.0", metrics={"accuracy": 0.9}).metrics["accuracy"]
        0.9
    """

    version_id: str
    commit_hash: str
    name: str
    description: str = ""
    metrics: Mapping[str, float] | None = None


def commit_of(found: HistoryCommit) -> Commit:
    """A commit of a walk over the history."""
    message = f"{found.subject}\n\n{found.body}".strip() if _body(found.body) else found.subject
    facts = found.facts
    return Commit(
        found.oid,
        found.parents,
        CommitMetadata(
            found.author,
            found.email,
            message,
            datetime.fromtimestamp(found.time, UTC),
            facts.labels,
            dict(facts.metrics),
            dict(facts.environment),
        ),
    )


def _body(body: str) -> str:
    """What a message says besides trailers of coral-git."""
    return "\n".join(line for line in body.splitlines() if not line.startswith("Coral-")).strip()


def version_of(tag: Tag) -> Version:
    """A tag of a listing."""
    return Version(tag.oid, tag.commit, tag.name, tag.description, dict(tag.facts.metrics))
