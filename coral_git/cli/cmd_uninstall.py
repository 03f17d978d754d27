"""``git coral uninstall``: the drivers out of git's configuration."""

from __future__ import annotations

import click

from coral_git.cli.options import scope_option
from coral_git.repository.installing import uninstall


@click.command("uninstall")
@scope_option
def command(scope: str) -> None:
    """Remove coral-git from git's configuration; the weights in the store stay."""
    for line in uninstall(scope):
        click.echo(line)
