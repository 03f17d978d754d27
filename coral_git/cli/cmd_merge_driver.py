"""``git coral merge-driver``: called by git, dispatched before click is imported (see ``entry.py``)."""

from __future__ import annotations

import click

from coral_git.cli import called_by_git


@click.command(
    "merge-driver",
    context_settings={"ignore_unknown_options": True},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def command(arguments: tuple[str, ...]) -> int:
    """Merge a weight file that both sides changed (git starts this)."""
    return called_by_git.run("merge-driver", list(arguments))
