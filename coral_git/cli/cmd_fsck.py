"""``git coral fsck``: is everything there, and does every file come back?"""

from __future__ import annotations

import sys
from dataclasses import asdict

import click

from coral_git.cli.options import json_option, print_json, quiet_option
from coral_git.errors import ProblemsFound
from coral_git.maintenance.findings import FsckReport
from coral_git.maintenance.fsck import check_store
from coral_git.maintenance.repair import repair_store
from coral_git.pipeline.progress import Progress
from coral_git.pipeline.workspace import Workspace

_HINTS = (
    ({"pack", "index", "object", "base", "restore"}, "run 'git coral fsck --repair'"),
    ({"missing"}, "run 'git coral fetch', or add the file again where it still is"),
    ({"version"}, "install a newer coral-git"),
    ({"manifest"}, "commit a whole version of the file: 'git add' it again"),
)


@click.command("fsck")
@click.option("--repair", is_flag=True, help="Repair what can be repaired; nothing is deleted.")
@click.option("--quick", is_flag=True, help="Check digests only; decode nothing and restore no file.")
@json_option
@quiet_option
def command(repair: bool, quick: bool, as_json: bool, quiet: bool) -> None:
    """Check every pack, index and manifest, and that every file of every version comes back byte for byte.

    Exits with 1 when something is wrong, and names the files, tensors and commits that are affected.
    """
    workspace = Workspace.open()
    with Progress("checking", quiet=quiet) as progress:
        run = repair_store if repair else check_store
        report = run(workspace, quick=quick, progress=progress.update)
    for warning in report.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if as_json:
        print_json({**asdict(report), "findings": [finding.as_json() for finding in report.findings]})
    else:
        _print(report, quiet)
    if report.findings:
        raise ProblemsFound("problems were found")


def _print(report: FsckReport, quiet: bool) -> None:
    for line in report.repaired:
        click.echo(f"repaired: {line}")
    for finding in report.findings:
        click.echo(str(finding))
    kinds = {finding.kind for finding in report.findings}
    for affected, hint in _HINTS:
        if kinds & affected:
            click.echo(f"hint: {hint}", err=True)
    if quiet:
        return
    if report.elsewhere:
        click.echo(f"{report.elsewhere} objects of other versions are on remote stores only")
    restored = f", {report.restored} files restored" if report.restored else ""
    verdict = f"{len(report.findings)} problems" if report.findings else "no problems"
    click.echo(
        f"{report.packs} packs, {report.objects} objects, {report.manifests} manifests{restored}: {verdict}"
    )
