"""``git coral repack``: store differences smaller, when nobody waits."""

from __future__ import annotations

import sys
from dataclasses import asdict

import click

from coral_git.cli.options import dry_run_option, json_option, print_json, quiet_option
from coral_git.codecs.choose import PROFILES
from coral_git.limits import DEFAULT_LIMITS
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
@click.option(
    "--depth",
    type=click.IntRange(1, 64),
    help=f"How many differences may lie on top of each other; {DEFAULT_LIMITS.chain_depth} when adding.",
)
@dry_run_option
@json_option
@quiet_option
def command(profile: str, depth: int | None, dry_run: bool, as_json: bool, quiet: bool) -> None:
    """Write packs anew with better bases and smaller codecs.

    A base is looked for among all stored objects, and taken where that saves 5 % of the object or more. With
    --depth, deeper chains are cut: larger, and faster to check out. Every object is compared before anything
    is replaced. The packs that were replaced stay in the trash for the grace time; 'git coral gc --prune now'
    gives their space back at once.
    """
    workspace = Workspace.open()
    with Progress("repacking", quiet=quiet) as progress:
        report = repack(workspace, profile=profile, depth=depth, dry_run=dry_run, progress=progress.update)
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
    click.echo(
        f"{report.objects} objects in {report.rewritten} of {report.packs} packs {would} encoded anew, "
        f"{report.rebased} of them with another base"
    )
    saved = report.bytes_saved
    percent = 100 * abs(saved) / report.bytes_before
    of = f"{percent:.1f} % of {format_size(report.bytes_before)}"
    click.echo(f"{format_size(abs(saved))} {'saved' if saved >= 0 else 'more'} ({of})")
