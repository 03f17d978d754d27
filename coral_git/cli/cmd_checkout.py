"""``git coral checkout``: weight files written into the work tree."""

from __future__ import annotations

import sys

import click

from coral_git.cli.options import quiet_option
from coral_git.pipeline.checkout import Outcome
from coral_git.pipeline.messages import show_path, warn
from coral_git.pipeline.progress import Progress
from coral_git.pipeline.workspace import Workspace
from coral_git.repository.unfinished import finish_files, require_work_tree, restore_files


@click.command("checkout")
@click.argument("paths", nargs=-1, metavar="[PATH]...")
@quiet_option
def command(paths: tuple[str, ...], quiet: bool) -> int:
    """Write weight files into the work tree.

    Without PATH, those that are still manifests. With PATH (git's pathspecs), restore these weight files
    from the index, as 'git checkout -- PATH' does: changes that were not added are lost.
    """
    workspace = Workspace.open()
    try:
        require_work_tree(workspace)
        with Progress("writing weights", quiet=quiet) as progress:
            if paths:
                outcome = restore_files(workspace, paths, progress.update)
            else:
                outcome = finish_files(workspace, progress=progress.update)
    finally:
        workspace.close()
    return _report(outcome, quiet)


def _report(outcome: Outcome, quiet: bool) -> int:
    for path, error in outcome.failed.items():
        warn(f"'{show_path(path)}' was not written: {error.message}", error.hint)
    for path in outcome.changed:
        warn(f"'{show_path(path)}' was changed meanwhile and left alone")
    count = len(outcome.written)
    if count and not quiet:
        print(f"wrote {count} file{'s' if count != 1 else ''}", file=sys.stderr)
    return 1 if outcome.failed or outcome.changed else 0
