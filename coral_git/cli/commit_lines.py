"""Commits with what they did to weights, as text and as JSON."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import click

from coral_git.history.changes import Change, FileChange, WeightCommit
from coral_git.history.commits import Commit
from coral_git.history.facts import Facts, as_json_number, display_number
from coral_git.manifest.escape import printable
from coral_git.pipeline.messages import show_path
from coral_git.pipeline.progress import format_size

SHORT = 10
"""Digits of an id in a listing."""


def one_line(found: WeightCommit, metrics: Sequence[str] = ()) -> str:
    """A commit in one line.

    Args:
        found: the commit.
        metrics: which metrics are shown; all without any.
    """
    commit = found.commit
    pieces = [_styled_id(commit), _refs(commit), printable(commit.subject), _summary(found)]
    return " ".join(filter(None, [*pieces, facts_line(commit.facts, metrics)]))


def many_lines(found: WeightCommit, metrics: Sequence[str] = ()) -> Iterator[str]:
    """A commit in a few lines: who and when, what it says, what it did to each file."""
    commit = found.commit
    yield " ".join(
        filter(None, [click.style("commit", fg="yellow"), _styled_id(commit, True), _refs(commit)])
    )
    yield f"Author: {printable(commit.author)} <{printable(commit.email)}>"
    yield f"Date:   {show_time(commit.time)}"
    told = facts_line(commit.facts, metrics)
    if told:
        yield f"Says:   {told}"
    yield ""
    yield f"    {printable(commit.subject)}"
    yield ""
    for change in found.changes:
        yield f"    {file_line(change)}"
    if found.changes:
        yield f"    {_bytes(found)}"
        yield ""


def file_line(change: FileChange) -> str:
    """What a commit did to a file."""
    path = show_path(change.touched.path)
    if change.touched.path != change.touched.old_path:
        path = f"{show_path(change.touched.old_path)} => {path}"
    if change.new is None:
        return f"{path}: removed" if not change.touched.new else f"{path}: no weights any more"
    whole = change.change
    size = format_size(change.new.size)
    if whole is None:
        return f"{path}: {size}, its list of pieces is not here"
    noun = "chunk" if change.new.tensor_count is None else "tensor"
    return f"{path}: {describe_change(whole, noun)}, {size}"


def describe_change(change: Change, noun: str) -> str:
    """How many pieces there are, and how many of them are not what they were."""
    total = change.new + change.changed + change.same
    counts = {"new": change.new, "changed": change.changed, "removed": change.removed, "same": change.same}
    if total == change.same and not change.removed:
        return f"{count(total, noun)}, unchanged"
    told = ", ".join(f"{number} {word}" for word, number in counts.items() if number)
    return f"{count(total, noun)} ({told})"


def facts_line(facts: Facts, metrics: Sequence[str] = ()) -> str:
    """Metrics and labels in one line."""
    names = [name for name in metrics if name in facts.metrics] if metrics else list(facts.metrics)
    told = [f"{name}={display_number(facts.metrics[name])}" for name in names]
    return " ".join(
        [*(click.style(one, fg="cyan") for one in told), *(f"#{printable(x)}" for x in facts.labels)]
    )


def count(number: int, noun: str) -> str:
    """A number of things."""
    return f"{number} {noun}{'s' if number != 1 else ''}"


def show_time(seconds: int) -> str:
    """A time as people read it, in the time zone of this machine."""
    return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S %z")


def commit_json(found: WeightCommit) -> dict[str, object]:
    """A commit for programs."""
    commit = found.commit
    return {
        "commit": commit.oid,
        "parents": commit.parents,
        "author": commit.author,
        "email": commit.email,
        "time": datetime.fromtimestamp(commit.time, UTC).isoformat(),
        "refs": commit.refs,
        "subject": commit.subject,
        "body": commit.body,
        **facts_json(commit.facts),
        "files": [_file_json(change) for change in found.changes],
        "stored_bytes": found.stored_bytes,
    }


def facts_json(facts: Facts) -> dict[str, object]:
    """What is said about a commit, for programs."""
    return {
        "metrics": {name: as_json_number(value) for name, value in facts.metrics.items()},
        "labels": facts.labels,
        "environment": dict(facts.environment),
    }


def _file_json(change: FileChange) -> dict[str, object]:
    counts = change.change
    return {
        "path": os.fsdecode(change.touched.path),
        "old_path": os.fsdecode(change.touched.old_path),
        "sha256": change.new and change.new.sha256.hex(),
        "old_sha256": change.old and change.old.sha256.hex(),
        "format": change.new and change.new.format,
        "size": change.new and change.new.size,
        "tensors": change.new and change.new.tensor_count,
        "new": counts and counts.new,
        "changed": counts and counts.changed,
        "removed": counts and counts.removed,
        "same": counts and counts.same,
    }


def _styled_id(commit: Commit, is_long: bool = False) -> str:
    return click.style(commit.oid if is_long else commit.oid[:SHORT], fg="yellow")


def _refs(commit: Commit) -> str:
    return click.style(f"({', '.join(map(printable, commit.refs))})", fg="green") if commit.refs else ""


def _summary(found: WeightCommit) -> str:
    """How many tensors of all files are not what they were, and the bytes that this took."""
    counts = [change.change for change in found.changes if change.change]
    touched = sum(one.new + one.changed + one.removed for one in counts)
    if not found.changes:
        return ""
    is_chunks = any(change.new is not None and change.new.tensor_count is None for change in found.changes)
    return f"[{count(touched, 'piece' if is_chunks else 'tensor')}, {_bytes(found)}]"


def _bytes(found: WeightCommit) -> str:
    return "objects missing" if found.stored_bytes is None else f"+{format_size(found.stored_bytes)} stored"
