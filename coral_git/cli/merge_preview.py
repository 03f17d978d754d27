"""What ``git coral merge --dry-run`` prints."""

from __future__ import annotations

import os
from collections.abc import Iterable

import click

from coral_git.cli.options import print_json
from coral_git.manifest.escape import escape_name
from coral_git.pipeline.messages import show_path
from coral_git.repository.merge_preview import Preview, changed
from coral_git.repository.merge_report import MergedFile, outcomes_of

_HEAD = ("tensor", "outcome", "\u2016\u0394ours\u2016", "\u2016\u0394theirs\u2016", "cosine")


def show_previews(previews: list[Preview], as_json: bool) -> int:
    """Print previews; gives the exit code, 1 where there would be a conflict."""
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
    rows: list[tuple[str, ...]] = [_HEAD]
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
