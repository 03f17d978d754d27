"""``git coral untrack``: files that are weights no longer."""

from __future__ import annotations

import os

import click

from coral_git.git.attributes import untrack_in
from coral_git.pipeline.workspace import Workspace


@click.command("untrack")
@click.argument("patterns", nargs=-1, required=True)
def command(patterns: tuple[str, ...]) -> None:
    """Remove patterns from .gitattributes of the current folder.

    Files that are committed stay as they are until they are added again.
    """
    Workspace.open()
    for pattern in patterns:
        changed = untrack_in(os.getcwd(), os.fsencode(pattern))
        click.echo(f"no longer tracking '{pattern}'" if changed else f"'{pattern}' is not tracked here")
