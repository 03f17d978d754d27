"""Options that several commands share, and printing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import click

F = TypeVar("F", bound=Callable[..., object])

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
quiet_option = click.option("-q", "--quiet", is_flag=True, help="Print only problems.")
dry_run_option = click.option("-n", "--dry-run", is_flag=True, help="Only say what would be done.")


def scope_option(function: F) -> F:
    """``--global`` (the default), ``--local``, ``--system`` or ``--worktree``, as for ``git config``."""
    for name, text in (
        ("worktree", "This work tree only."),
        ("system", "Every user of this machine."),
        ("local", "This repository only."),
        ("global", "All your repositories (default)."),
    ):
        function = click.option(f"--{name}", "scope", flag_value=name, callback=_scope, help=text)(function)
    return function


def _scope(context: click.Context, _parameter: click.Parameter, value: str | None) -> str:
    """The scope after one of its options: releases of click differ in what an option not given leaves."""
    return value or context.params.get("scope") or "global"


def print_json(value: object) -> None:
    """Print a value as JSON with a stable order of keys."""
    click.echo(_json(value))


def print_json_list(values: Iterable[object]) -> None:
    """Print values as a JSON list while they come."""
    lead = "[\n"
    for value in values:
        text = _json(value)
        click.echo(lead + "  " + text.replace("\n", "\n  "), nl=False)
        lead = ",\n"
    click.echo("[]" if lead == "[\n" else "\n]")


def _json(value: object) -> str:
    import json  # most people read

    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=True)
