"""``git coral pull``: commits, then weights."""

from __future__ import annotations

import click

from coral_git.pipeline.workspace import Workspace
from coral_git.repository.pulling import pull


@click.command("pull", context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[REMOTE|URL [REFSPEC…]]")
def command(arguments: tuple[str, ...]) -> int:
    """Pull, and write every file that is still a manifest.

    Takes what 'git pull' takes. Fails when a file cannot be had.
    """
    return pull(Workspace.open(), arguments)
