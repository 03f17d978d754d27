"""``git coral status``: the weight files of the index, against HEAD and the work tree."""

from __future__ import annotations

import os
from collections.abc import Collection

import click

from coral_git.cli.commit_lines import count, describe_change
from coral_git.cli.contested import contested_json, contested_lines
from coral_git.cli.options import json_option, print_json
from coral_git.history.changes import Change
from coral_git.manifest.escape import printable
from coral_git.pipeline.messages import show_path
from coral_git.pipeline.progress import format_size
from coral_git.pipeline.workspace import Workspace
from coral_git.repository.conflicts import Contest, read_contests
from coral_git.repository.doctor import Finding, check_setup
from coral_git.repository.status import FileStatus, read_status


@click.command("status")
@click.argument("paths", nargs=-1, metavar="[PATH]...")
@click.option("-v", "--all", "show_all", is_flag=True, help="List every contested tensor.")
@json_option
def command(paths: tuple[str, ...], show_all: bool, as_json: bool) -> int:
    """Show weight files: what is staged against HEAD, sizes, what is unfinished, missing or in conflict.

    Exits with 1 while files are unfinished or objects are missing.
    """
    workspace = Workspace.open()
    try:
        files = read_status(workspace, paths)
        in_conflict = any(file.state == "unmerged" for file in files)
        contests = {one.path: one for one in read_contests(workspace, paths)} if in_conflict else {}
        warnings = [finding for finding in check_setup(workspace) if finding.level != "note"]
    finally:
        workspace.close()
    if as_json:
        print_json(
            {
                "files": [_as_json(file, contests.get(file.path)) for file in files],
                "savings": dict(zip(("raw_bytes", "stored_bytes"), _sizes(files), strict=True)),
                "warnings": [_plain(one) for one in warnings],
            }
        )
    else:
        _print(files, warnings)
        _print_contests(contests.values(), show_all)
    return 1 if any(file.is_problem for file in files) else 0


def _print(files: list[FileStatus], warnings: list[Finding]) -> None:
    for file in files:
        click.echo(_line(file))
    if not files:
        click.echo("no weight files in the index; see 'git coral track'")
    if files:
        click.echo(_savings(files))
    if any(file.state == "unfinished" for file in files):
        click.echo("hint: files are still manifests; to write them: git coral checkout", err=True)
    if any(file.missing and not file.is_sparse for file in files):
        click.echo("hint: objects are missing; to get them: git coral fetch", err=True)
    for warning in warnings:
        click.echo(f"warning: {warning.message}", err=True)
        click.echo(f"hint: {warning.remedy}", err=True)


def _print_contests(contests: Collection[Contest], show_all: bool) -> None:
    for one in contests:
        shown = show_path(one.path)
        settled = f", {one.settled} settled" if one.settled else ""
        left = one.reason or f"{count(len(one.left), 'tensor')} to decide about{settled}"
        click.echo(f"in conflict: {shown}: {left}")
        for line in contested_lines(one.left, show_all):
            click.echo(line)
    if contests:
        path = f"'{show_path(next(iter(contests)).path)}'" if len(contests) == 1 else "PATH"
        click.echo(
            f"hint: git coral resolve {path} --strategy average (or ours, theirs, …; --tensor GLOB)",
            err=True,
        )


def _line(file: FileStatus) -> str:
    sizes = f"{format_size(file.raw_bytes)} raw, {format_size(file.stored_bytes)} stored"
    pieces = [_describe(file.change, file.tensors), sizes]
    if file.missing:
        pieces.append(f"{file.missing} object{'s' if file.missing != 1 else ''} missing")
    if file.is_sparse:
        pieces.append("left out by sparse checkout")
    elif file.state != "clean":
        pieces.append(file.state)
    return f"{printable(os.fsdecode(file.path))}: {', '.join(pieces)}"


def _describe(change: Change | None, tensors: int | None) -> str:
    noun = "chunk" if tensors is None else "tensor"
    if change is None:
        return "chunks in a table that is missing" if tensors is None else count(tensors, noun)
    return describe_change(change, noun)


def _savings(files: list[FileStatus]) -> str:
    """What all files take as they are, and as they are stored."""
    raw, stored = _sizes(files)
    saved = f" ({100 * (1 - stored / raw):.0f} % saved)" if 0 < stored < raw else ""
    return f"{count(len(files), 'file')}, {format_size(raw)} raw, {format_size(stored)} stored{saved}"


def _sizes(files: list[FileStatus]) -> tuple[int, int]:
    return sum(file.raw_bytes for file in files), sum(file.stored_bytes for file in files)


def _as_json(file: FileStatus, contest: Contest | None) -> dict[str, object]:
    change = file.change
    return {
        "path": os.fsdecode(file.path),
        "tensors": file.tensors,
        "new": change and change.new,
        "changed": change and change.changed,
        "same": change and change.same,
        "removed": change and change.removed,
        "raw_bytes": file.raw_bytes,
        "stored_bytes": file.stored_bytes,
        "missing": file.missing,
        "sparse": file.is_sparse,
        "unfinished": file.state == "unfinished",
        "state": file.state,
        "conflict": contest
        and {
            "left": contested_json(contest.left),
            "settled": contest.settled,
            "reason": contest.reason,
        },
    }


def _plain(finding: Finding) -> dict[str, str]:
    return {"check": finding.check, "message": finding.message, "hint": finding.remedy}
