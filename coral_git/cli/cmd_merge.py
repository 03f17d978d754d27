"""``git coral merge``: merge branches with a strategy for the weights, and record how."""

from __future__ import annotations

import os
from collections.abc import Iterable

import click

from coral_git.cli.merge_options import wanted_options
from coral_git.cli.options import dry_run_option, json_option, print_json, quiet_option
from coral_git.errors import UsageError
from coral_git.manifest.escape import escape_name
from coral_git.merge.settings import Wanted
from coral_git.pipeline.messages import show_path
from coral_git.pipeline.workspace import Workspace
from coral_git.repository.merge_preview import Preview, changed, preview
from coral_git.repository.merge_report import MergedFile, outcomes_of
from coral_git.repository.merging import MergeOptions, MergeResult, merge_branch
from coral_git.repository.octopus import merge_branches

_HEAD = ("tensor", "outcome", "\u2016\u0394ours\u2016", "\u2016\u0394theirs\u2016", "cosine")


@click.command("merge")
@click.argument("branches", nargs=-1, required=True, metavar="BRANCH...")
@wanted_options
@click.option("-m", "--message", default="", help="The message of the commit.")
@click.option("--no-commit", is_flag=True, help="Stop before the commit.")
@click.option("--no-ff", "fast_forward", flag_value="--no-ff", help="Make a commit in any case.")
@click.option("--ff-only", "fast_forward", flag_value="--ff-only", help="Only move the branch.")
@click.option("--allow-nonfinite", is_flag=True, help="Take results with new infinities and NaNs.")
@dry_run_option
@json_option
@quiet_option
def command(
    branches: tuple[str, ...],
    wanted: Wanted,
    message: str,
    no_commit: bool,
    fast_forward: str | None,
    allow_nonfinite: bool,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
) -> int:
    """Merge branches as 'git merge' does, with a strategy for tensors that several sides changed.

    The commit records strategy, parameters and counts in trailers. With several branches it has that many
    parents. --dry-run shows what each side did to each tensor and what would become of it.
    """
    workspace = Workspace.open()
    try:
        if dry_run:
            return _show(list(preview(workspace, branches, wanted)), as_json)
        options = MergeOptions(wanted, message, not no_commit, fast_forward or "", allow_nonfinite)
        if len(branches) == 1:
            result = merge_branch(workspace, branches[0], options)
        elif no_commit or fast_forward:
            raise UsageError(
                "several branches are merged into a commit of their own: no --no-commit, no --ff"
            )
        else:
            result = merge_branches(workspace, branches, options)
    finally:
        workspace.close()
    if as_json:
        print_json({**result._asdict(), "files": [one._asdict() for one in result.files]})
    elif not quiet:
        _print(result)
    return 1 if result.status == "conflict" else 0


def _print(result: MergeResult) -> None:
    if result.status == "conflict":
        return  # git and the merge driver have said why
    if result.status == "staged":
        click.echo("merged and staged; conclude it with 'git commit'")
    elif result.status == "merged":
        click.echo(f"merged as {result.commit[:12]}")
    else:
        click.echo(result.status)


def _show(previews: list[Preview], as_json: bool) -> int:
    if as_json:
        print_json([_as_json(one) for one in previews])
    else:
        for one in previews:
            _print_preview(one)
        if not previews:
            click.echo("no weight file was changed on more than one side")
    return 1 if any(one.result.reason for one in previews) else 0


def _print_preview(one: Preview) -> None:
    click.echo(f"{show_path(one.path)} ({one.strategy})")
    rows: list[tuple[str, ...]] = [
        ("tensor", "outcome", "\u2016\u0394ours\u2016", "\u2016\u0394theirs\u2016", "cosine")
    ]
    for decision in changed(one.result):
        distance = one.distances[decision.change.name]
        how = str(decision.choice) if decision.outcome == "merged" else str(decision.outcome)
        norms = [_number(norm) for norm in distance.norms[:2]]
        rows.append((escape_name(decision.change.name), how, *norms, _number(distance.cosine)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [row[0].ljust(widths[0]), row[1].ljust(widths[1])]
        cells += [cell.rjust(width) for cell, width in zip(row[2:], widths[2:], strict=True)]
        click.echo("  " + "  ".join(cells).rstrip())
    click.echo(f"  {_counts(one)}")
    if one.result.reason:
        click.echo(f"  conflict: {one.result.reason}")


def _counts(one: Preview) -> str:
    return MergedFile("", "", (), outcomes_of(one.result)).counts


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _as_json(one: Preview) -> dict[str, object]:
    return {
        "path": os.fsdecode(one.path),
        "strategy": one.strategy,
        "reason": one.result.reason,
        "tensors": list(_tensors(one)),
    }


def _tensors(one: Preview) -> Iterable[dict[str, object]]:
    for decision in changed(one.result):
        distance = one.distances[decision.change.name]
        yield {
            "name": decision.change.name,
            "outcome": str(decision.outcome),
            "strategy": None if decision.choice is None else str(decision.choice),
            "reason": decision.reason,
            "norms": distance.norms,
            "cosine": distance.cosine,
        }
