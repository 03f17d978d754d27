"""``git coral verify``: is this file a committed version, and which one?"""

from __future__ import annotations

import click

from coral_git.cli.commit_lines import commit_json, count, one_line
from coral_git.cli.options import json_option, print_json
from coral_git.history.search import refs_with
from coral_git.manifest.escape import printable
from coral_git.pipeline.messages import show_path
from coral_git.pipeline.workspace import Workspace
from coral_git.repository.identifying import Identity, Match, identify


@click.command("verify")
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False))
@json_option
def command(files: tuple[str, ...], as_json: bool) -> int:
    """Tell which commit a file comes from, e.g. one that is deployed: its SHA-256 decides.

    The history of every branch, tag and run is looked at. Where no commit has exactly this file, the one
    that has most of its tensors is named, and the exit code is 1.
    """
    workspace = Workspace.open()
    try:
        found = [(name, identify(workspace, name)) for name in files]
        if as_json:
            print_json([_as_json(workspace, name, one) for name, one in found])
        else:
            for name, one in found:
                _print(workspace, name, one)
    finally:
        workspace.close()
    return 0 if all(one.matches for _, one in found) else 1


def _print(workspace: Workspace, name: str, one: Identity) -> None:
    click.echo(f"{printable(name)}: sha256 {one.sha256}")
    for match in one.matches:
        click.echo(f"  is {show_path(match.file.touched.path)} of {one_line(match.found)}")
        refs = refs_with(workspace.git, match.found.commit.oid)
        if refs:
            click.echo(f"    in {', '.join(map(printable, refs))}")
    if not one.matches:
        click.echo("  no commit has this file")
        if one.nearest is not None:
            click.echo(
                f"  nearest, {_shared(one.nearest)}: {show_path(one.nearest.file.touched.path)} of "
                f"{one_line(one.nearest.found)}"
            )


def _shared(match: Match) -> str:
    return f"{match.shared} of {count(match.pieces, 'piece')} the same"


def _as_json(workspace: Workspace, name: str, one: Identity) -> dict[str, object]:
    return {
        "file": name,
        "sha256": one.sha256,
        "size": one.size,
        "matches": [_match_json(workspace, match) for match in one.matches],
        "nearest": one.nearest
        and {
            **_match_json(workspace, one.nearest),
            "shared": one.nearest.shared,
            "pieces": one.nearest.pieces,
        },
    }


def _match_json(workspace: Workspace, match: Match) -> dict[str, object]:
    return {
        "path": match.file.touched.path.decode("utf-8", "surrogateescape"),
        "contained_in": refs_with(workspace.git, match.found.commit.oid),
        **commit_json(match.found),
    }
