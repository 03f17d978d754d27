"""``git coral deduplicate``: what is equal, and what is similar enough to be stored as a difference."""

from __future__ import annotations

import sys
from dataclasses import asdict

import click

from coral_git.cli.options import dry_run_option, json_option, print_json, quiet_option
from coral_git.maintenance.deduplicate import Duplicates, deduplicate
from coral_git.maintenance.repack import RepackReport
from coral_git.pipeline.progress import Progress, format_size
from coral_git.pipeline.workspace import Workspace


@click.command("deduplicate")
@dry_run_option
@json_option
@quiet_option
def command(dry_run: bool, as_json: bool, quiet: bool) -> None:
    """Find equal and similar tensors in all versions of all files.

    Equal ones are stored once anyway. A tensor that is stored in full and is similar to another one, as
    coral.similarityThreshold says, becomes a difference to it. Every object is compared before anything is
    replaced, and what was replaced stays in the trash for the grace time.
    """
    workspace = Workspace.open()
    with Progress("deduplicating", quiet=quiet) as progress:
        counted, report = deduplicate(workspace, dry_run=dry_run, progress=progress.update)
    for warning in report.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if as_json:
        print_json({"equal": asdict(counted), "similar": asdict(report)})
    elif not quiet:
        _print(counted, report)


def _print(counted: Duplicates, report: RepackReport) -> None:
    saved = counted.parts_bytes - counted.objects_bytes
    percent = 100 * saved / counted.parts_bytes if saved else 0
    named = (
        f"{counted.files} files name {counted.parts} tensors and chunks of {format_size(counted.parts_bytes)}"
    )
    different = f"{counted.objects} of them, {format_size(counted.objects_bytes)}, are different"
    click.echo(f"equal: {named}; {different} ({percent:.1f} % saved)")
    if not report.rebased:
        click.echo("similar: nothing to gain")
        return
    would = "would become" if report.dry_run else "have become"
    click.echo(
        f"similar: {report.rebased} full copies {would} differences, {format_size(report.bytes_saved)} saved "
        f"({100 * report.bytes_saved / report.bytes_before:.1f} % of {format_size(report.bytes_before)})"
    )
