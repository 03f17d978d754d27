"""Several branches merged at once: a commit with all of them as parents.

Git's own octopus calls no merge drivers. So the branches are folded, one after the other, with
``git merge-tree``, in which contested weights stay ours; then each weight file that several branches changed
is merged over all of them at once, and takes its place in the tree. Nothing in the work tree changes before
the commit is there; then the branch moves forward to it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from coral_git.errors import CoralError, GitError, UsageError
from coral_git.git.chains import replace_entries
from coral_git.git.revisions import list_tree, resolve_commit
from coral_git.merge.choices import Choice, Choices
from coral_git.merge.merge_file import FileMerge, merge_file
from coral_git.merge.settings import choices_with, read_choices
from coral_git.pipeline.messages import show_path
from coral_git.pipeline.progress import Progress
from coral_git.pipeline.workspace import Workspace
from coral_git.repository.keeping_ours import KeptOurs, keeping_ours
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
    commits = _independent(workspace, branches)
    head = resolve_commit(workspace.git, "HEAD")
    if commits == [head]:
        return MergeResult("up to date", head, [])
    if len(commits) == 1:
        _move(workspace, commits[0])
        return MergeResult("fast-forward", commits[0], [])
    base = common_ancestor(workspace.git, commits)
    found = changed_weights(workspace, base, commits)
    contested = [one for one in found if len(one.changed) > 1]
    return _merge_all(workspace, contested, commits, branches, options)


def merge_models(
    workspace: Workspace, choice: Choice, models: Sequence[str], base: str, options: MergeOptions
) -> MergeResult:
    """Merge the weights of some revisions, all of which count for every tensor, and commit that on HEAD.

    Args:
        workspace: the repository, with a work tree.
        choice: the strategy and its parameters; one weight per model, where there are weights.
        models: revisions.
        base: the revision that differences are taken to; empty for the common ancestor.
        options: rules, message and so on.

    Raises:
        UsageError: there is no such commit, or none of them has weights that differ.
        GitError: as in ``merge_branches``.
        CoralError: the commits contradict each other; nothing has changed.
    """
    require_work_tree(workspace)
    sides = [resolve_commit(workspace.git, one) for one in models]
    start = resolve_commit(workspace.git, base) if base else common_ancestor(workspace.git, sides)
    files = [one for one in changed_weights(workspace, start, sides) if one.changed and None not in one.sides]
    if not files:
        raise UsageError("the models have no weights that differ")
    commits = _independent(workspace, models)
    wanted = options.wanted._replace(strategy=str(choice))
    return _merge_all(workspace, files, commits, models, options._replace(wanted=wanted), everyone=choice)


def _merge_all(
    workspace: Workspace,
    files: Sequence[Versions],
    commits: Sequence[str],
    names: Sequence[str],
    options: MergeOptions,
    everyone: Choice | None = None,
) -> MergeResult:
    """Merge weights over all their versions, everything else by git, and move the branch to the commit."""
    if workspace.git.version < _NEEDED:
        raise GitError("several branches can be merged with git 2.38 or newer", hint="merge them one by one")
    with keeping_ours(workspace) as kept:
        tree = _fold(workspace, commits, kept)
        _check_paths(files, kept)
    tree, merged = _with_weights(workspace, tree, files, options, everyone)
    target = _commit(workspace, tree, commits, names, options, merged)
    _move(workspace, target)
    return MergeResult("merged", target, merged)


def _check_paths(files: Sequence[Versions], kept: KeptOurs) -> None:
    """Refuse what several branches changed where one of them has another name for it, or has it no more."""
    for one in files:
        if None in one.sides:
            raise CoralError(f"'{show_path(one.path)}' is not on every side", hint="merge them one by one")
    for path in sorted(kept.paths - {one.path for one in files}):
        raise CoralError(
            f"'{show_path(path)}' was renamed on one side and changed on several",
            hint="merge them one by one",
        )


def _move(workspace: Workspace, target: str) -> None:
    if user_git(workspace).call("merge", "-q", "--ff-only", target, apart=True):
        raise GitError("git did not move the branch", hint="commit or stash your changes, then try again")


def _independent(workspace: Workspace, branches: Sequence[str]) -> list[str]:
    """HEAD and the branches as commits, without those that another one contains."""
    named = [resolve_commit(workspace.git, one) for one in ("HEAD", *branches)]
    kept = workspace.git.run("merge-base", "--independent", *named).decode().split()
    return [one for one in dict.fromkeys(named) if one in kept]


def _fold(workspace: Workspace, commits: Sequence[str], kept: KeptOurs) -> str:
    """The tree of all commits, in which contested weights are those of the first."""
    current, tree = commits[0], f"{commits[0]}^{{tree}}"
    for commit in commits[1:]:
        merged = workspace.git.run(
            *kept.options,
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
    workspace: Workspace,
    tree: str,
    files: Sequence[Versions],
    options: MergeOptions,
    everyone: Choice | None,
) -> tuple[str, list[MergedFile]]:
    """The tree with weight files merged over all their versions."""
    modes = {entry.path: entry.mode for entry in list_tree(workspace.git, tree)}
    lines, merged = [], []
    for versions in files:
        choices = choices_with(workspace, read_choices(workspace, versions.path), options.wanted)
        choices = choices._replace(allow_nonfinite=choices.allow_nonfinite or options.allow_nonfinite)
        if everyone is not None:
            choices = choices._replace(everyone=True, default=everyone)
        result = _merge(workspace, versions, choices)
        oid = workspace.git.run("hash-object", "-w", "--stdin", input=result.text).decode().strip()
        mode = modes.get(versions.path, "100644")
        lines.append(f"{mode} {oid}\t".encode() + versions.path + b"\0")
        merged.append(_described(versions.path, choices, result))
    return replace_entries(workspace.git, workspace.paths.git_dir, tree, b"".join(lines)), merged


def _merge(workspace: Workspace, versions: Versions, choices: Choices) -> FileMerge:
    shown = show_path(versions.path)
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
    return result


def _described(path: bytes, choices: Choices, result: FileMerge) -> MergedFile:
    rules = tuple(f"{rule.pattern}={rule.choice}" for rule in choices.rules)
    return MergedFile(os.fsdecode(path), str(choices.default), rules, outcomes_of(result))


def _commit(
    workspace: Workspace,
    tree: str,
    commits: Sequence[str],
    branches: Sequence[str],
    options: MergeOptions,
    files: list[MergedFile],
) -> str:
    message = options.message or f"Merge {_listed(branches)}"
    lines = [*trailers(files), *options.trailers]
    text = with_trailers(workspace, message.encode("utf-8", "surrogateescape") + b"\n", lines)
    parents = [word for commit in commits for word in ("-p", commit)]
    return workspace.git.run("commit-tree", tree, *parents, input=text).decode().strip()


def _listed(branches: Sequence[str]) -> str:
    """Branches as git names them in the message of a merge."""
    *first, last = (f"'{name}'" for name in branches)
    return f"branches {', '.join(first)} and {last}" if first else f"branch {last}"
