"""Set-up and its undoing: drivers in git's configuration, one repository, and what it still lacks."""

from __future__ import annotations

import os
from collections.abc import Iterator

from coral_git.errors import GitError, NotARepositoryError, PolicyError
from coral_git.git import drivers, exclude, hooks
from coral_git.git.command import Git, clean_environment
from coral_git.git.hook_folder import locate
from coral_git.pipeline.setup import set_up
from coral_git.pipeline.workspace import Workspace
from coral_git.repository.unfinished import finish_files


def install(scope: str, *, skip_repository: bool = False) -> Iterator[str]:
    """Write the drivers to a scope of git's configuration, and set up the repository around, if any.

    Yields:
        Lines that say what was done.

    Raises:
        UsageError: the program cannot be found, or the scope does not exist.
        GitError: the configuration cannot be written.
        NotARepositoryError: the scope needs a repository, and there is none.
        PolicyError: another program's filter is installed under our name.
    """
    workspace = _workspace_or_none()
    if scope in ("local", "worktree") and workspace is None:
        raise NotARepositoryError(f"'--{scope}' needs a repository", hint="run 'git coral init' to make one")
    git = Git(env=None if workspace else clean_environment())
    program = drivers.find_program()
    if drivers.inspect(git, program).state is drivers.DriverState.FOREIGN:
        raise PolicyError(
            "git has a filter 'coral' that is not ours",
            hint="git config --show-scope --get-regexp filter.coral",
        )
    drivers.install(git, scope, program)
    yield f"git uses {program} ({scope} configuration)"
    if workspace is not None and not skip_repository:
        yield from set_up_lines(workspace)


def set_up_lines(workspace: Workspace) -> Iterator[str]:
    """Set up one repository and write its unfinished files; yields what was done or is left to do."""
    report = set_up(workspace)
    yield f"store: {workspace.store_root}"
    yield from hook_lines(report)
    if workspace.paths.work_tree is not None:
        outcome = finish_files(workspace)
        if outcome.written:
            yield f"wrote {len(outcome.written)} file{'s' if len(outcome.written) != 1 else ''}"
        for path, error in outcome.failed.items():
            yield f"'{os.fsdecode(path)}' stays a manifest: {error.message}"


def hook_lines(report: hooks.HookReport) -> Iterator[str]:
    """What to say about the pre-push hook."""
    if report.advice:
        yield f"the pre-push hook in '{report.path}' is not coral's; add this line to it:"
        yield f"    {report.advice}"
    elif report.state is hooks.HookState.CHAINED:
        yield f"pre-push hook: runs after the one that was there ({report.path})"
    else:
        yield f"pre-push hook: {report.path}"


def uninstall(scope: str) -> Iterator[str]:
    """Remove the drivers from a scope; in a repository with ``local``, its hook and link too.

    The store stays: it holds the only copy of what was not pushed.

    Yields:
        Lines that say what was done.
    """
    workspace = _workspace_or_none()
    git = Git(env=None if workspace else clean_environment())
    if drivers.uninstall(git, scope):
        yield f"removed the drivers from the {scope} configuration"
    else:
        yield f"there are no drivers of coral-git in the {scope} configuration"
    if workspace is not None and scope in ("local", "worktree"):
        hooks.uninstall(locate(workspace.git, workspace.paths))
        exclude.remove_link(workspace.paths)
        yield f"removed the hook and the link; the store stays in '{workspace.store_root}'"


def initialise(directory: str) -> Iterator[str]:
    """Set up a repository in one step, making it first where there is none.

    Yields:
        Lines that say what was done.
    """
    os.makedirs(directory, exist_ok=True)
    try:
        workspace = Workspace.open(directory)
    except NotARepositoryError:
        Git(directory).run("init", "--quiet")
        workspace = Workspace.open(directory)
        yield f"made a git repository in '{directory}'"
    program = drivers.find_program()
    state = drivers.inspect(workspace.git, program).state
    if state is not drivers.DriverState.OURS:
        drivers.install(workspace.git, "local", program)
        yield f"git uses {program} (local configuration)"
        workspace = Workspace.open(directory)
    yield from set_up_lines(workspace)


def _workspace_or_none() -> Workspace | None:
    try:
        return Workspace.open()
    except (NotARepositoryError, GitError):
        return None
