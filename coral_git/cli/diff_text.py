"""Comparisons of weight files for the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import click

from coral_git.cli.chart import sparkline
from coral_git.cli.commit_lines import count
from coral_git.cli.tables import table_lines
from coral_git.diff.model import FileDiff, Status, TensorDiff
from coral_git.manifest.entries import TensorEntry
from coral_git.manifest.escape import escape_name
from coral_git.pipeline.messages import show_path
from coral_git.pipeline.progress import format_size

HEAD = ("tensor", "what", "‖Δ‖/‖W‖", "max |Δ|", "cosine", "changed", "rank", "NaN/Inf")
SORTS = ("file", "name", "change", "max", "cosine", "share", "rank", "size")
_COLORS = {Status.ADDED: "green", Status.REMOVED: "red"}


def sorted_tensors(diff: FileDiff, key: str) -> list[TensorDiff]:
    """The tensors of a file in another order: the largest change first, by name, or as in the file."""
    keys = {
        "name": lambda one: one.name,
        "change": lambda one: -_or_zero(one.figures and one.figures.relative),
        "max": lambda one: -_or_zero(one.figures and one.figures.max_delta),
        "cosine": lambda one: _or_one(one.figures and one.figures.cosine),
        "share": lambda one: -_or_zero(one.figures and one.figures.share),
        "rank": lambda one: -_or_zero(one.figures and one.figures.rank),
        "size": lambda one: -one.raw_bytes,
    }
    return list(diff.tensors) if key == "file" else sorted(diff.tensors, key=keys[key])


def file_lines(diff: FileDiff, tensors: Sequence[TensorDiff], histograms: bool) -> Iterator[str]:
    """A file: verdict, a table of tensors, totals."""
    yield f"{click.style(file_name(diff), bold=True)}: {diff.verdict}"
    if tensors:
        rows = [tensor_row(one) for one in tensors]
        lines = table_lines(rows, range(2, len(HEAD)), HEAD)
        yield f"  {next(lines)}"
        for tensor, line in zip(tensors, lines, strict=True):
            yield f"  {click.style(line, fg=_COLORS.get(tensor.status))}"
            if histograms and tensor.figures and tensor.figures.histogram:
                yield from (f"    {text}" for text in _histogram_lines(tensor))
    yield f"  {summary(diff)}"


def file_name(diff: FileDiff) -> str:
    """Where it is, and where it was."""
    path = show_path(diff.path)
    return path if diff.path == diff.old_path else f"{show_path(diff.old_path)} => {path}"


def summary(diff: FileDiff) -> str:
    """Counts and bytes of a file."""
    found = Counter(tensor.status for tensor in diff.tensors)
    pieces = [f"{number} {status}" for status, number in found.items()]
    if diff.new is not None and diff.new.tensor_count is not None:
        pieces.append(f"{diff.same} same")
    return f"{', '.join(pieces)}; {show_bytes(diff.raw_bytes, diff.stored_bytes)}".removeprefix("; ")


def show_bytes(raw: int, stored: int | None) -> str:
    """What is new, as it is and as it is stored."""
    return f"{format_size(raw)} new" + ("" if stored is None else f", {format_size(stored)} stored")


def total_line(files: int, raw: int, stored: int | None) -> str:
    """The totals of all files."""
    return f"{count(files, 'file')}, {show_bytes(raw, stored)}"


def stat_lines(diffs: Iterable[FileDiff]) -> Iterator[str]:
    """A line for each file."""
    for diff in diffs:
        yield f" {file_name(diff)} | {summary(diff)} | {diff.verdict}"


def tensor_row(tensor: TensorDiff) -> tuple[str, ...]:
    """The cells about a tensor."""
    figures = tensor.figures
    cells = (escape_name(tensor.name), describe(tensor))
    if figures is None:
        return *cells, *[""] * (len(HEAD) - 2)
    odd = (figures.nans or 0) + (figures.infinities or 0)
    return (
        *cells,
        number(figures.relative),
        number(figures.max_delta),
        "-" if figures.cosine is None else f"{figures.cosine:.6f}",
        percent(figures.share),
        "-" if figures.rank is None else f"≤ {figures.rank}",
        str(odd) if odd else "-",
    )


def describe(tensor: TensorDiff) -> str:
    """What became of a tensor, in words."""
    old, new = tensor.old, tensor.new
    if old is not None and new is not None:
        if tensor.status == Status.RENAMED:
            return f"renamed from {escape_name(old.name)}"
        if tensor.status == Status.RETYPED:
            return f"{old.dtype.name} → {new.dtype.name}"
        if tensor.status == Status.RESHAPED:
            return f"{_shape(old)} → {_shape(new)}"
        return str(tensor.status)
    entry = new or old
    assert entry is not None
    return f"{tensor.status} {entry.dtype.name} {_shape(entry)}"


def number(value: float | None) -> str:
    """A measured number, to three digits."""
    return "-" if value is None else f"{value:.3g}"


def percent(share: float) -> str:
    """A share; what is not nothing and not all does not look like it."""
    shown = f"{100 * share:.1f}"
    if shown == "100.0" and share < 1:
        return ">99.9 %"
    return "<0.1 %" if shown == "0.0" and share > 0 else f"{shown} %"


def _shape(entry: TensorEntry) -> str:
    return f"[{','.join(map(str, entry.shape))}]"


def _histogram_lines(tensor: TensorDiff) -> Iterator[str]:
    histogram = tensor.figures and tensor.figures.histogram
    assert histogram
    low, high = histogram.edges[0], histogram.edges[-1]
    yield f"{number(low)} {sparkline(histogram.counts)} {number(high)}"


def _or_zero(value: float | None) -> float:
    return value or 0.0


def _or_one(value: float | None) -> float:
    return 1.0 if value is None else value
