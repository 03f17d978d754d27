"""Long listings: through the pager on a terminal, as git does it, else line by line."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

import click


def page(lines: Iterable[str]) -> None:
    """Print lines while they are made.

    On a terminal they go through ``$GIT_PAGER`` or ``$PAGER``, ``less`` by default, which ends by itself when
    everything fits on the screen.
    """
    if not sys.stdout.isatty():
        for line in lines:
            click.echo(line)
        return
    if "GIT_PAGER" in os.environ:
        os.environ["PAGER"] = os.environ["GIT_PAGER"] or "cat"
    os.environ.setdefault("LESS", "FRX")
    click.echo_via_pager(line + "\n" for line in lines)
