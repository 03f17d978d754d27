"""``git coral init``: a repository set up in one step."""

from __future__ import annotations

import click

from coral_git.repository.installing import initialise


@click.command("init")
@click.argument("directory", default=".")
def command(directory: str) -> None:
    """Set up a repository: store, link, hook and drivers; makes the repository where there is none."""
    for line in initialise(directory):
        click.echo(line)
