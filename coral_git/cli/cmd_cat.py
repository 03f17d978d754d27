"""``git coral cat``: a tensor of any revision, or a whole file, without a checkout."""

from __future__ import annotations

import sys
from typing import BinaryIO

import click

from coral_git.errors import UsageError
from coral_git.formats.base import TensorData
from coral_git.pipeline.replaced_file import ReplacedFile
from coral_git.pipeline.workspace import Workspace
from coral_git.repository.printing import find_tensor, write_file, write_npy, write_raw, write_text
from coral_git.repository.spec import stored_manifest

_WRITERS = {"npy": write_npy, "text": write_text, "raw": write_raw}


@click.command("cat")
@click.argument("spec", metavar="REV:PATH")
@click.option("--tensor", metavar="NAME", help="This tensor, not the whole file.")
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False), help="Write to a file, not to standard output."
)
@click.option(
    "--format",
    "form",
    type=click.Choice(list(_WRITERS)),
    help="How a tensor is written: 'npy' (default), 'text' (a value on each line; default on a terminal, and "
    "for .txt), 'raw' (its bytes).",
)
def command(spec: str, tensor: str | None, output: str | None, form: str | None) -> None:
    """Print a stored tensor or file. Only what is needed for it is read, and fetched where it is missing."""
    if form and tensor is None:
        raise UsageError(
            "--format is for a tensor", hint="name it with --tensor; see git coral ls-tree --tensors"
        )
    workspace = Workspace.open()
    try:
        manifest = stored_manifest(workspace, spec)
        found = None if tensor is None else find_tensor(workspace, manifest, tensor)

        def write(out: BinaryIO) -> None:
            if found is None:
                write_file(workspace, manifest, out)
            else:
                _WRITERS[form or _form(output)](found, out)

        if output is not None:
            with ReplacedFile(output) as file:
                write(file)
        else:
            _check_terminal(found, form)
            write(sys.stdout.buffer)
            sys.stdout.buffer.flush()
    finally:
        workspace.close()


def _form(output: str | None) -> str:
    if output is None:
        return "text" if sys.stdout.isatty() else "npy"
    return (
        "text" if output.endswith((".txt", ".csv")) else "raw" if output.endswith((".bin", ".raw")) else "npy"
    )


def _check_terminal(found: TensorData | None, form: str | None) -> None:
    if sys.stdout.isatty() and (found is None or form in ("npy", "raw")):
        raise UsageError(
            "binary data is not printed on a terminal", hint="name a file with -o, or redirect it"
        )
