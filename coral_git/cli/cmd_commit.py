"""``git coral commit``: a commit that says what was measured."""

from __future__ import annotations

import contextlib

import click

from coral_git.cli.commit_lines import commit_json, file_line
from coral_git.cli.options import json_option, print_json
from coral_git.cli.said_options import labels_of, metrics_of, said_options
from coral_git.cli.words import PathsCommand, paths_after
from coral_git.history.changes import WeightCommit, weight_commits
from coral_git.history.commits import one_commit
from coral_git.pipeline.workspace import Workspace
from coral_git.repository.noting import Said, commit


@click.command("commit", cls=PathsCommand, context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[GIT-COMMIT-OPTION]... [-- PATH...]")
@said_options
@click.option("--tag", "tags", multiple=True, metavar="WORD", help="The same as --label.")
@click.option(
    "--environment/--no-environment",
    default=None,
    help="Say which Python, torch, CUDA and GPU there were (coral.recordEnvironment).",
)
@json_option
def command(
    arguments: tuple[str, ...],
    metrics: tuple[str, ...],
    files: tuple[str, ...],
    labels: tuple[str, ...],
    tags: tuple[str, ...],
    environment: bool | None,
    as_json: bool,
) -> int:
    """Commit like 'git commit', and say in trailers what was measured.

    Every option of 'git commit' works: -m, -a, -F, --amend, --author, -S, … Metrics are kept as trailers
    'Coral-Metric: NAME=VALUE', so that every git tool shows them.
    """
    said = Said(metrics_of(files, metrics), labels_of((*labels, *tags)), environment)
    after = paths_after()
    words = (*arguments, *(("--", *after) if after is not None else ()))
    workspace = Workspace.open()
    try:
        status = commit(workspace, said, words, apart=as_json)
        is_quiet = {"-q", "--quiet", "--dry-run"}.intersection(arguments)
        if not status and not is_quiet:
            with contextlib.closing(workspace):
                _report(workspace, as_json)
        return status
    finally:
        workspace.close()


def _report(workspace: Workspace, as_json: bool) -> None:
    found: WeightCommit = next(weight_commits(workspace, [one_commit(workspace.git, "HEAD")], keep_all=True))
    if as_json:
        print_json(commit_json(found))
        return
    for change in found.changes:
        click.echo(f" {file_line(change)}")
