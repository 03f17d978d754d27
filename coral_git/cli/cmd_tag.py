"""``git coral tag``: an annotated tag of git that says what the version is good for."""

from __future__ import annotations

import click

from coral_git.cli.commit_lines import SHORT
from coral_git.cli.said_options import labels_of, metrics_of, said_options
from coral_git.history.tags import NewTag, make_tag
from coral_git.pipeline.workspace import Workspace


@click.command("tag")
@click.argument("name")
@click.argument("revision", default="HEAD", metavar="[REV]")
@click.option("-d", "-m", "--description", default="", metavar="TEXT", help="What this version is.")
@said_options
@click.option("-s", "--sign", is_flag=True, help="Sign it, as 'git tag -s'.")
@click.option("-f", "--force", is_flag=True, help="Replace a tag of that name.")
@click.option("-q", "--quiet", is_flag=True, help="Print only problems.")
def command(
    name: str,
    revision: str,
    description: str,
    metrics: tuple[str, ...],
    files: tuple[str, ...],
    labels: tuple[str, ...],
    sign: bool,
    force: bool,
    quiet: bool,
) -> None:
    """Tag REV (HEAD by default) as a version, with metrics.

    It is an annotated tag of git: 'git push origin NAME' publishes it, 'git tag -d NAME' deletes it.
    """
    workspace = Workspace.open()
    tag = NewTag(
        name,
        revision,
        description,
        metrics_of(files, metrics),
        labels_of(labels),
        force=force,
        sign=sign or None,
    )
    make_tag(workspace.git, tag)
    if not quiet:
        oid = workspace.git.run("rev-parse", f"refs/tags/{name}^{{commit}}").decode().strip()
        click.echo(f"tagged {oid[:SHORT]} as {name}")
