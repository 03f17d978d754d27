"""``git coral branch``: branches with the best that was measured on them."""

from __future__ import annotations

import click

from coral_git.cli.commit_lines import SHORT
from coral_git.cli.options import json_option, print_json
from coral_git.cli.tables import print_table
from coral_git.cli.words import PathsCommand
from coral_git.errors import UsageError
from coral_git.history.branches import BranchSummary, list_branches
from coral_git.history.facts import as_json_number, display_number
from coral_git.history.goals import Goal
from coral_git.manifest.escape import printable
from coral_git.pipeline.workspace import Workspace
from coral_git.repository.unfinished import user_git


@click.command("branch", cls=PathsCommand, context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[GIT-BRANCH-ARGUMENT]...")
@click.option("--metric", "metrics", multiple=True, metavar="NAME", help="The best value of this metric.")
@click.option("--sort-by", metavar="METRIC", help="The best first.")
@click.option("-r", "--remotes", "with_remotes", is_flag=True, help="Branches of remotes too.")
@json_option
def command(
    arguments: tuple[str, ...],
    metrics: tuple[str, ...],
    sort_by: str | None,
    with_remotes: bool,
    as_json: bool,
) -> int:
    """List branches with the best value of each metric and the commit that has it.

    With other arguments this is 'git branch': git coral branch NEW, git coral branch -d OLD.
    """
    workspace = Workspace.open()
    if arguments:
        if as_json or metrics or sort_by:
            raise UsageError(
                f"'{printable(arguments[0])}' makes this 'git branch', which has no such options"
            )
        return user_git(workspace).call("branch", *arguments)
    goals = [Goal.parse(one) for one in metrics]
    order = Goal.parse(sort_by) if sort_by is not None else None
    branches = list_branches(workspace.git, goals, order, with_remotes=with_remotes)
    if as_json:
        print_json([_as_json(one) for one in branches])
    else:
        print_table([_row(one) for one in branches])
    return 0


def _row(branch: BranchSummary) -> tuple[str, ...]:
    best = (f"{name}={display_number(one.value)} ({one.commit[:7]})" for name, one in branch.best.items())
    mark = "*" if branch.is_current else " "
    return (
        f"{mark} {printable(branch.name)}",
        click.style(branch.commit[:SHORT], fg="yellow"),
        click.style(", ".join(best), fg="cyan"),
        printable(branch.subject),
    )


def _as_json(branch: BranchSummary) -> dict[str, object]:
    return {
        "name": branch.name,
        "commit": branch.commit,
        "is_current": branch.is_current,
        "subject": branch.subject,
        "best": {
            name: {"value": as_json_number(one.value), "commit": one.commit}
            for name, one in branch.best.items()
        },
    }
