"""``git coral demo``: what it does, shown on this machine in a few seconds."""

from __future__ import annotations

import sys
from dataclasses import asdict

import click

from coral_git.cli.options import json_option, print_json
from coral_git.errors import ProblemsFound, UsageError
from coral_git.manifest.escape import printable
from coral_git.pipeline.progress import format_size
from coral_git.repository.demo import DemoReport, demo_folder, run_demo

_PLAIN_WIDTH = 100
_FILE = click.Path(exists=True, dir_okay=False)


@click.command("demo")
@click.option("--keep", metavar="DIR", help="Work in DIR, a new or empty folder, and leave it there.")
@click.option(
    "--model", "models", metavar="FILE…", multiple=True, type=_FILE, help="Take your own weight files."
)
@click.argument("more", nargs=-1, type=_FILE, metavar="")
@json_option
def command(keep: str | None, models: tuple[str, ...], more: tuple[str, ...], as_json: bool) -> None:
    """Train a small network, commit its checkpoints, push, clone, and compare every byte.

    Works in a temporary folder, with a repository and a bare repository of its own; your configuration is
    neither used nor changed. With --model, the files are successive versions of a model: oldest first.

    Exits with 1 when a file does not come back byte for byte.
    """
    if more and len(models) != 1:
        raise UsageError("files are named after one '--model'", hint="git coral demo --model FILE…")
    with demo_folder(keep) as folder:
        report = run_demo(folder, (*models, *more), (lambda _: None) if as_json else click.echo)
        if as_json:
            print_json(_plain(report, folder if keep is not None else None))
        else:
            _print(report)
            if keep is not None:
                click.echo(f"kept in '{printable(folder)}'")
    if not report.identical:
        raise ProblemsFound("a file did not come back byte for byte")


def _plain(report: DemoReport, folder: str | None) -> dict[str, object]:
    return {
        **asdict(report),
        "versions": [{**asdict(one), "identical": one.identical} for one in report.versions],
        "raw_bytes": report.raw_bytes,
        "stored_bytes": report.stored_bytes,
        "identical": report.identical,
        "folder": folder,
    }


def _print(report: DemoReport) -> None:
    """The table, and what it comes to."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_footer=True, pad_edge=False)
    table.add_column("version", footer="all versions", overflow="ellipsis", no_wrap=True, ratio=1)
    totals = [
        format_size(report.raw_bytes),
        format_size(report.stored_bytes),
        _share(report.stored_bytes, report.raw_bytes),
        f"{sum(one.add_seconds for one in report.versions):.2f} s",
        f"{sum(one.checkout_seconds for one in report.versions):.2f} s",
    ]
    for title, total in zip(("raw", "stored", "of raw", "add", "checkout"), totals, strict=True):
        table.add_column(title, footer=total, justify="right", no_wrap=True)
    for one in report.versions:
        table.add_row(
            Text(one.message),
            format_size(one.raw_bytes),
            format_size(one.stored_bytes),
            _share(one.stored_bytes, one.raw_bytes),
            f"{one.add_seconds:.2f} s",
            f"{one.checkout_seconds:.2f} s",
        )
    terminal = sys.stdout.isatty()
    console = Console(width=None if terminal else _PLAIN_WIDTH, highlight=False, soft_wrap=not terminal)
    console.print()
    console.print(table)
    for line in _summary(report):
        console.print(Text(line))


def _summary(report: DemoReport) -> list[str]:
    same = sum(one.identical for one in report.versions)
    server, raw = format_size(report.server_bytes), format_size(report.raw_bytes)
    share = _share(report.server_bytes, report.raw_bytes)
    return [
        f"bare repository after the push: {server}, {share} of the {raw} that plain copies would take",
        f"push {report.push_seconds:.2f} s, clone with the newest version {report.clone_seconds:.2f} s",
        f"{same} of {len(report.versions)} versions came back byte for byte (SHA-256)",
    ]


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "-"
