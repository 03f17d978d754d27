"""What ``cherry-pick`` and ``revert`` print."""

from __future__ import annotations

from collections.abc import Sequence

import click

from coral_git.cli.options import print_json
from coral_git.manifest.escape import printable
from coral_git.repository.applying import Applied


def print_applied(applied: Sequence[Applied], *, as_json: bool, quiet: bool) -> None:
    """Print what became of each commit."""
    if as_json:
        shown = [{**one._asdict(), "files": [file._asdict() for file in one.files]} for one in applied]
        print_json(shown)
        return
    for one in () if quiet else applied:
        for file in one.files:
            click.echo(f"'{printable(file.path)}': {file.counts}")
        done = f"as {one.commit[:12]}" if one.commit else "staged"
        click.echo(f"applied {one.source[:12]}, {done}")
