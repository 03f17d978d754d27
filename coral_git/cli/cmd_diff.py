"""``git coral diff``: what differs between two versions of weights, tensor by tensor."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

import click

from coral_git.cli.diff_markdown import file_markdown
from coral_git.cli.diff_text import SORTS, file_lines, file_name, sorted_tensors, stat_lines, total_line
from coral_git.cli.options import json_option, print_json
from coral_git.cli.pager import page
from coral_git.cli.words import PathsCommand, paths_after, split_words
from coral_git.diff.as_json import file_json, report_json
from coral_git.diff.compare import Wanted
from coral_git.diff.model import FileDiff
from coral_git.errors import UsageError
from coral_git.pipeline.workspace import Workspace
from coral_git.repository.diffing import choose_sides, diff_files, diff_sides


class _Totals:
    """What all files come to, counted while they pass."""

    def __init__(self) -> None:
        self.files = self.raw = 0
        self.stored: int | None = 0

    def count(self, diffs: Iterator[FileDiff]) -> Iterator[FileDiff]:
        """The files as they come."""
        for diff in diffs:
            self.files += 1
            self.raw += diff.raw_bytes
            is_known = self.stored is not None and diff.stored_bytes is not None
            self.stored = (self.stored or 0) + (diff.stored_bytes or 0) if is_known else None
            yield diff


class _Shape(NamedTuple):
    """How the result is shown."""

    form: str
    sort: str
    histograms: bool
    html: str | None
    title: str


@click.command("diff", cls=PathsCommand)
@click.argument("words", nargs=-1, metavar="[REV [REV]] [-- PATH...]")
@click.option(
    "--cached", "--staged", "is_cached", is_flag=True, help="Compare with the index, not the work tree."
)
@click.option("--no-index", is_flag=True, help="Compare two files, also outside of a repository.")
@click.option("--tensor", "patterns", multiple=True, metavar="GLOB", help="Only tensors whose names match.")
@click.option("--sort", type=click.Choice(SORTS), default="file", help="The order of tensors.")
@click.option("--stat", "form", flag_value="stat", help="A line for each file; no tensor is read.")
@click.option("--name-only", "form", flag_value="name-only", help="Only the names of files.")
@click.option("--markdown", "form", flag_value="markdown", help="For a comment on a pull request.")
@click.option("--html", metavar="FILE", type=click.Path(dir_okay=False), help="Write a page to explore.")
@click.option("--histogram", "histograms", is_flag=True, help="Draw how the changes are distributed.")
@click.option("--exit-code", is_flag=True, help="Exit with 1 when something differs.")
@json_option
def command(
    words: tuple[str, ...],
    is_cached: bool,
    no_index: bool,
    patterns: tuple[str, ...],
    sort: str,
    form: str | None,
    html: str | None,
    histograms: bool,
    exit_code: bool,
    as_json: bool,
) -> int:
    """Show what differs in weights: norms of changes, angles, ranks, bytes, and a verdict on each file.

    Without REV the index is compared with the work tree, with one REV that with the work tree, with two (or
    A..B) these; A...B compares B with what it has in common with A. Only tensors that changed are read.
    """
    if as_json and form:
        raise UsageError(f"--json and --{form} exclude each other")
    wanted = Wanted(form not in ("stat", "name-only"), histograms or html is not None, patterns)
    totals = _Totals()
    if no_index:
        files = (*words, *(paths_after() or ()))
        if len(files) != 2:
            raise UsageError("--no-index needs two files", hint="git coral diff --no-index OLD NEW")
        found = diff_files(os.fsencode(files[0]), os.fsencode(files[1]), wanted)
        diffs = iter(() if found is None else (found,))
        _show(totals, diffs, _Shape(form or "", sort, histograms, html, " → ".join(files)), as_json)
    else:
        workspace = Workspace.open()
        try:
            chosen = split_words(workspace, words, most=2)
            sides = choose_sides(workspace, chosen.revisions, is_cached)
            diffs = diff_sides(workspace, sides, chosen.paths, wanted)
            _show(totals, diffs, _Shape(form or "", sort, histograms, html, " → ".join(sides.names)), as_json)
        finally:
            workspace.close()
    return 1 if exit_code and totals.files else 0


def _show(totals: _Totals, diffs: Iterator[FileDiff], shape: _Shape, as_json: bool) -> None:
    counted = totals.count(diffs)
    if shape.html is not None:
        _write_page(totals, counted, shape)
    elif as_json:
        files = [file_json(_sorted(diff, shape)) for diff in counted]
        print_json(report_json(files, _total_json(totals)))
    else:
        page(_lines(totals, counted, shape))


def _lines(totals: _Totals, diffs: Iterator[FileDiff], shape: _Shape) -> Iterator[str]:
    if shape.form == "name-only":
        yield from (file_name(diff) for diff in diffs)
        return
    if shape.form == "stat":
        yield from stat_lines(diffs)
    for diff in diffs:
        if shape.form == "markdown":
            yield from file_markdown(diff, sorted_tensors(diff, shape.sort))
        else:
            yield from file_lines(diff, sorted_tensors(diff, shape.sort), shape.histograms)
    if totals.files > 1 or (totals.files and shape.form == "stat"):
        yield f" {total_line(totals.files, totals.raw, totals.stored)}"


def _write_page(totals: _Totals, diffs: Iterator[FileDiff], shape: _Shape) -> None:
    from coral_git.diff.html import render
    from coral_git.repository.writing import write_new

    files = [file_json(_sorted(diff, shape)) for diff in diffs]
    text = render(report_json(files, _total_json(totals)), shape.title)
    assert shape.html is not None
    write_new(shape.html, text.encode())
    click.echo(f"wrote {shape.html} ({total_line(totals.files, totals.raw, totals.stored)})")


def _sorted(diff: FileDiff, shape: _Shape) -> FileDiff:
    return diff._replace(tensors=tuple(sorted_tensors(diff, shape.sort)))


def _total_json(totals: _Totals) -> dict[str, object]:
    return {"files": totals.files, "raw_bytes": totals.raw, "stored_bytes": totals.stored}
