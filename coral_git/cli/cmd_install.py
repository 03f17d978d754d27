"""``git coral install``: the drivers in git's configuration."""

from __future__ import annotations

import click

from coral_git.cli.options import scope_option
from coral_git.repository.installing import install


@click.command("install")
@scope_option
@click.option("--skip-repo", is_flag=True, help="Only write the configuration; leave this repository alone.")
def command(scope: str, skip_repo: bool) -> None:
    """Make git use coral-git, for all your repositories (default), this one, or the whole machine.

    Run inside a repository, it also sets this one up and writes the files that are still manifests.
    """
    for line in install(scope, skip_repository=skip_repo):
        click.echo(line)
