"""``git coral config``: the settings, with their meaning; what is kept is git's own configuration."""

from __future__ import annotations

import click

from coral_git.cli.options import json_option, print_json
from coral_git.config import KEYS, MERGE_KEYS, Key, read_settings
from coral_git.errors import UsageError
from coral_git.merge.settings import check_setting
from coral_git.pipeline.workspace import Workspace

_ALL = KEYS + MERGE_KEYS
_LISTS = ("coral.merge.rule",)


@click.command("config")
@click.argument("name", required=False)
@click.argument("value", required=False)
@click.option("--global", "is_global", is_flag=True, help="For all your repositories, not only this one.")
@click.option("--unset", is_flag=True, help="Go back to the default.")
@json_option
def command(name: str | None, value: str | None, is_global: bool, unset: bool, as_json: bool) -> None:
    """Show the settings, show one, or set one.

    A name may be written as in 'git config' (coral.deltaType) or without the prefix (delta-type). A value is
    checked before it is written; a 'merge.rule' is added to those that are there.
    """
    workspace = Workspace.open()
    if name is None:
        _list(workspace, as_json)
        return
    key = _find(name)
    scope = "--global" if is_global else "--local"
    if unset:
        if value is not None:
            raise UsageError("--unset takes no value")
        workspace.git.run("config", scope, "--unset-all", key.name)
    elif value is not None:
        _check(key, value)
        workspace.git.run(
            "config", scope, "--add" if key.name in _LISTS else "--replace-all", key.name, value
        )
    elif as_json:
        print_json(_facts(workspace, key))
    else:
        click.echo(_facts(workspace, key)["value"])


def _check(key: Key, value: str) -> None:
    if key in MERGE_KEYS:
        check_setting(key.name, value)
    else:
        read_settings({key.name: value}.get)


def _find(name: str) -> Key:
    """The key that is meant: without regard to case, hyphens and the prefix."""
    wanted = name.lower().replace("-", "").replace("_", "").removeprefix("coral.")
    for key in _ALL:
        if key.name.lower().removeprefix("coral.") == wanted:
            return key
    known = ", ".join(key.name.removeprefix("coral.") for key in _ALL)
    raise UsageError(f"there is no setting {name!a}", hint=f"the settings are: {known}")


def _facts(workspace: Workspace, key: Key) -> dict[str, object]:
    found = workspace.config.get_all(key.name)
    value = None if not found else " ".join(found) if key.name in _LISTS else found[-1]
    return {
        "name": key.name,
        "value": key.default if value is None else value,
        "default": key.default,
        "is_set": value is not None,
        "meaning": key.meaning,
    }


def _list(workspace: Workspace, as_json: bool) -> None:
    facts = [_facts(workspace, key) for key in _ALL]
    if as_json:
        print_json(facts)
        return
    width = max(len(key.name) for key in _ALL)
    for fact in facts:
        mark = "" if fact["is_set"] else "  (default)"
        click.echo(f"{fact['name']:<{width}}  {fact['value']}{mark}")
