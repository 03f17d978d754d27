"""``git coral track``: which files are weights."""

from __future__ import annotations

import os

import click

from coral_git.cli.options import json_option, print_json
from coral_git.errors import UsageError
from coral_git.git.attributes import list_patterns, literal_pattern, track_in
from coral_git.git.drivers import MERGE_STRATEGIES
from coral_git.pipeline.workspace import Workspace


@click.command("track")
@click.argument("patterns", nargs=-1)
@click.option("--filename", is_flag=True, help="Take each pattern as the exact name of one file.")
@click.option(
    "--merge",
    "strategy",
    metavar="STRATEGY",
    help="Merge what both sides changed with this strategy, e.g. average; 'default' is what is configured.",
)
@json_option
def command(patterns: tuple[str, ...], filename: bool, strategy: str | None, as_json: bool) -> None:
    """Store files that match a pattern with coral-git; without a pattern, list the patterns.

    The pattern goes into .gitattributes of the current folder: commit that file.
    """
    workspace = Workspace.open()
    if not patterns:
        if strategy is not None:
            raise UsageError(
                "--merge needs a pattern", hint="git coral track '*.safetensors' --merge average"
            )
        _list(workspace, as_json)
        return
    driver = _driver(strategy)
    for pattern in patterns:
        raw = os.fsencode(pattern)
        changed = track_in(os.getcwd(), literal_pattern(raw) if filename else raw, driver)
        click.echo(f"tracking '{pattern}'" if changed else f"'{pattern}' is tracked already")


def _driver(strategy: str | None) -> bytes:
    """The merge driver of a strategy; empty where none was named."""
    if strategy is None or strategy == "default":
        return b"coral" if strategy else b""
    if strategy not in MERGE_STRATEGIES:
        known = ", ".join(("default", *MERGE_STRATEGIES))
        raise UsageError(f"there is no merge driver for {strategy!a}", hint=f"it is one of: {known}")
    return b"coral-" + strategy.encode()


def _list(workspace: Workspace, as_json: bool) -> None:
    root = workspace.paths.work_tree
    found = [
        (os.fsdecode(tracked.pattern), os.path.relpath(tracked.file, root or "."))
        for tracked in list_patterns(workspace.git, root, workspace.paths.common_dir)
    ]
    if as_json:
        print_json([{"pattern": pattern, "file": file} for pattern, file in found])
        return
    for pattern, file in found:
        click.echo(f"{pattern} ({file})")
    if not found:
        click.echo("no pattern is tracked; try: git coral track '*.safetensors'")
