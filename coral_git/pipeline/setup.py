"""A repository made ready: its store, the link to it, the line that excludes the link, the pre-push hook."""

from __future__ import annotations

from coral_git.errors import CoralError
from coral_git.git import exclude, hooks
from coral_git.git.drivers import find_program
from coral_git.git.hook_folder import locate
from coral_git.pipeline.messages import warn
from coral_git.pipeline.workspace import Workspace


def set_up(workspace: Workspace) -> hooks.HookReport:
    """Make what is missing; everything that is there stays.

    Returns:
        The state of the pre-push hook; its ``advice`` is the line to add where it is somebody else's.
    """
    _ = workspace.store
    exclude.add_link(workspace.paths)
    folder = locate(workspace.git, workspace.paths)
    return hooks.install(folder, find_program())


def set_up_on_first_use(workspace: Workspace) -> None:
    """What the filter does in a repository that was merely cloned, so that a push leaves nothing behind."""
    if not workspace.has_store:
        make_ready(workspace)


def make_ready(workspace: Workspace) -> None:
    """The same wherever something is stored, once; reading may have made the store long before."""
    if workspace.is_ready or not workspace.settings.auto_setup:
        return
    workspace.is_ready = True
    try:
        report = set_up(workspace)
    except CoralError as error:
        warn(error.message, error.hint)
        return
    if report.advice:
        warn(
            f"the pre-push hook in '{report.path}' is not coral's",
            f"add this line to it, or push with 'git coral push': {report.advice}",
        )
