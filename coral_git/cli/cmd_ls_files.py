"""``git coral ls-files``: the weight files of the index or of a commit."""

from __future__ import annotations

import os

import click

from coral_git.cli.options import json_option, print_json
from coral_git.manifest.escape import printable
from coral_git.pipeline.progress import format_size
from coral_git.pipeline.workspace import Workspace
from coral_git.repository.listing import ListedFile, list_weights, split_revision

_SHORT = 12


@click.command("ls-files")
@click.argument("words", nargs=-1, metavar="[REV] [PATH]...")
@click.option("-l", "--long", "is_long", is_flag=True, help="Show the whole SHA-256 and exact sizes.")
@json_option
def command(words: tuple[str, ...], is_long: bool, as_json: bool) -> None:
    """List weight files: size, tensors, SHA-256, state, path.

    Without REV the files of the index, else those of a commit. A word that is the name of a file is a PATH.
    """
    workspace = Workspace.open()
    try:
        revision, paths = split_revision(workspace, words)
        files = list_weights(workspace, revision, paths)
    finally:
        workspace.close()
    if as_json:
        print_json([_as_json(file) for file in files])
        return
    for file in files:
        click.echo(_line(file, is_long))


def _line(file: ListedFile, is_long: bool) -> str:
    digest = file.manifest.sha256.hex()
    size = str(file.manifest.size) if is_long else format_size(file.manifest.size)
    count = file.manifest.tensor_count
    pieces = "no tensors" if count is None else f"{count} tensor{'s' if count != 1 else ''}"
    shown = printable(os.fsdecode(file.path))
    return f"{digest if is_long else digest[:_SHORT]} {size:>10} {pieces:>12} {file.state:<10} {shown}"


def _as_json(file: ListedFile) -> dict[str, object]:
    return {
        "path": os.fsdecode(file.path),
        "format": file.manifest.format,
        "size": file.manifest.size,
        "sha256": file.manifest.sha256.hex(),
        "tensors": file.manifest.tensor_count,
        "missing": file.missing,
        "state": file.state,
    }
