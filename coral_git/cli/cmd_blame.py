"""``git coral blame``: for each tensor, the commit that last changed it."""

from __future__ import annotations

import fnmatch
from datetime import UTC, datetime

import click

from coral_git.cli.commit_lines import SHORT
from coral_git.cli.diff_text import number
from coral_git.cli.options import json_option, print_json
from coral_git.cli.pager import page
from coral_git.cli.tables import table_lines
from coral_git.diff.as_json import finite
from coral_git.manifest.escape import escape_name, printable
from coral_git.pipeline.workspace import Workspace
from coral_git.repository.blaming import Blame, blame


@click.command("blame")
@click.argument("words", nargs=-1, metavar="[REV] PATH")
@click.option("--tensor", "patterns", multiple=True, metavar="GLOB", help="Only tensors whose names match.")
@click.option("--fast", is_flag=True, help="Read no tensor, and leave the sizes of changes out.")
@json_option
def command(words: tuple[str, ...], patterns: tuple[str, ...], fast: bool, as_json: bool) -> None:
    """Show which commit last changed each tensor of PATH, and by how much (‖Δ‖/‖W‖).

    A tensor that a merge took from one side is traced to that side; renames are followed.
    """
    if not 1 <= len(words) <= 2:
        raise click.UsageError("give a path, and a revision before it if you like")
    revision = words[0] if len(words) == 2 else "HEAD"
    workspace = Workspace.open()
    try:
        found = blame(
            workspace,
            revision,
            words[-1],
            lambda name: not patterns or any(fnmatch.fnmatchcase(name, glob) for glob in patterns),
            with_figures=not fast,
        )
        if as_json:
            print_json([_as_json(one) for one in found])
        else:
            rows = [_row(one) for one in found]
            page(table_lines(rows, (4,)) if rows else iter(()))
    finally:
        workspace.close()


def _row(one: Blame) -> tuple[str, ...]:
    date = datetime.fromtimestamp(one.commit.time, UTC).strftime("%Y-%m-%d")
    origin = one.origin
    change = "new" if origin.old is None else number(one.figures and one.figures.relative)
    return (
        click.style(origin.commit[:SHORT], fg="yellow"),
        printable(one.commit.author),
        date,
        printable(one.commit.subject),
        change,
        escape_name(origin.tensor.name),
    )


def _as_json(one: Blame) -> dict[str, object]:
    origin, figures = one.origin, one.figures
    return {
        "tensor": origin.tensor.name,
        "name_there": origin.name,
        "commit": origin.commit,
        "path": origin.path.decode("utf-8", "surrogateescape"),
        "author": one.commit.author,
        "time": datetime.fromtimestamp(one.commit.time, UTC).isoformat(),
        "subject": one.commit.subject,
        "is_new": origin.old is None,
        "delta_norm": finite(figures and figures.delta_norm),
        "relative": finite(figures and figures.relative),
    }
