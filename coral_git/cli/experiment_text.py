"""Runs for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence

import click

from coral_git.cli.chart import sparkline
from coral_git.cli.commit_lines import SHORT, count, show_time
from coral_git.cli.tables import print_table
from coral_git.history.facts import as_json_number, display_number
from coral_git.history.goals import Goal
from coral_git.history.runs import Run
from coral_git.manifest.escape import printable


def list_row(run: Run) -> tuple[str, ...]:
    """A run in one line."""
    best = " ".join(f"{name}={display_number(value)}" for name, value in run.best_metrics().items())
    return (
        printable(run.name),
        run.status,
        count(len(run.steps), "step"),
        click.style(best, fg="cyan"),
        " ".join(f"{printable(name)}={printable(value)}" for name, value in run.parameters.items()),
    )


def print_run(run: Run) -> None:
    """A run whole."""
    click.echo(
        f"run {click.style(printable(run.name), bold=True)}: {run.status}, {printable(run.start.subject)}"
    )
    origin = run.origin[:SHORT] or "no commit"
    click.echo(f"by {printable(run.start.author)}, {show_time(run.start.time)}, on {origin}")
    for title, values in (("parameters", run.parameters), ("environment", run.environment)):
        if values:
            click.echo(f"{title}:")
            print_table([(f"  {printable(name)}", printable(value)) for name, value in values.items()])
    if run.metrics:
        click.echo("metrics:")
        print_table([_metric_row(run, name) for name in run.metrics], (1, 2, 3), _METRIC_HEAD)


def compare_rows(runs: Sequence[Run], all_rows: bool) -> list[tuple[str, ...]]:
    """Parameters and best metrics side by side; the best of each metric is marked."""
    rows = []
    for name in dict.fromkeys(name for run in runs for name in run.parameters):
        values = [run.parameters.get(name, "-") for run in runs]
        if all_rows or len(set(values)) > 1:
            rows.append((printable(name), *map(printable, values)))
    found = [run.best_metrics() for run in runs]
    for name in dict.fromkeys(name for metrics in found for name in metrics):
        goal = Goal.parse(name)
        best = min((goal.rank(metrics) for metrics in found), default=None)
        cells = [_marked(metrics.get(name), goal.rank(metrics) == best) for metrics in found]
        if all_rows or len(set(cells)) > 1:
            rows.append((name, *cells))
    return rows


def run_json(run: Run, *, with_steps: bool) -> dict[str, object]:
    """A run for programs."""
    found: dict[str, object] = {
        "name": run.name,
        "status": run.status,
        "parameters": dict(run.parameters),
        "environment": dict(run.environment),
        "labels": run.labels,
        "origin": run.origin,
        "commit": run.tip,
        "started": run.start.time,
        "metrics": {name: as_json_number(value) for name, value in run.metrics.items()},
        "best": {name: as_json_number(value) for name, value in run.best_metrics().items()},
    }
    if with_steps:
        found["steps"] = [
            {
                "step": step.number,
                "commit": step.commit.oid,
                "time": step.commit.time,
                "metrics": {name: as_json_number(value) for name, value in step.metrics.items()},
            }
            for step in run.steps
        ]
    return found


_METRIC_HEAD = ("  metric", "first", "last", "best", "at step", "")


def _metric_row(run: Run, name: str) -> tuple[str, ...]:
    values = [value for value in run.values(name) if value is not None]
    step = run.best(Goal.parse(name))
    best = (
        ("-", "-")
        if step is None
        else (display_number(step.metrics[name]), "end" if step.number is None else str(step.number))
    )
    return (
        f"  {name}",
        display_number(values[0]),
        display_number(values[-1]),
        *best,
        sparkline(run.values(name)),
    )


def _marked(value: float | None, is_best: bool) -> str:
    if value is None:
        return "-"
    return click.style(f"{display_number(value)} *", fg="green") if is_best else f"{display_number(value)}  "
