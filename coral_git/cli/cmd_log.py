"""``git coral log``: the commits that touched weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import click

from coral_git.cli.commit_lines import commit_json, many_lines, one_line
from coral_git.cli.graph import draw
from coral_git.cli.options import json_option, print_json_list
from coral_git.cli.pager import page
from coral_git.cli.words import PathsCommand, Words, split_words
from coral_git.errors import UsageError
from coral_git.history.changes import WeightCommit, weight_commits
from coral_git.history.commits import one_commit, walk
from coral_git.history.expression import parse_condition
from coral_git.history.goals import Goal
from coral_git.history.selection import ALL_BRANCHES, select
from coral_git.pipeline.workspace import Workspace
from coral_git.repository.unfinished import user_git

_GRAPH_LINES = 24


@click.command("log", cls=PathsCommand)
@click.argument("words", nargs=-1, metavar="[REV]... [-- PATH...]")
@click.option("--oneline", is_flag=True, help="One line for each commit.")
@click.option(
    "--graph", is_flag=True, help="Draw the history; commits that touched no weights are shown too."
)
@click.option("--all", "is_all", is_flag=True, help="Every branch and tag.")
@click.option("-n", "--max-count", "limit", type=click.IntRange(1), help="Show so many commits.")
@click.option("--follow", is_flag=True, help="Go on when a file had another name before (one PATH).")
@click.option("--first-parent", is_flag=True, help="Of a merge, follow only the branch it was made on.")
@click.option("--reverse", "is_reverse", is_flag=True, help="The oldest first.")
@click.option("--since", metavar="DATE", help="Commits after a date.")
@click.option("--until", metavar="DATE", help="Commits before a date.")
@click.option("--author", metavar="PATTERN", help="Commits of an author.")
@click.option("--grep", metavar="PATTERN", help="Commits whose message matches.")
@click.option("--filter", "condition", metavar="EXPR", help="E.g. 'accuracy>0.90 and loss<0.3'.")
@click.option(
    "--sort-by", metavar="METRIC", help="The best first; 'min:NAME' or 'max:NAME' says what is better."
)
@click.option("--metric", "metrics", multiple=True, metavar="NAME", help="Show this metric, not all of them.")
@json_option
def command(
    words: tuple[str, ...],
    oneline: bool,
    graph: bool,
    is_all: bool,
    limit: int | None,
    condition: str | None,
    sort_by: str | None,
    metrics: tuple[str, ...],
    is_reverse: bool,
    as_json: bool,
    **options: str | bool | None,
) -> None:
    """Show commits that touched weights: tensors changed, bytes added, metrics, branches and tags.

    Commits that say something about weights (metrics, labels) are shown too. Nothing is read but manifests.
    """
    chosen = parse_condition(condition) if condition is not None else None
    goal = Goal.parse(sort_by) if sort_by is not None else None
    workspace = Workspace.open()
    try:
        found = split_words(workspace, words)
        arguments = _git_options(options, found) + (ALL_BRANCHES if is_all else ())
        arguments += found.revisions or (() if is_all else ("HEAD",))
        if graph:
            if chosen or goal or as_json or is_reverse:
                raise UsageError("--graph goes with none of --filter, --sort-by, --reverse, --json")
            count = (f"--max-count={limit}",) if limit else ()
            page(_graph(workspace, (*count, *arguments), found.paths, oneline, metrics))
            return
        walked = walk(user_git(workspace), arguments, found.paths)
        commits = select(weight_commits(workspace, walked), chosen, goal, limit)
        if is_reverse:  # of the latest ones, as git does it, the oldest first
            commits = iter(list(commits)[::-1])
        if as_json:
            print_json_list(commit_json(one) for one in commits)
        else:
            page(_lines(commits, oneline, metrics))
    finally:
        workspace.close()


def _lines(commits: Iterator[WeightCommit], oneline: bool, metrics: Sequence[str]) -> Iterator[str]:
    for one in commits:
        yield from [one_line(one, metrics)] if oneline else many_lines(one, metrics)


def _graph(
    workspace: Workspace,
    arguments: tuple[str, ...],
    paths: Sequence[str],
    oneline: bool,
    metrics: Sequence[str],
) -> Iterator[str]:
    """The drawing; git writes it and the facts in two streams of the same order."""
    git = user_git(workspace)
    order = ("--topo-order", *arguments)
    commits = weight_commits(workspace, walk(git, order, paths), keep_all=True)

    def text_of(oid: str) -> list[str]:
        one = next((found for found in commits if found.commit.oid == oid), None)
        if one is None:
            one = next(weight_commits(workspace, [one_commit(git, oid)], keep_all=True))
        return [one_line(one, metrics)] if oneline else list(many_lines(one, metrics))

    yield from draw(git, order, paths, text_of, 1 if oneline else _GRAPH_LINES)


def _git_options(options: dict[str, str | bool | None], found: Words) -> tuple[str, ...]:
    """What git does itself."""
    if options["follow"] and len(found.paths) != 1:
        raise UsageError("--follow needs exactly one path")
    flags = {"follow": "--follow", "first_parent": "--first-parent"}
    given = [flag for name, flag in flags.items() if options[name]]
    given += [
        f"--{name}={options[name]}"
        for name in ("since", "until", "author", "grep")
        if options[name] is not None
    ]
    return tuple(given)
