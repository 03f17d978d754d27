"""``git coral show``: one commit whole."""

from __future__ import annotations

from collections.abc import Iterator

import click

from coral_git.cli.commit_lines import commit_json, many_lines
from coral_git.cli.diff_text import SORTS, file_lines, sorted_tensors, stat_lines
from coral_git.cli.options import json_option, print_json
from coral_git.cli.pager import page
from coral_git.cli.words import PathsCommand, split_words
from coral_git.diff.as_json import file_json
from coral_git.diff.compare import Wanted
from coral_git.diff.model import FileDiff
from coral_git.history.changes import WeightCommit, weight_commits
from coral_git.history.commits import one_commit
from coral_git.manifest.escape import printable
from coral_git.pipeline.workspace import Workspace
from coral_git.repository.diffing import commit_sides, diff_sides


@click.command("show", cls=PathsCommand)
@click.argument("words", nargs=-1, metavar="[REV] [-- PATH...]")
@click.option("--stat", "is_stat", is_flag=True, help="A line for each file; no tensor is read.")
@click.option("--tensor", "patterns", multiple=True, metavar="GLOB", help="Only tensors whose names match.")
@click.option("--sort", type=click.Choice(SORTS), default="file", help="The order of tensors.")
@json_option
def command(
    words: tuple[str, ...], is_stat: bool, patterns: tuple[str, ...], sort: str, as_json: bool
) -> None:
    """Show a commit (HEAD by default): message, metrics, environment, and what it changed, tensor by tensor.

    A merge is compared with its first parent.
    """
    workspace = Workspace.open()
    try:
        chosen = split_words(workspace, words, most=1)
        commit = one_commit(workspace.git, chosen.revisions[0] if chosen.revisions else "HEAD")
        found = next(weight_commits(workspace, [commit], keep_all=True))
        sides = commit_sides(workspace, commit.parents[0] if commit.parents else "", commit.oid)
        diffs = diff_sides(workspace, sides, chosen.paths, Wanted(not is_stat, patterns=patterns))
        if as_json:
            print_json({**commit_json(found), "diff": [file_json(one) for one in diffs]})
        else:
            page(_lines(found, diffs, is_stat, sort))
    finally:
        workspace.close()


def _lines(found: WeightCommit, diffs: Iterator[FileDiff], is_stat: bool, sort: str) -> Iterator[str]:
    yield from many_lines(found._replace(changes=()))
    commit = found.commit
    body = [
        line
        for line in commit.body.splitlines()
        if not line.startswith(("Coral-Metric:", "Coral-Environment:"))
    ]
    if any(map(str.strip, body)):
        yield from (f"    {printable(line)}".rstrip() for line in body)
        yield ""
    if commit.facts.environment:
        yield "Trained with:"
        yield from (
            f"    {printable(name)} {printable(text)}" for name, text in commit.facts.environment.items()
        )
        yield ""
    for diff in diffs:
        yield from stat_lines([diff]) if is_stat else file_lines(diff, sorted_tensors(diff, sort), False)
