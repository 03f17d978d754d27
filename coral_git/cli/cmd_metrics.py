"""``git coral metrics``: what was measured, said later, compared and drawn."""

from __future__ import annotations

import os

import click

from coral_git.cli.chart import chart_lines
from coral_git.cli.commit_lines import SHORT, facts_json, facts_line
from coral_git.cli.options import json_option, print_json
from coral_git.cli.said_options import labels_of, metrics_of, said_options
from coral_git.cli.tables import print_table
from coral_git.errors import UsageError
from coral_git.history.commits import Commit, one_commit, walk
from coral_git.history.facts import Facts, as_json_number, display_number
from coral_git.history.goals import Goal
from coral_git.history.selection import ALL_BRANCHES
from coral_git.manifest.escape import printable
from coral_git.pipeline.workspace import Workspace
from coral_git.repository.noting import Said, add_note


@click.group("metrics")
def command() -> None:
    """Show, add, compare and draw what was measured of versions.

    Metrics stand in trailers of commits and tags, and in notes (refs/notes/coral) for what is said later.
    """


@command.command("add")
@click.argument("words", nargs=-1, metavar="[REV] [NAME=VALUE]...")
@said_options
@click.option("--environment", is_flag=True, help="Say which Python, torch, CUDA and GPU there are.")
def add(
    words: tuple[str, ...],
    metrics: tuple[str, ...],
    files: tuple[str, ...],
    labels: tuple[str, ...],
    environment: bool,
) -> None:
    """Say something about a commit that is there already (HEAD by default).

    It goes into a note, so the commit keeps its id: 'git push origin refs/notes/coral' publishes it. What is
    said later wins.
    """
    revision = words[0] if words and "=" not in words[0] else None
    said = metrics_of(files, (*(words if revision is None else words[1:]), *metrics))
    workspace = Workspace.open()
    oid = add_note(workspace, revision or "HEAD", Said(said, labels_of(labels), environment))
    click.echo(f"noted for {oid[:SHORT]}: {facts_line(Facts(said, labels))}".rstrip(": "))


@command.command("show")
@click.argument("revisions", nargs=-1, metavar="[REV]...")
@click.option("--all", "is_all", is_flag=True, help="Every commit of every branch that has metrics.")
@click.option("--metric", "names", multiple=True, metavar="NAME", help="Only this metric.")
@click.option("--sort-by", metavar="METRIC", help="The best first.")
@json_option
def show(
    revisions: tuple[str, ...], is_all: bool, names: tuple[str, ...], sort_by: str | None, as_json: bool
) -> None:
    """Show the metrics of commits (HEAD by default), side by side. A range A..B stands for its commits."""
    workspace = Workspace.open()
    commits = _commits(workspace, revisions, is_all)
    if sort_by is not None:
        goal = Goal.parse(sort_by)
        commits.sort(key=lambda one: goal.rank(one.facts.metrics))
    if as_json:
        print_json([{"commit": one.oid, "subject": one.subject, **facts_json(one.facts)} for one in commits])
        return
    columns = names or tuple(dict.fromkeys(name for one in commits for name in one.facts.metrics))
    rows = [_row(one, columns) for one in commits]
    print_table(rows, range(1, len(columns) + 1), head=("commit", *columns, "subject"))


@command.command("diff")
@click.argument("old", default="HEAD^")
@click.argument("new", default="HEAD")
@json_option
def diff(old: str, new: str, as_json: bool) -> None:
    """Compare the metrics of two commits (of HEAD and its parent by default)."""
    workspace = Workspace.open()
    before, after = (one_commit(workspace.git, one).facts.metrics for one in (old, new))
    names = list(dict.fromkeys((*before, *after)))
    if as_json:
        print_json({name: _json_pair(before.get(name), after.get(name)) for name in names})
        return
    rows = []
    for name in names:
        values = before.get(name), after.get(name)
        shown = ["-" if one is None else display_number(one) for one in values]
        rows.append((name, *shown, *_judge(name, *values)))
    print_table(rows, (1, 2, 3), head=("metric", "old", "new", "change", ""))


@command.command("plot")
@click.argument("words", nargs=-1, metavar="METRIC... [REV]")
@click.option("-o", "--output", type=click.Path(dir_okay=False), help="Write a .png, .svg or .html file.")
@click.option("--all", "is_all", is_flag=True, help="Commits of every branch.")
@click.option("--width", type=click.IntRange(20), default=72, help="Columns of the drawing in the terminal.")
def plot(words: tuple[str, ...], output: str | None, is_all: bool, width: int) -> None:
    """Draw metrics over the commits of a history, the oldest at the left.

    Without METRIC, every metric of HEAD. Files need matplotlib: pip install 'coral-git[plot]'.
    """
    workspace = Workspace.open()
    is_revision = bool(words) and workspace.git.succeeds(
        "rev-list", "--max-count=1", "--end-of-options", words[-1], "--"
    )
    names, revisions = (words[:-1], words[-1:]) if is_revision else (words, ())
    commits = [one for one in walk(workspace.git, _range(revisions, is_all)) if one.facts.metrics][::-1]
    names = names or tuple(dict.fromkeys(name for one in commits for name in one.facts.metrics))
    series = {name: [one.facts.metrics.get(name) for one in commits] for name in names}
    empty = [name for name, values in series.items() if not any(value is not None for value in values)]
    if empty or not series:
        raise UsageError(
            f"no commit has the metric '{printable(empty[0])}'" if empty else "no commit has metrics",
            hint="see 'git coral metrics show --all'",
        )
    if output is None:
        for name, values in series.items():
            for line in chart_lines(name, values, width):
                click.echo(line)
        return
    from coral_git.repository.plotting import plot_file

    plot_file(os.path.abspath(output), [one.oid[:SHORT] for one in commits], series)
    click.echo(f"wrote {output}")


def _range(revisions: tuple[str, ...], is_all: bool) -> tuple[str, ...]:
    return ALL_BRANCHES if is_all else revisions or ("HEAD",)


def _commits(workspace: Workspace, revisions: tuple[str, ...], is_all: bool) -> list[Commit]:
    if is_all:
        return [one for one in walk(workspace.git, ALL_BRANCHES) if one.facts.metrics]
    commits: list[Commit] = []
    for revision in revisions or ("HEAD",):
        is_range = ".." in revision
        commits += walk(workspace.git, (revision,)) if is_range else [one_commit(workspace.git, revision)]
    return commits


def _row(commit: Commit, columns: tuple[str, ...]) -> tuple[str, ...]:
    metrics = commit.facts.metrics
    values = [display_number(metrics[name]) if name in metrics else "-" for name in columns]
    return commit.oid[:SHORT], *values, printable(commit.subject)


def _json_pair(old: float | None, new: float | None) -> dict[str, object]:
    pair = {"old": old, "new": new}
    return {side: value if value is None else as_json_number(value) for side, value in pair.items()}


def _judge(name: str, old: float | None, new: float | None) -> tuple[str, str]:
    """The change, and whether it is for the better."""
    if old is None or new is None or old == new:
        return "", ""
    is_better = (new < old) == Goal.parse(name).is_lower_better
    word = click.style("better", fg="green") if is_better else click.style("worse", fg="red")
    return f"{new - old:+.6g}", word
