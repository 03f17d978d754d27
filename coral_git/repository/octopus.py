"""Several branches merged at once: a commit with all of them as parents.

Git's own octopus calls no merge drivers. So the branches are folded, one after the other, with
``git merge-tree``, in which contested weights stay ours; then each weight file that several branches changed
is merged over all of them at once, and takes its place in the tree. Nothing in the work tree changes before
the commit is there; then the branch moves forward to it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress

from coral_git import fsops
from coral_git.errors import CoralError, GitError
from coral_git.git.revisions import list_tree, resolve_commit
from coral_git.merge.choices import Choices
from coral_git.merge.merge_file import FileMerge, merge_file
from coral_git.merge.settings import choices_with, read_choices
from coral_git.pipeline.messages import show_path
from coral_git.pipeline.progress import Progress
from coral_git.pipeline.workspace import Workspace
from coral_git.repository.applying import KEEP_OURS
from coral_git.repository.merge_preview import Versions, changed_weights, common_ancestor
from coral_git.repository.merge_report import MergedFile, outcomes_of, trailers
from coral_git.repository.merging import MergeOptions, MergeResult, with_trailers
from coral_git.repository.unfinished import require_work_tree, user_git

_NEEDED = (2, 38)


def merge_branches(workspace: Workspace, branches: Sequence[str], options: MergeOptions) -> MergeResult:
    """Merge several branches into HEAD with one commit.

    Raises:
        UsageError: there is no such commit, or a strategy or rule cannot be understood.
        GitError: git is older than 2.38, or refuses to move the branch: local changes are in the way.
        CoralError: the branches contradict each other; nothing has changed.
    """
    require_work_tree(workspace)
    if workspace.git.version < _NEEDED:
        raise GitError("several branches can be merged with git 2.38 or newer", hint="merge them one by one")
    commits = _independent(workspace, branches)
    head = resolve_commit(workspace.git, "HEAD")
    if commits == [head]:
        return MergeResult("up to date", head, [])
    files: list[MergedFile] = []
    target = commits[0]
    if len(commits) > 1:
        tree = _fold(workspace, commits)
        tree, files = _with_weights(workspace, tree, commits, options)
        target = _commit(workspace, tree, commits, branches, options, files)
    if user_git(workspace).call("merge", "-q", "--ff-only", target, apart=True):
        raise GitError("git did not move the branch", hint="commit or stash your changes, then try again")
    return MergeResult("merged" if len(commits) > 1 else "fast-forward", target, files)


def _independent(workspace: Workspace, branches: Sequence[str]) -> list[str]:
    """HEAD and the branches as commits, without those that another one contains."""
    named = [resolve_commit(workspace.git, one) for one in ("HEAD", *branches)]
    kept = workspace.git.run("merge-base", "--independent", *named).decode().split()
    return [one for one in dict.fromkeys(named) if one in kept]


def _fold(workspace: Workspace, commits: Sequence[str]) -> str:
    """The tree of all commits, in which contested weights are those of the first."""
    current, tree = commits[0], f"{commits[0]}^{{tree}}"
    for commit in commits[1:]:
        merged = workspace.git.run(
            *KEEP_OURS,
            "merge-tree",
            "--write-tree",
            "--name-only",
            "--no-messages",
            current,
            commit,
            check=False,
        )
        tree, *conflicts = merged.decode("utf-8", "surrogateescape").split("\n")
        if any(conflicts):
            shown = ", ".join(f"'{show_path(os.fsencode(one))}'" for one in filter(None, conflicts))
            raise CoralError(f"the branches contradict each other in {shown}", hint="merge them one by one")
        current = (
            workspace.git.run("commit-tree", tree, "-p", current, "-p", commit, "-m", "-").decode().strip()
        )
    return tree


def _with_weights(
    workspace: Workspace, tree: str, commits: Sequence[str], options: MergeOptions
) -> tuple[str, list[MergedFile]]:
    """The tree with every weight file merged over all commits."""
    modes = {entry.path: entry.mode for entry in list_tree(workspace.git, tree)}
    base = common_ancestor(workspace.git, commits)
    lines, files = [], []
    for versions in changed_weights(workspace, base, commits):
        if len(versions.changed) < 2 or versions.path not in modes:
            continue
        choices, result = _merge(workspace, versions, options)
        oid = workspace.git.run("hash-object", "-w", "--stdin", input=result.text).decode().strip()
        lines.append(f"{modes[versions.path]} {oid}\t".encode() + versions.path + b"\0")
        files.append(_described(versions.path, choices, result))
    return _replace(workspace, tree, lines), files


def _merge(workspace: Workspace, versions: Versions, options: MergeOptions) -> tuple[Choices, FileMerge]:
    shown = show_path(versions.path)
    choices = choices_with(workspace, read_choices(workspace, versions.path), options.wanted)
    choices = choices._replace(allow_nonfinite=choices.allow_nonfinite or options.allow_nonfinite)
    sides = [side for side in versions.sides if side is not None]
    with Progress("merging weights") as progress:
        result = merge_file(
            workspace,
            versions.path,
            versions.base,
            sides,
            choices,
            lambda done, total: progress.update(shown, done, total),
        )
    if result.reason:
        raise CoralError(f"'{shown}': {result.reason}", hint="name a strategy: --strategy average")
    return choices, result


def _described(path: bytes, choices: Choices, result: FileMerge) -> MergedFile:
    rules = tuple(f"{rule.pattern}={rule.choice}" for rule in choices.rules)
    return MergedFile(os.fsdecode(path), str(choices.default), rules, outcomes_of(result))


def _replace(workspace: Workspace, tree: str, lines: Sequence[bytes]) -> str:
    """A tree with other blobs at some paths, made in an index of its own."""
    index = os.path.join(workspace.paths.git_dir, fsops.unique_name("coral-index"))
    environment = {"GIT_INDEX_FILE": index}
    try:
        workspace.git.run("read-tree", tree, env=environment)
        workspace.git.run("update-index", "-z", "--index-info", input=b"".join(lines), env=environment)
        return workspace.git.run("write-tree", env=environment).decode().strip()
    finally:
        with suppress(FileNotFoundError):
            os.unlink(index)


def _commit(
    workspace: Workspace,
    tree: str,
    commits: Sequence[str],
    branches: Sequence[str],
    options: MergeOptions,
    files: list[MergedFile],
) -> str:
    *first, last = (f"'{name}'" for name in branches)
    message = options.message or f"Merge branches {', '.join(first)} and {last}"
    text = with_trailers(workspace, message.encode("utf-8", "surrogateescape") + b"\n", trailers(files))
    parents = [word for commit in commits for word in ("-p", commit)]
    return workspace.git.run("commit-tree", tree, *parents, input=text).decode().strip()
