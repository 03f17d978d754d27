"""``git coral experiment``: runs, off the branches."""

from __future__ import annotations

import os
import shlex
from datetime import UTC, datetime

import click

from coral_git.cli.commit_lines import SHORT
from coral_git.cli.experiment_text import compare_rows, list_row, print_run, run_json
from coral_git.cli.options import dry_run_option, json_option, print_json
from coral_git.cli.said_options import labels_of, metrics_of, said_options
from coral_git.cli.tables import print_table
from coral_git.cli.words import PathsCommand, paths_after
from coral_git.errors import UsageError
from coral_git.git.command import call_for_user
from coral_git.history.expression import parse_condition
from coral_git.history.facts import Facts, display_number
from coral_git.history.goals import Goal
from coral_git.history.runs import list_runs, read_run
from coral_git.manifest.escape import printable
from coral_git.pipeline.workspace import Workspace
from coral_git.repository import experiments, promoting


@click.group("experiment")
def command() -> None:
    """Keep runs of experiments: parameters, metrics step by step, weights. Your branches stay as they are.

    A run is a chain of commits at refs/coral/runs/NAME, which git pushes and fetches when it is asked to.
    """


@command.command("start")
@click.argument("name", required=False)
@click.option("--param", "parameters", multiple=True, metavar="NAME=VALUE", help="What is tried.")
@click.option("--label", "labels", multiple=True, metavar="WORD", help="A word to find it by.")
@click.option("-d", "-m", "--description", default="", metavar="TEXT", help="What it is about.")
@click.option("--no-environment", is_flag=True, help="Do not record Python, torch, CUDA and GPU.")
def start(
    name: str | None,
    parameters: tuple[str, ...],
    labels: tuple[str, ...],
    description: str,
    no_environment: bool,
) -> None:
    """Begin a run on the commit that is checked out; 'log' and 'end' are about it from now on."""
    workspace = Workspace.open()
    name = name or f"run-{datetime.now(UTC):%Y%m%d-%H%M%S}-{os.getpid()}"
    experiments.start(
        workspace,
        name,
        parameters=experiments.parse_parameters(parameters),
        labels=labels_of(labels),
        description=description,
        environment=not no_environment,
    )
    click.echo(f"started run {printable(name)}")


@command.command("log")
@click.argument("paths", nargs=-1, metavar="[PATH]...")
@click.option("--run", "name", metavar="NAME", help="The run; by default CORAL_RUN, or the one started last.")
@click.option("--step", type=click.IntRange(0), help="Its number; by default the one after the last.")
@said_options
@click.option("-m", "--message", default="", help="First line of the message of its commit.")
def log(
    paths: tuple[str, ...],
    name: str | None,
    step: int | None,
    metrics: tuple[str, ...],
    files: tuple[str, ...],
    labels: tuple[str, ...],
    message: str,
) -> None:
    """Log a step: metrics, and weight files as they are now. Work tree, index and HEAD stay as they are."""
    workspace = Workspace.open()
    run = experiments.current_run(workspace, name)
    said = metrics_of(files, metrics)
    logged = experiments.Logged(said, labels_of(labels), step, message, paths)
    commit, number = experiments.log(workspace, run, logged)
    told = " ".join(f"{key}={display_number(value)}" for key, value in said.items())
    click.echo(f"{printable(run.name)} step {number} {commit[:SHORT]} {told}".rstrip())


@command.command("end")
@click.argument("name", required=False)
@click.option("--status", default="finished", metavar="WORD", help="'finished' (default), 'failed', …")
@said_options
def end(
    name: str | None, status: str, metrics: tuple[str, ...], files: tuple[str, ...], labels: tuple[str, ...]
) -> None:
    """End a run."""
    if not status.isidentifier() or status == "running":
        raise UsageError(f"'{printable(status)}' is no word for an end")
    workspace = Workspace.open()
    run = experiments.current_run(workspace, name)
    experiments.end(workspace, run, status, metrics_of(files, metrics))
    click.echo(f"run {printable(run.name)}: {status}")


@command.command("run", cls=PathsCommand)
@click.argument("name", metavar="NAME -- COMMAND...")
@click.option("--param", "parameters", multiple=True, metavar="NAME=VALUE", help="What is tried.")
@click.option("--label", "labels", multiple=True, metavar="WORD", help="A word to find it by.")
@click.option("-d", "--description", default="", metavar="TEXT", help="What it is about.")
@click.option(
    "--metrics-file", "files", multiple=True, metavar="FILE", help="What the command will have measured."
)
@click.option(
    "--keep", "paths", multiple=True, metavar="PATH", help="A weight file that it will have written."
)
def run_command(
    name: str,
    parameters: tuple[str, ...],
    labels: tuple[str, ...],
    description: str,
    files: tuple[str, ...],
    paths: tuple[str, ...],
) -> int:
    """Run COMMAND as an experiment: start, run it, log what it wrote, end.

    When it fails, so does the run. It finds the name of the run in CORAL_RUN, and may log steps itself.
    """
    words = paths_after()
    if not words:
        raise UsageError("no command", hint="git coral experiment run NAME -- python train.py")
    workspace = Workspace.open()
    tried = experiments.parse_parameters(parameters)
    experiments.start(
        workspace,
        name,
        parameters=tried,
        labels=labels_of(labels),
        description=description or shlex.join(words),
    )
    status = call_for_user(words, {experiments.CURRENT_VARIABLE: name})
    run = read_run(workspace.git, name)
    if status:
        experiments.end(workspace, run, "failed", {})
        click.echo(f"run {printable(name)}: failed ({status})", err=True)
        return status
    said = metrics_of(files, ())
    if said or paths:
        experiments.log(workspace, run, experiments.Logged(said, files=paths))
    experiments.end(workspace, read_run(workspace.git, name), "finished", {})
    told = " ".join(f"{key}={display_number(value)}" for key, value in said.items())
    click.echo(f"run {printable(name)}: finished {told}".rstrip())
    return 0


@command.command("list")
@click.option("--filter", "condition", metavar="EXPR", help="On the last metrics, e.g. 'accuracy>0.90'.")
@click.option("--sort-by", metavar="METRIC", help="By the best value, the best first.")
@json_option
def list_command(condition: str | None, sort_by: str | None, as_json: bool) -> None:
    """List the runs of this repository."""
    chosen = parse_condition(condition) if condition is not None else None
    workspace = Workspace.open()
    runs = [
        run
        for run in list_runs(workspace.git)
        if chosen is None or chosen(Facts(run.metrics, labels=run.labels))
    ]
    if sort_by is not None:
        goal = Goal.parse(sort_by)
        best = {run.ref: run.best(goal) for run in runs}
        runs.sort(key=lambda run: goal.rank(step.metrics if (step := best[run.ref]) else {}))
    if as_json:
        print_json([run_json(run, with_steps=False) for run in runs])
    else:
        print_table([list_row(run) for run in runs])


@command.command("show")
@click.argument("name", required=False)
@json_option
def show(name: str | None, as_json: bool) -> None:
    """Show a run: parameters, environment, and each metric over its steps."""
    run = experiments.current_run(Workspace.open(), name)
    if as_json:
        print_json(run_json(run, with_steps=True))
    else:
        print_run(run)


@command.command("compare")
@click.argument("names", nargs=-1, required=True, metavar="RUN RUN...")
@click.option("--all-rows", is_flag=True, help="Rows too in which all runs are the same.")
@json_option
def compare(names: tuple[str, ...], all_rows: bool, as_json: bool) -> None:
    """Compare runs: what was tried, and the best value of each metric."""
    workspace = Workspace.open()
    runs = [read_run(workspace.git, name) for name in names]
    if as_json:
        print_json([run_json(run, with_steps=False) for run in runs])
    else:
        rows = compare_rows(runs, all_rows)
        print_table(rows, range(1, len(runs) + 1), head=("", *(printable(run.name) for run in runs)))


@command.command("best")
@click.argument("names", nargs=-1, metavar="[RUN]...")
@click.option(
    "--metric", required=True, metavar="METRIC", help="'min:NAME' or 'max:NAME' says what is better."
)
@json_option
def best(names: tuple[str, ...], metric: str, as_json: bool) -> None:
    """Tell which run has the best value of a metric, of all runs or of those that are named."""
    goal = Goal.parse(metric)
    workspace = Workspace.open()
    runs = [read_run(workspace.git, name) for name in names] if names else list_runs(workspace.git)
    steps = [(run, step) for run in runs if (step := run.best(goal)) is not None]
    if not steps:
        raise UsageError(f"no run has the metric '{goal.metric}'", hint="git coral experiment list")
    run, step = min(steps, key=lambda one: goal.rank(one[1].metrics))
    value = step.metrics[goal.metric]
    if as_json:
        found = {"run": run.name, "step": step.number, "commit": step.commit.oid, "metric": goal.metric}
        print_json({**found, "value": value})
    else:
        place = f"{printable(run.name)} step {step.number} {step.commit.oid[:SHORT]}"
        click.echo(f"{place} {goal.metric}={display_number(value)}")


@command.command("promote")
@click.argument("place", metavar="RUN[/best|/last|/STEP]")
@click.argument("name")
@click.option("--metric", metavar="METRIC", help="The metric that 'best' is about.")
@click.option("--tag", "as_tag", is_flag=True, help="Make a tag, with the metrics of the step, not a branch.")
@click.option("-f", "--force", is_flag=True, help="Replace a branch or tag of that name.")
def promote(place: str, name: str, metric: str | None, as_tag: bool, force: bool) -> None:
    """Make a branch (or a tag) of a step of a run.

    Of the checkpoints of a training only those that are kept have weights. Without --metric, 'best' is the
    one that the training itself called so last.
    """
    workspace = Workspace.open()
    run_name, _, word = place.rpartition("/")
    is_place = bool(run_name) and (word in ("best", "last") or word.isdigit())
    run = read_run(workspace.git, run_name if is_place else place)
    goal = Goal.parse(metric) if metric else None
    step = promoting.find_kept(workspace, run, word if is_place else "last", goal)
    promoting.promote(workspace, run, step, name, as_tag=as_tag, force=force)
    kind = "tag" if as_tag else "branch"
    said = f"step {step.number} of {printable(run.name)} ({step.commit.oid[:SHORT]})"
    click.echo(f"{kind} {printable(name)} is {said}")


@command.command("delete")
@click.argument("names", nargs=-1, required=True, metavar="RUN...")
@dry_run_option
def delete(names: tuple[str, ...], dry_run: bool) -> None:
    """Delete runs. 'git coral gc' frees their weights, unless something else in git still reaches them."""
    workspace = Workspace.open()
    runs = [read_run(workspace.git, name) for name in names]
    if not dry_run:
        experiments.delete(workspace, runs)
    for run in runs:
        click.echo(
            f"{'would delete' if dry_run else 'deleted'} {printable(run.name)} (was {run.tip[:SHORT]})"
        )


@command.command("push")
@click.argument("names", nargs=-1, required=True, metavar="RUN...")
@click.option("--remote", metavar="NAME", help="Where to; by default where 'git push' goes.")
def push(names: tuple[str, ...], remote: str | None) -> int:
    """Push runs, with their weights."""
    from coral_git.repository import pushing

    workspace = Workspace.open()
    try:
        for name in names:
            read_run(workspace.git, name)
        place = remote or pushing.default_remote(workspace)
        refs = experiments.run_refs(workspace, names)
        return pushing.push(workspace, [place, *(f"{ref}:{ref}" for ref in refs)])
    finally:
        workspace.close()


@command.command("fetch")
@click.argument("names", nargs=-1, required=True, metavar="RUN...")
@click.option("--remote", metavar="NAME", help="Where from; by default where 'git push' goes.")
def fetch(names: tuple[str, ...], remote: str | None) -> int:
    """Fetch runs ('*' for all), with their weights."""
    from coral_git.repository import fetching, pushing

    workspace = Workspace.open()
    try:
        place = remote or pushing.default_remote(workspace)
        status = workspace.git.call("fetch", place, *experiments.run_refspecs(workspace, names))
        if status:
            return status
        refs = experiments.run_refs(workspace, names)
        fetching.require_complete(fetching.fetch(workspace, [place, *refs]))
        return 0
    finally:
        workspace.close()
