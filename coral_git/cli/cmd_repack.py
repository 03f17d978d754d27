"""``git coral repack``: store differences smaller, when nobody waits."""

from __future__ import annotations

import sys
from dataclasses import asdict

import click

from coral_git.cli.options import dry_run_option, json_option, print_json, quiet_option
from coral_git.codecs.choose import PROFILES
from coral_git.maintenance.repack import RepackReport, repack
from coral_git.pipeline.progress import Progress, format_size
from coral_git.pipeline.workspace import Workspace


@click.command("repack")
@click.option(
    "--profile",
    type=click.Choice([name for name, width in PROFILES.items() if width]),
    default="best",
    show_default=True,
    help="Which codecs to try, see coral.profile.",
)
@dry_run_option
@json_option
@quiet_option
def command(profile: str, dry_run: bool, as_json: bool, quiet: bool) -> None:
    """Write packs anew with smaller codecs for the differences in them.

    Every object keeps its base and is compared before anything is replaced. The packs that were replaced stay
    in the trash for the grace time; 'git coral gc --prune now' gives their space back at once.
    """
    workspace = Workspace.open()
    with Progress("repacking", quiet=quiet) as progress:
        report = repack(workspace, profile=profile, dry_run=dry_run, progress=progress.update)
    for warning in report.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if as_json:
        print_json(asdict(report))
    elif not quiet:
        _print(report)


def _print(report: RepackReport) -> None:
    if not report.rewritten:
        click.echo("nothing to gain")
        return
    would = "would be" if report.dry_run else "are now"
    percent = 100 * report.bytes_saved / report.bytes_before
    packs = f"{report.rewritten} of {report.packs} packs"
    click.echo(
        f"{report.objects} objects in {packs} {would} smaller: {format_size(report.bytes_saved)} saved "
        f"({percent:.1f} % of {format_size(report.bytes_before)})"
    )
