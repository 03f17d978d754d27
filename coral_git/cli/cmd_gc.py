"""``git coral gc``: remove what nothing refers to any more, and merge small packs."""

from __future__ import annotations

import sys
from dataclasses import asdict

import click

from coral_git.cli.options import dry_run_option, json_option, print_json, quiet_option
from coral_git.config import parse_age
from coral_git.maintenance.gc import GcReport, collect_garbage
from coral_git.pipeline.progress import format_size
from coral_git.pipeline.workspace import Workspace

_DAY = 86_400


@click.command("gc")
@dry_run_option
@click.option("--prune", metavar="AGE", help="Remove what is older than AGE, e.g. 3.days or now.")
@json_option
@quiet_option
def command(dry_run: bool, prune: str | None, as_json: bool, quiet: bool) -> None:
    """Remove objects that no manifest in git's object database names.

    They first go to the trash, from where they come back when somebody needs them; after the grace time
    (coral.gcGrace, 14 days) they are deleted. --prune with less than a day is safe only while nobody else
    works in the repository.
    """
    workspace = Workspace.open()
    grace = workspace.settings.grace_seconds if prune is None else parse_age(prune, "--prune")
    report = collect_garbage(workspace, grace=grace, dry_run=dry_run)
    for warning in report.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if as_json:
        print_json(asdict(report))
    elif not quiet:
        _print(report)


def _print(report: GcReport) -> None:
    would = "would have " if report.dry_run else ""
    if report.keep_all:
        click.echo(f"kept every object: {report.keep_all}")
    if report.restored:
        click.echo(f"{would}brought {_count(report.restored, 'pack')} back from the trash")
    if report.trashed:
        size = format_size(report.trashed_bytes)
        click.echo(f"{would}moved {_count(report.trashed, 'pack')} ({size}) to the trash{_kept_for(report)}")
    if report.rewritten:
        size = format_size(report.dead_bytes)
        click.echo(f"{would}rewritten {_count(report.rewritten, 'pack')} without {size} of dead objects")
    if report.merged:
        click.echo(f"{would}merged {_count(report.merged, 'small pack')}")
    if report.leftovers:
        click.echo(f"{would}removed {_count(report.leftovers, 'file')} of processes that are gone")
    if report.young_bytes:
        click.echo(f"{format_size(report.young_bytes)} of dead objects are too young to go")
    click.echo(f"{would}freed {format_size(report.freed_bytes)}")


def _kept_for(report: GcReport) -> str:
    if not report.grace:
        return ""
    days = report.grace / _DAY
    return f", deleted after {_count(round(days), 'day') if days >= 1 else f'{report.grace} seconds'}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
