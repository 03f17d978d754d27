"""``git coral fetch``: objects into the store."""

from __future__ import annotations

import click

from coral_git.cli.options import dry_run_option, quiet_option
from coral_git.pipeline.workspace import Workspace
from coral_git.repository import fetching


@click.command("fetch")
@click.option("--all", "everything", is_flag=True, help="The objects of all history.")
@dry_run_option
@quiet_option
@click.argument("arguments", nargs=-1, metavar="[REMOTE|URL] [REVISION…]")
def command(arguments: tuple[str, ...], everything: bool, dry_run: bool, quiet: bool) -> None:
    """Bring weights into the store: those of HEAD, of revisions, or of all history.

    With a remote or the URL of a fork, branches are fetched by git first:

        git coral fetch https://example.org/fork.git topic && git merge FETCH_HEAD
    """
    workspace = Workspace.open()
    try:
        report = fetching.fetch(workspace, arguments, everything=everything, dry_run=dry_run, quiet=quiet)
    finally:
        workspace.close()
    if not quiet:
        click.echo(_summary(report, dry_run))
    fetching.require_complete(report)


def _summary(report: fetching.FetchReport, dry_run: bool) -> str:
    if dry_run:
        return f"would fetch {report.wanted} of {report.named} objects"
    if not report.wanted:
        return f"all {report.named} objects are here"
    return f"fetched {report.wanted - len(report.missing)} of {report.wanted} objects"
