"""``git coral export``: weights of any revision, in a file of any format."""

from __future__ import annotations

import os
from dataclasses import asdict

import click

from coral_git.cli.options import json_option, print_json, quiet_option
from coral_git.errors import UsageError
from coral_git.formats.casting import parse_float
from coral_git.pipeline.progress import Progress, format_size
from coral_git.pipeline.workspace import Workspace
from coral_git.repository.exporting import export
from coral_git.repository.listing import list_weights


@click.command("export")
@click.argument("spec", metavar="REV[:PATH]")
@click.argument("out", type=click.Path())
@click.option("--format", "format_name", metavar="NAME", help="The format; by default what OUT ends with.")
@click.option("--dtype", metavar="NAME", help="Cast float tensors to float32, float16, bfloat16 or float64.")
@click.option("--tensor", "patterns", metavar="GLOB", multiple=True, help="Only tensors with such names.")
@click.option("-f", "--force", is_flag=True, help="Replace OUT if it exists.")
@json_option
@quiet_option
def command(
    spec: str,
    out: str,
    format_name: str | None,
    dtype: str | None,
    patterns: tuple[str, ...],
    force: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Write weights of a revision to a file, without a checkout.

    REV:PATH is a file of a commit, :PATH one of the index; PATH may be left out where there is only one file
    of weights. The file comes out byte for byte unless its format, its precision or its tensors change.
    """
    workspace = Workspace.open()
    revision, path = _find(workspace, spec)
    with Progress("exporting", quiet=quiet) as progress:
        report = export(
            workspace,
            revision,
            path,
            out,
            format_name=format_name,
            dtype=None if dtype is None else parse_float(dtype),
            patterns=patterns,
            force=force,
            progress=progress.update,
        )
    if as_json:
        print_json(asdict(report))
    elif not quiet:
        cast = f", {report.cast} of them cast" if report.cast else ""
        tensors = f"{report.tensors} tensors{cast}, " if report.tensors else ""
        click.echo(f"wrote '{out}': {report.format}, {tensors}{format_size(report.size)}")


def _find(workspace: Workspace, spec: str) -> tuple[bytes, bytes]:
    """Revision and path of ``REV[:PATH]``; after ``./`` the path is relative to the current folder."""
    revision, colon, path = spec.partition(":")
    if colon and path:
        if path.startswith(("./", "../")):
            root = workspace.paths.work_tree or "."
            path = os.path.relpath(path, root)
        return os.fsencode(revision), os.fsencode(path)
    files = [file.path for file in list_weights(workspace, revision or None)]
    if len(files) != 1:
        names = ", ".join(os.fsdecode(name) for name in files[:5])
        raise UsageError(
            f"'{spec}' has {len(files)} files of weights" + (f": {names}" if names else ""),
            hint=f"git coral export {revision}:<path> {'<file>'}",
        )
    return os.fsencode(revision), files[0]
