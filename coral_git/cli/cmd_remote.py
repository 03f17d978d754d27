"""``git coral remote``: where weights are kept besides this machine."""

from __future__ import annotations

import click

from coral_git.cli.options import json_option, print_json
from coral_git.pipeline.workspace import Workspace
from coral_git.repository import remote_stores


@click.group("remote", invoke_without_command=True)
@click.option("-v", "--verbose", is_flag=True, help="Show where they are.")
@json_option
@click.pass_context
def command(context: click.Context, verbose: bool, as_json: bool) -> None:
    """List the remote stores of this repository.

    Without any that was added, the weights travel with the git remote itself, under refs/coral/store.
    """
    if context.invoked_subcommand is None:
        _list(verbose, as_json)


@command.command("list")
@click.option("-v", "--verbose", is_flag=True, help="Show where they are.")
@json_option
def list_command(verbose: bool, as_json: bool) -> None:
    """List the remote stores."""
    _list(verbose, as_json)


@command.command("add")
@click.argument("name")
@click.argument("location")
def add(name: str, location: str) -> None:
    """Send weights to LOCATION from now on instead of to the git remote.

    LOCATION is a directory (made when it is missing), file:///path, git+URL for a repository that holds
    nothing else, or a URL that an installed plugin knows.
    """
    where = remote_stores.add_store(Workspace.open(), name, location)
    click.echo(f"weights go to '{name}' ({where})")


@command.command("remove")
@click.argument("name")
def remove(name: str) -> None:
    """Forget a remote store; what is in it stays."""
    remote_stores.remove_store(Workspace.open(), name)
    click.echo(f"removed '{name}'; what it holds stays")


def _list(verbose: bool, as_json: bool) -> None:
    entries = remote_stores.list_stores(Workspace.open())
    if as_json:
        fields = ("name", "location", "kind", "is_pushed")
        print_json([{field: getattr(entry, field) for field in fields} for entry in entries])
        return
    for entry in entries:
        click.echo(remote_stores.describe(entry) if verbose else entry.name)
