"""``git coral add``: ``git add`` with a strategy, and the only way to lose precision."""

from __future__ import annotations

import os
import sys
from functools import partial
from typing import TYPE_CHECKING

import click

from coral_git.cli.options import dry_run_option, json_option, print_json, quiet_option
from coral_git.config import parse_delta_type
from coral_git.errors import ProblemsFound, UsageError
from coral_git.pipeline.progress import Progress, format_size
from coral_git.pipeline.workspace import Workspace
from coral_git.types import DeltaType

if TYPE_CHECKING:  # it computes, and imports what that takes
    from coral_git.pipeline.lossy import LossReport, TensorLoss


@click.command("add")
@click.argument("paths", nargs=-1, required=True)
@click.option("--delta-type", metavar="NAME", help="The strategy to store tensors with; see the guide.")
@click.option("--keep-original", is_flag=True, help="Keep the exact file beside it, as PATH.orig.")
@click.option("-f", "--force", is_flag=True, help="Add files that are ignored, too.")
@dry_run_option
@json_option
@quiet_option
def command(
    paths: tuple[str, ...],
    delta_type: str | None,
    keep_original: bool,
    force: bool,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Add files to the index, as 'git add' does, and choose how their tensors are stored.

    int8_quantized and int16_quantized change the weights: the float32 tensors of the file in the work tree
    are replaced by quantized ones, and the largest and the mean error of each are printed. All other
    strategies are exact. What is stored already is not stored again in another way.
    """
    workspace = Workspace.open()
    if workspace.paths.work_tree is None:
        raise UsageError("there is no work tree here")
    chosen = None if delta_type is None else parse_delta_type(delta_type, "--delta-type")
    if chosen is None or chosen.is_lossless:
        if keep_original:
            raise UsageError("--keep-original needs a strategy that changes weights")
        _add(paths, chosen, force, dry_run)
        return
    reports = _quantize(workspace, paths, chosen, keep_original, dry_run, quiet)
    if not dry_run:
        _add(paths, None, force, dry_run)
    if as_json:
        print_json([_as_json(report) for report in reports])
    elif not quiet:
        for report in reports:
            _print(report, chosen)


def _add(paths: tuple[str, ...], delta_type: DeltaType | None, force: bool, dry_run: bool) -> None:
    """Run git's own command, which says itself what is wrong."""
    from coral_git.git.command import Git

    options = ["--force"] * force + ["--dry-run"] * dry_run
    environment = {}
    if delta_type is not None:
        from coral_git.pipeline.delta_types import ENVIRONMENT

        environment[ENVIRONMENT] = str(delta_type)
    status = Git().call("add", *options, "--", *paths, env=environment)
    if status:
        raise ProblemsFound("git add failed")


def _quantize(
    workspace: Workspace,
    paths: tuple[str, ...],
    delta_type: DeltaType,
    keep_original: bool,
    dry_run: bool,
    quiet: bool,
) -> list[LossReport]:
    """Change the files that the paths name and that are weights."""
    from coral_git.git.attributes import check_attr
    from coral_git.pipeline.lossy import make_lossy

    listed = workspace.git_in(os.getcwd()).run(
        "ls-files", "-z", "--full-name", "--cached", "--others", "--exclude-standard", "--", *paths
    )
    files = sorted({name for name in listed.split(b"\0") if name})
    filters = check_attr(workspace.git, files)
    weights = [file for file in files if filters.get(file) == b"coral"]
    if not weights:
        raise UsageError(
            f"no file of weights matches {', '.join(map(ascii, paths))}",
            hint="git coral track '*.safetensors'",
        )
    with Progress("quantizing", quiet=quiet) as progress:
        return [
            make_lossy(
                workspace,
                file,
                delta_type,
                keep_original=keep_original,
                dry_run=dry_run,
                progress=partial(progress.update, os.fsdecode(file)),
            )
            for file in weights
        ]


def _as_json(report: LossReport) -> dict[str, object]:
    return {
        "path": os.fsdecode(report.path),
        "exact": report.exact,
        "tensors": [
            {
                "name": loss.name,
                "weights": loss.weights,
                "largest_error": loss.largest,
                "mean_error": loss.mean,
                "raw_bytes": loss.raw_bytes,
                "stored_bytes": loss.stored_bytes,
            }
            for loss in report.tensors
        ],
    }


def _print(report: LossReport, delta_type: DeltaType) -> None:
    shown = ascii(os.fsdecode(report.path))
    if not report.tensors:
        print(f"warning: {shown} has no float32 tensor worth quantizing; it stays exact", file=sys.stderr)
        return
    click.echo(f"{'largest error':>13}  {'mean error':>10}  {'stored':>7}  tensor")
    for loss in report.tensors:
        click.echo(
            f"{loss.largest:13.3g}  {loss.mean:10.3g}  {_percent([loss]):>7}  {ascii(loss.name)[1:-1]}"
        )
    raw = sum(loss.raw_bytes for loss in report.tensors)
    stored = sum(loss.stored_bytes for loss in report.tensors)
    click.echo(
        f"{shown}: {len(report.tensors)} tensors quantized to {delta_type.bits} bits, {format_size(raw)} in "
        f"{format_size(stored)} ({_percent(report.tensors)}); {report.exact} stay exact"
    )


def _percent(losses: list[TensorLoss]) -> str:
    raw = sum(loss.raw_bytes for loss in losses)
    return f"{100 * sum(loss.stored_bytes for loss in losses) / raw:.1f} %" if raw else "0 %"
