"""``git coral filter-process``: called by git, dispatched before click is imported (see ``entry.py``)."""

from __future__ import annotations

import click

from coral_git.cli import called_by_git


@click.command(
    "filter-process",
    context_settings={"ignore_unknown_options": True},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def command(arguments: tuple[str, ...]) -> int:
    """Answer git's clean and smudge requests (git starts this)."""
    return called_by_git.run("filter-process", list(arguments))
