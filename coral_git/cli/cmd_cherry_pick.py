"""``git coral cherry-pick``: see ``repository/applying.py``."""

from __future__ import annotations

import click

from coral_git.cli.applied import print_applied
from coral_git.cli.options import json_option, quiet_option
from coral_git.pipeline.workspace import Workspace
from coral_git.repository.applying import ApplyOptions, apply_commits


@click.command("cherry-pick")
@click.argument("commits", nargs=-1, required=True, metavar="COMMIT...")
@click.option("--scale", type=float, default=1.0, metavar="FACTOR", help="What the change is multiplied by.")
@click.option("-n", "--no-commit", is_flag=True, help="Stop before the commit.")
@click.option("-m", "--mainline", type=int, help="The parent of a merge that its change is counted from.")
@click.option("-x", "origin", is_flag=True, help="Say in the message which commit it was.")
@click.option("--allow-nonfinite", is_flag=True, help="Take results with new infinities and NaNs.")
@json_option
@quiet_option
def command(
    commits: tuple[str, ...],
    scale: float,
    no_commit: bool,
    mainline: int | None,
    origin: bool,
    allow_nonfinite: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Apply the change of commits to HEAD; of weights as a task vector, times a factor.

    Ours + SCALE x (commit - its parent), tensor by tensor. Other files are merged as 'git cherry-pick' does.
    """
    options = ApplyOptions(
        scale,
        origin=origin,
        mainline=mainline,
        commit=not no_commit,
        allow_nonfinite=allow_nonfinite,
    )
    workspace = Workspace.open()
    try:
        applied = apply_commits(workspace, commits, options)
    finally:
        workspace.close()
    print_applied(applied, as_json=as_json, quiet=quiet)
