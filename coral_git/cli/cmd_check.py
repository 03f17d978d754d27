"""``git coral check``: for continuous integration, are these commits complete?"""

from __future__ import annotations

from dataclasses import asdict

import click

from coral_git.cli.options import json_option, print_json, quiet_option
from coral_git.errors import ProblemsFound, UsageError
from coral_git.maintenance.check import CheckReport, check_commits
from coral_git.pipeline.workspace import Workspace

_HINTS = {
    "raw": "run 'git coral install', then 'git add --renormalize .' and commit",
    "manifest": "git coral resolve PATH --strategy average (or ours, theirs, …), then commit",
    "version": "install a newer coral-git",
    "missing": "whoever made the commit has the objects: run 'git coral push' there",
}


@click.command("check", context_settings={"ignore_unknown_options": True})
@click.argument("ranges", metavar="[RANGE]...", nargs=-1)
@click.option("--remote", metavar="NAME", default="", help="A remote or URL that may have the objects.")
@click.option("--complete", is_flag=True, help="That remote must have every object.")
@json_option
@quiet_option
def command(ranges: tuple[str, ...], remote: str, complete: bool, as_json: bool, quiet: bool) -> None:
    """Check that the weight files of commits are valid manifests whose objects can be had.

    RANGE is a commit, or as for git rev-list: main..topic, ^main, --all. The default is HEAD. Without
    --remote the objects must be here. Exits with 1 and a list when something is wrong.
    """
    if complete and not remote:
        raise UsageError("'--complete' needs '--remote'", hint="git coral check --remote origin --complete")
    report = check_commits(Workspace.open(), ranges, remote=remote, complete=complete)
    if as_json:
        print_json({**asdict(report), "complaints": [one.as_json() for one in report.complaints]})
    else:
        _print(report, quiet)
    if report.complaints:
        raise ProblemsFound("problems were found")


def _print(report: CheckReport, quiet: bool) -> None:
    for complaint in report.complaints:
        click.echo(str(complaint))
    for kind in dict.fromkeys(complaint.kind for complaint in report.complaints):
        click.echo(f"hint: {_HINTS[kind]}", err=True)
    if not quiet:
        count = len(report.complaints)
        verdict = "1 problem" if count == 1 else f"{count} problems" if count else "no problems"
        click.echo(f"{report.commits} commits, {report.files} files, {report.objects} objects: {verdict}")
