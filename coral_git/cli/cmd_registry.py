"""``git coral registry``: named models, their versions, aliases, stages, and where they run."""

from __future__ import annotations

import click

from coral_git.cli.commit_lines import SHORT
from coral_git.cli.options import json_option, print_json, quiet_option
from coral_git.cli.registry_text import (
    event_json,
    event_row,
    list_rows,
    model_json,
    print_model,
    print_version,
)
from coral_git.cli.said_options import labels_of, metrics_of, said_options
from coral_git.cli.tables import print_table
from coral_git.errors import UsageError
from coral_git.history.registry import known_model, list_models, read_model
from coral_git.manifest.escape import printable
from coral_git.pipeline.workspace import Workspace
from coral_git.repository import registering
from coral_git.repository.registering import NewVersion, register

_sign = click.option("-s", "--sign", is_flag=True, help="Sign what is written, as 'git tag -s'.")


@click.group("registry")
def command() -> None:
    """Keep named models: versions (tags NAME/v1, NAME/v2, …), movable aliases, stages, deployments.

    A version is named NAME:3, NAME@champion (by alias) or NAME (the latest).
    """


@command.command("list")
@click.option("--stage", metavar="STAGE", help="Only versions in this stage.")
@json_option
def list_command(stage: str | None, as_json: bool) -> None:
    """List models with their latest version, aliases, stages, and where they run."""
    models = list_models(Workspace.open().git)
    if stage is not None:
        models = [one for one in models if stage in one.stages.values()]
    if as_json:
        print_json([model_json(one) for one in models])
    else:
        print_table([row for one in models for row in list_rows(one, stage)])


@command.command("show")
@click.argument("what", metavar="NAME[:VERSION|@ALIAS]")
@click.option("--rev", is_flag=True, help="Print only the id of the commit, for scripts.")
@json_option
def show(what: str, rev: bool, as_json: bool) -> None:
    """Show a model, or one version of it: commit, files, SHA-256, metrics, where it runs."""
    name, word = _split(what)
    model = known_model(Workspace.open().git, name)
    version = model.version(word or "latest")
    if rev:
        click.echo(version.tag.commit)
    elif as_json:
        print_json(model_json(model, version if word else None))
    elif word:
        print_version(model, version)
    else:
        print_model(model)


@command.command("promote")
@click.argument("name")
@click.argument("what", metavar="REV|:VERSION|@ALIAS", default="HEAD")
@click.argument("paths", nargs=-1, metavar="[PATH]...")
@click.option("--stage", metavar="STAGE", help="E.g. staging, production, archived.")
@click.option("--alias", "aliases", multiple=True, metavar="ALIAS", help="Let this alias name it.")
@click.option("-d", "-m", "--description", default="", metavar="TEXT", help="What this version is.")
@said_options
@_sign
@quiet_option
def promote(
    name: str,
    what: str,
    paths: tuple[str, ...],
    stage: str | None,
    aliases: tuple[str, ...],
    description: str,
    metrics: tuple[str, ...],
    files: tuple[str, ...],
    labels: tuple[str, ...],
    sign: bool,
    quiet: bool,
) -> None:
    """Make the next version of NAME out of REV (HEAD by default), or take the version that is meant.

    With --stage and --alias it gets these, too. PATH chooses among the weight files of the commit.
    """
    workspace = Workspace.open()
    if what.startswith((":", "@")):
        version = known_model(workspace.git, name).version(what.removeprefix(":"))
    else:
        measured = metrics_of(files, metrics)
        new = NewVersion(what, paths, description, measured, labels_of(labels), sign)
        version = register(workspace, name, new)
    model = read_model(workspace.git, name)
    if stage is not None:
        registering.set_stage(workspace, model, version.number, stage, sign=sign)
    for alias in aliases:
        registering.set_alias(workspace, model, alias, version.number, sign=sign)
    if not quiet:
        told = [f"in {stage}"] if stage else []
        told += [f"@{alias}" for alias in aliases]
        click.echo(
            f"{name} v{version.number} is {version.tag.commit[:SHORT]}{', ' if told else ''}{', '.join(told)}"
        )


@command.command("alias")
@click.argument("name")
@click.argument("alias")
@click.argument("version", required=False)
@click.option("--delete", is_flag=True, help="Let it name nothing any more.")
@_sign
def alias_command(name: str, alias: str, version: str | None, delete: bool, sign: bool) -> None:
    """Let ALIAS (e.g. champion) name VERSION; without VERSION say which one it names."""
    workspace = Workspace.open()
    model = known_model(workspace.git, name)
    alias = alias.removeprefix("@")
    if version is not None and delete:
        raise UsageError("--delete takes no version")
    if delete or version is not None:
        number = None if version is None else model.version(version.removeprefix(":")).number
        registering.set_alias(workspace, model, alias, number, sign=sign)
        click.echo(f"@{alias} of {name} is {'no more' if number is None else f'v{number}'}")
    else:
        click.echo(f"{model.version(f'@{alias}').number}")


@command.command("rollback")
@click.argument("name")
@click.argument("alias")
@_sign
def rollback(name: str, alias: str, sign: bool) -> None:
    """Let ALIAS name the version again that it named before."""
    workspace = Workspace.open()
    alias = alias.removeprefix("@")
    number = registering.roll_back(workspace, known_model(workspace.git, name), alias, sign=sign)
    click.echo(f"@{alias} of {name} is v{number} again")


@command.command("deploy")
@click.argument("what", metavar="NAME[:VERSION|@ALIAS]")
@click.option("--where", "place", required=True, metavar="PLACE", help="E.g. eu-west/api.")
@click.option("--withdraw", is_flag=True, help="It does not run there any more.")
@_sign
def deploy(what: str, place: str, withdraw: bool, sign: bool) -> None:
    """Note that a version was deployed: git keeps who said so and when."""
    workspace = Workspace.open()
    name, word = _split(what)
    model = known_model(workspace.git, name)
    number = model.version(word or "latest").number
    registering.deploy(workspace, model, number, place, withdraw=withdraw, sign=sign)
    click.echo(f"{name} v{number} {'withdrawn from' if withdraw else 'deployed to'} {printable(place)}")


@command.command("history")
@click.argument("name")
@json_option
def history(name: str, as_json: bool) -> None:
    """Show all that happened to a model: what, who, when. It stands in git's own commits."""
    model = known_model(Workspace.open().git, name)
    if as_json:
        print_json([event_json(one) for one in model.events])
    else:
        print_table([event_row(one) for one in reversed(model.events)])


@command.command("push")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--remote", metavar="NAME", help="Where to; by default where 'git push' goes.")
def push(names: tuple[str, ...], remote: str | None) -> int:
    """Push models: tags with their commits and weights, and all that happened."""
    from coral_git.repository import pushing

    workspace = Workspace.open()
    try:
        for name in names:
            known_model(workspace.git, name)
        refs = registering.registry_refs(workspace, names)
        status = pushing.push(
            workspace, [remote or pushing.default_remote(workspace), *(f"{one}:{one}" for one in refs)]
        )
    finally:
        workspace.close()
    if status:
        click.echo(f"hint: git coral registry fetch {' '.join(map(printable, names))}", err=True)
    return status


@command.command("fetch")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--remote", metavar="NAME", help="Where from; by default where 'git push' goes.")
@click.option("--no-weights", is_flag=True, help="Leave the weights of the versions for later.")
def fetch(names: tuple[str, ...], remote: str | None, no_weights: bool) -> int:
    """Fetch models. What was said here and there meanwhile is joined; nothing is lost."""
    from coral_git.repository import fetching, pushing

    workspace = Workspace.open()
    try:
        place = remote or pushing.default_remote(workspace)
        status = registering.fetch_events(workspace, place, names)
        if status or no_weights:
            return status
        tags = [ref for ref in registering.registry_refs(workspace, names) if ref.startswith("refs/tags/")]
        if tags:
            fetching.require_complete(fetching.fetch(workspace, [place, *tags]))
        return 0
    finally:
        workspace.close()


def _split(what: str) -> tuple[str, str]:
    """Name and version: of ``NAME:3`` and ``NAME@champion``."""
    for mark in (":", "@"):
        name, found, word = what.partition(mark)
        if found:
            return name, word if mark == ":" else f"@{word}"
    return what, ""
