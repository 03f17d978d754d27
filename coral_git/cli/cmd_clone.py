"""``git coral clone``: a repository with its weights."""

from __future__ import annotations

import click

from coral_git.repository.cloning import CloneFailed, clone


@click.command("clone", context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="URL [DIR] [-- OPTION…]")
def command(arguments: tuple[str, ...]) -> int:
    """Clone a repository and write its weights.

    Takes what 'git clone' takes. Where git-coral is not installed for all your repositories, it is
    installed in the clone. Fails when a file cannot be had.
    """
    try:
        for line in clone(arguments):
            click.echo(line)
    except CloneFailed as failed:
        return failed.code
    return 0
