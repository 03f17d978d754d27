"""``git coral smudge``: called by git, dispatched before click is imported (see ``entry.py``)."""

from __future__ import annotations

import click

from coral_git.cli import called_by_git


@click.command(
    "smudge",
    context_settings={"ignore_unknown_options": True},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def command(arguments: tuple[str, ...]) -> int:
    """Turn a manifest on standard input into its weight file."""
    return called_by_git.run("smudge", list(arguments))
