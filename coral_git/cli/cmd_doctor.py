"""``git coral doctor``: what could go wrong here, and what to do about it."""

from __future__ import annotations

import click

from coral_git.cli.options import json_option, print_json
from coral_git.errors import NotARepositoryError
from coral_git.pipeline.workspace import Workspace
from coral_git.repository.doctor import Finding, examine, facts


@click.command("doctor")
@json_option
def command(as_json: bool) -> int:
    """Check git, its configuration, this repository and its store; every finding comes with its remedy.

    Exits with 1 when something does not work; warnings and notes alone are fine.
    """
    workspace = _workspace_or_none()
    try:
        known = facts(workspace)
        findings = list(examine(workspace))
    finally:
        if workspace is not None:
            workspace.close()
    if as_json:
        print_json({"facts": known, "findings": [_plain(finding) for finding in findings]})
    else:
        for name, value in known.items():
            click.echo(f"{name}: {value}")
        for finding in findings:
            click.echo(f"{finding.level}: {finding.message}")
            for line in finding.remedy.splitlines():
                click.echo(f"    {line}")
        if not findings:
            click.echo("no problems found")
    return 1 if any(finding.level == "error" for finding in findings) else 0


def _workspace_or_none() -> Workspace | None:
    try:
        return Workspace.open()
    except NotARepositoryError:
        return None


def _plain(finding: Finding) -> dict[str, str]:
    return {
        "level": finding.level,
        "check": finding.check,
        "message": finding.message,
        "remedy": finding.remedy,
    }
