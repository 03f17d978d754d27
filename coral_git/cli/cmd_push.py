"""``git coral push``: objects, then commits."""

from __future__ import annotations

import click

from coral_git.cli.options import dry_run_option, quiet_option
from coral_git.pipeline.workspace import Workspace
from coral_git.repository import pushing


@click.command("push", context_settings={"ignore_unknown_options": True})
@click.option("--objects-only", is_flag=True, help="Send objects and leave the refs alone.")
@click.option("--all", "everything", is_flag=True, help="All branches; with --objects-only all refs.")
@dry_run_option
@quiet_option
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[REMOTE [REFSPEC…]]")
def command(
    arguments: tuple[str, ...], objects_only: bool, everything: bool, dry_run: bool, quiet: bool
) -> int:
    """Send the weights that the remote lacks, then push.

    Takes what 'git push' takes; other options are passed on to it. Weights go first, so the remote never
    names what it does not have. With a remote store added ('git coral remote'), they go there.
    """
    workspace = Workspace.open()
    try:
        if objects_only:
            pushing.push_objects_only(
                workspace, arguments, everything=everything, dry_run=dry_run, quiet=quiet
            )
            return 0
        words = ["--all", *arguments] if everything else list(arguments)
        return pushing.push(workspace, words, dry_run=dry_run, quiet=quiet)
    finally:
        workspace.close()
