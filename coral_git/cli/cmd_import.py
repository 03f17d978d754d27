"""``git coral import``: files, folders and checkpoints from elsewhere, into the work tree and the index."""

from __future__ import annotations

import sys
from dataclasses import asdict

import click

from coral_git.cli.options import json_option, print_json, quiet_option
from coral_git.errors import UsageError
from coral_git.formats.casting import parse_float
from coral_git.pipeline.progress import Progress, format_size
from coral_git.pipeline.workspace import Workspace
from coral_git.repository.import_history import import_original
from coral_git.repository.importing import ImportedFile, ImportOptions, ImportReport, import_source
from coral_git.repository.original_coral import is_original

_LISTED = 10


@click.command("import")
@click.argument("source", type=click.Path())
@click.argument("path", required=False, type=click.Path())
@click.option("--format", "format_name", metavar="NAME", help="The format; by default what PATH ends with.")
@click.option("--dtype", metavar="NAME", help="Cast float tensors to float32, float16, bfloat16 or float64.")
@click.option("--ref", metavar="NAME", help="Branch or commit of an original Coral repository.")
@click.option(
    "--history", is_flag=True, help="Make a commit of every commit of an original Coral repository."
)
@click.option("-f", "--force", is_flag=True, help="Replace files that exist.")
@click.option("--no-add", is_flag=True, help="Only write files: track nothing, and add nothing to the index.")
@json_option
@quiet_option
def command(
    source: str,
    path: str | None,
    format_name: str | None,
    dtype: str | None,
    ref: str | None,
    history: bool,
    force: bool,
    no_add: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Put weights from elsewhere into the work tree, track them, and add them to the index.

    SOURCE is a file; a folder, such as a snapshot of the Hugging Face cache; a distributed checkpoint of
    torch; or a repository of the original Coral. A file stays as it is, byte for byte, unless its format or
    its precision changes; the last two become one file of tensors, safetensors if nothing else is asked for.
    """
    workspace = Workspace.open()
    original = is_original(source)
    if (history or ref is not None) and not original:
        raise UsageError(f"'{source}' is no repository of the original Coral")
    if history and no_add:
        raise UsageError("--history makes commits, and --no-add forbids to add anything")
    with Progress("importing", quiet=quiet) as progress:
        options = ImportOptions(
            format_name,
            None if dtype is None else parse_float(dtype),
            force=force,
            add=not no_add,
            progress=progress.update,
        )
        if original:
            report = import_original(workspace, source, path, options, ref=ref, history=history)
        else:
            report = import_source(workspace, source, path, options)
    if as_json:
        print_json(asdict(report))
    elif not quiet:
        _print(report)
    if report.left_out:
        names = ", ".join(map(ascii, report.left_out[:_LISTED]))
        more = f" and {len(report.left_out) - _LISTED} more" if len(report.left_out) > _LISTED else ""
        print(f"warning: left out: {names}{more}", file=sys.stderr)


def _print(report: ImportReport) -> None:
    for pattern in report.patterns:
        click.echo(f"tracking '{pattern}'")
    weights = [file for file in report.files if file.format]
    for file in weights:
        cast = f", {file.cast} of them cast" if file.cast else ""
        click.echo(f"wrote '{file.path}': {file.format}, {_count(file)}{cast}, {format_size(file.size)}")
    others = [file for file in report.files if not file.format]
    for file in others if len(others) <= _LISTED else ():
        click.echo(f"wrote '{file.path}': {format_size(file.size)}")
    if len(others) > _LISTED:
        size = format_size(sum(file.size for file in others))
        click.echo(f"wrote {len(others)} other files: {size}")
    if report.commits:
        tags = f", tags: {', '.join(report.tags)}" if report.tags else ""
        click.echo(f"made {report.commits} commit{'s' if report.commits != 1 else ''}{tags}")


def _count(file: ImportedFile) -> str:
    return f"{file.tensors} tensor{'s' if file.tensors != 1 else ''}"
