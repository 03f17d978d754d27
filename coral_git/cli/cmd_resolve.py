"""``git coral resolve``: conflicts in weight files settled."""

from __future__ import annotations

import os
import sys

import click

from coral_git.cli.contested import contested_json, contested_lines
from coral_git.cli.merge_options import wanted_options
from coral_git.cli.options import dry_run_option, json_option, print_json
from coral_git.manifest.escape import escape_name
from coral_git.merge.driver import count_outcomes
from coral_git.merge.settings import Wanted
from coral_git.pipeline.messages import show_path
from coral_git.pipeline.progress import Progress
from coral_git.pipeline.workspace import Workspace
from coral_git.repository.resolving import Resolution, resolve_files


@click.command("resolve")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@wanted_options
@click.option("--tensor", "tensors", metavar="GLOB", multiple=True, help="Only for these tensors.")
@click.option("-f", "--force", is_flag=True, help="Replace files changed since the conflict, too.")
@dry_run_option
@json_option
def command(
    paths: tuple[str, ...],
    wanted: Wanted,
    tensors: tuple[str, ...],
    force: bool,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Settle conflicts in weight files, and broken manifests.

    Without --tensor the strategy is for every contested tensor and, if it is ours, theirs or base, for what
    is no tensor. What is settled is remembered; when nothing is left the result is staged and written. Exits
    with 1 while tensors need a decision.
    """
    workspace = Workspace.open()
    done = []
    try:
        with Progress("merging weights", quiet=as_json) as progress:
            for one in resolve_files(
                workspace,
                paths,
                wanted._replace(tensors=tensors),
                force=force,
                dry_run=dry_run,
                progress=progress.update,
            ):
                done.append(one)
                if not as_json:
                    _print(one, dry_run)
    finally:
        workspace.close()
    if as_json:
        print_json([_as_json(one) for one in done])
    return 1 if any(one.reason for one in done) else 0


def _print(done: Resolution, dry_run: bool) -> None:
    shown = show_path(done.path)
    if not done.reason:
        verb = "would resolve" if dry_run else "resolved"
        outcome = f": {count_outcomes(done.plan)}" if done.plan else ": deleted" if done.is_removed else ""
        click.echo(f"{verb} '{shown}' ({done.choices.default}){outcome}")
        for note in done.plan.notes if done.plan else ():
            click.echo(f"'{shown}': {note}")
        return
    click.echo(f"'{shown}': {done.reason}")
    for line in contested_lines(done.left, show_all=False):
        click.echo(line)
    for bad in done.bad:
        click.echo(f"  {escape_name(bad.name)}  {bad.values} value{'s' if bad.values != 1 else ''}")
    if done.bad:
        print(
            "hint: another strategy, or git -c coral.merge.allowNonFinite=true coral resolve", file=sys.stderr
        )
    if done.left:
        print(
            f"hint: git coral resolve '{shown}' --tensor GLOB --strategy ours (or theirs, …)", file=sys.stderr
        )


def _as_json(done: Resolution) -> dict[str, object]:
    outcomes: dict[str, int] = {}
    for one in done.plan.decisions if done.plan else ():
        outcomes[str(one.outcome)] = outcomes.get(str(one.outcome), 0) + 1
    return {
        "path": os.fsdecode(done.path),
        "resolved": not done.reason,
        "strategy": str(done.choices.default),
        "outcomes": outcomes,
        "deleted": done.is_removed,
        "reason": done.reason,
        "left": contested_json(done.left),
    }
