"""``git coral tags``: the versions of this repository."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from coral_git.cli.commit_lines import SHORT, facts_json, facts_line
from coral_git.cli.options import json_option, print_json_list
from coral_git.cli.tables import print_table
from coral_git.history.expression import parse_condition
from coral_git.history.goals import Goal
from coral_git.history.tags import Tag, list_tags
from coral_git.manifest.escape import printable
from coral_git.pipeline.workspace import Workspace


@click.command("tags")
@click.argument("patterns", nargs=-1, metavar="[PATTERN]...")
@click.option(
    "--pattern", "more", multiple=True, metavar="GLOB", help="Names that match, e.g. 'production_*'."
)
@click.option("--filter", "condition", metavar="EXPR", help="E.g. 'accuracy>0.90'.")
@click.option("--sort-by", metavar="METRIC", help="The best first.")
@json_option
def command(
    patterns: tuple[str, ...],
    more: tuple[str, ...],
    condition: str | None,
    sort_by: str | None,
    as_json: bool,
) -> None:
    """List tags with what they say: commit, date, metrics, description."""
    chosen = parse_condition(condition) if condition is not None else None
    goal = Goal.parse(sort_by) if sort_by is not None else None
    workspace = Workspace.open()
    tags = [
        one for one in list_tags(workspace.git, (*patterns, *more)) if chosen is None or chosen(one.facts)
    ]
    if goal is not None:
        tags.sort(key=lambda one: goal.rank(one.facts.metrics))
    if as_json:
        print_json_list(_as_json(one) for one in tags)
    else:
        print_table([_row(one) for one in tags])


def _row(tag: Tag) -> tuple[str, ...]:
    date = datetime.fromtimestamp(tag.time, UTC).strftime("%Y-%m-%d")
    return printable(tag.name), tag.commit[:SHORT], date, facts_line(tag.facts), printable(tag.description)


def _as_json(tag: Tag) -> dict[str, object]:
    return {
        "name": tag.name,
        "commit": tag.commit,
        "tagger": tag.tagger,
        "time": datetime.fromtimestamp(tag.time, UTC).isoformat(),
        "description": tag.description,
        **facts_json(tag.facts),
    }
