"""``git coral cherry-pick`` and ``git coral revert``: the change of a commit applied, or subtracted, in part.

The weights of a commit minus those of its parent are a *task vector* (Ilharco et al., arXiv 2212.04089); it
is added to the weights of HEAD times a factor, or subtracted. Everything else is git's own cherry-pick or
revert.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

from coral_git.errors import CoralError, UsageError
from coral_git.git.revisions import list_commits, resolve_commit
from coral_git.manifest.entries import Manifest
from coral_git.merge.choices import Choice, Choices
from coral_git.merge.merge_file import FileMerge, merge_file
from coral_git.merge.parameters import Parameters
from coral_git.merge.settings import read_choices
from coral_git.pipeline.manifests import read_manifest
from coral_git.pipeline.messages import show_path
from coral_git.pipeline.progress import Progress
from coral_git.pipeline.workspace import Workspace
from coral_git.repository.keeping_ours import KeptOurs, keeping_ours
from coral_git.repository.merge_report import MergedFile, outcomes_of, trailers
from coral_git.repository.merging import with_trailers
from coral_git.repository.unfinished import require_work_tree, user_git


class ApplyOptions(NamedTuple):
    """How a commit is applied.

    Attributes:
        scale: what its change is multiplied by.
        revert: whether the change is subtracted.
        mainline: which parent of a merge commit the change is counted from, from 1; None for other commits.
        commit: whether a commit is made.
        origin: whether the message of a picked commit says where it comes from.
        allow_nonfinite: whether new infinities and NaNs are taken.
    """

    scale: float = 1.0
    revert: bool = False
    mainline: int | None = None
    commit: bool = True
    origin: bool = False
    allow_nonfinite: bool = False

    @property
    def verb(self) -> str:
        """The command of git that does the same with everything else."""
        return "revert" if self.revert else "cherry-pick"


class Applied(NamedTuple):
    """What became of a commit.

    Attributes:
        source: the id of the commit that was applied.
        commit: that of the new commit; empty where none was asked for.
        files: the weight files that were computed.
    """

    source: str
    commit: str
    files: list[MergedFile]


def apply_commits(workspace: Workspace, revisions: Sequence[str], options: ApplyOptions) -> list[Applied]:
    """Apply commits to HEAD, one after the other.

    Args:
        workspace: the repository, with a work tree without changes.
        revisions: commits, or ranges such as ``main..topic``.
        options: how.

    Raises:
        UsageError: there is no such commit, it has no parent or several, or there are local changes.
        CoralError: it contradicts HEAD; work tree and index are as they were.
    """
    require_work_tree(workspace)
    commits = [one for revision in revisions for one in _commits(workspace, revision, options)]
    if workspace.git.run("status", "--porcelain", "--untracked-files=no"):
        raise UsageError("there are local changes", hint="commit or stash them first")
    return [_apply(workspace, commit, options) for commit in commits]


def _commits(workspace: Workspace, revision: str, options: ApplyOptions) -> list[str]:
    if ".." not in revision:
        return [resolve_commit(workspace.git, revision)]
    found = list_commits(workspace.git, [revision])
    return found[::-1] if options.revert else found


def _apply(workspace: Workspace, commit: str, options: ApplyOptions) -> Applied:
    parent = _parent(workspace, commit, options)
    git = user_git(workspace)
    mainline = ["-m", str(options.mainline)] if options.mainline else []
    try:
        with keeping_ours(workspace) as kept:
            if git.call(*kept.options, options.verb, "-n", *mainline, commit, apart=True):
                raise CoralError(
                    f"'{commit[:12]}' contradicts HEAD in files that are no weights",
                    hint=f"git {options.verb} {commit[:12]}",
                )
            files = _compute(workspace, parent, commit, options)
            _check_renames(kept, files, f"git {options.verb} {commit[:12]}")
    except BaseException:
        git.call("reset", "-q", "--merge", apart=True)
        raise
    if not options.commit:
        return Applied(commit, "", files)
    return Applied(commit, _commit(workspace, commit, options, files), files)


def _check_renames(kept: KeptOurs, files: Sequence[MergedFile], hint: str) -> None:
    """Refuse where git followed a rename to weights that nobody has computed."""
    for path in sorted(kept.paths - {os.fsencode(file.path) for file in files}):
        raise CoralError(f"'{show_path(path)}' was renamed on one side and changed on both", hint=hint)


def _parent(workspace: Workspace, commit: str, options: ApplyOptions) -> str:
    """The commit that the change is counted from."""
    parents = workspace.git.run("rev-list", "--parents", "-1", commit).decode().split()[1:]
    if not parents:
        raise UsageError(f"'{commit[:12]}' has no parent, so it is no change of anything")
    if len(parents) == 1 and options.mainline is None:
        return parents[0]
    if options.mainline is None:
        raise UsageError(f"'{commit[:12]}' is a merge", hint="-m 1 counts its change from the first parent")
    if not 1 <= options.mainline <= len(parents):
        raise UsageError(f"'{commit[:12]}' has no parent {options.mainline}")
    return parents[options.mainline - 1]


def _compute(workspace: Workspace, parent: str, commit: str, options: ApplyOptions) -> list[MergedFile]:
    """Compute the weight files that the commit changed, stage and write them."""
    start, end = (commit, parent) if options.revert else (parent, commit)
    names = workspace.git.run("diff-tree", "-r", "-z", "--name-only", "--no-renames", start, end)
    lines, files = [], []
    for path in filter(None, names.split(b"\0")):
        found = [_manifest(workspace, revision, path) for revision in (start, "HEAD", end)]
        base, ours, theirs = found
        if base is None or ours is None or theirs is None:
            continue
        choices = _choices(workspace, path, options)
        result = _merge(workspace, path, base, (ours, theirs), choices)
        oid = workspace.git.run("hash-object", "-w", "--stdin", input=result.text).decode().strip()
        lines.append(f"{_mode(workspace, path)} {oid}\t".encode() + path + b"\0")
        files.append(MergedFile(os.fsdecode(path), str(choices.default), (), outcomes_of(result)))
    if lines:
        workspace.git.run("update-index", "-z", "--index-info", input=b"".join(lines))
        changed = [f":(top,literal){file.path}" for file in files]
        workspace.git.call("checkout", "-q", "--", *changed, apart=True)
    return files


def _choices(workspace: Workspace, path: bytes, options: ApplyOptions) -> Choices:
    configured = read_choices(workspace, path)
    addition = Choice("task-arithmetic", Parameters(weights=(1.0, options.scale)))
    return configured._replace(
        default=addition,
        everyone=options.scale != 1,
        allow_nonfinite=configured.allow_nonfinite or options.allow_nonfinite,
    )


def _merge(
    workspace: Workspace, path: bytes, base: Manifest, sides: tuple[Manifest, Manifest], choices: Choices
) -> FileMerge:
    shown = show_path(path)
    with Progress("computing weights") as progress:
        result = merge_file(
            workspace, path, base, sides, choices, lambda done, total: progress.update(shown, done, total)
        )
    if result.reason:
        raise CoralError(f"'{shown}': {result.reason}", hint="a rule may settle it: coral.merge.rule")
    return result


def _manifest(workspace: Workspace, revision: str, path: bytes) -> Manifest | None:
    found = read_manifest(workspace, revision.encode() + b":" + path)
    return None if found is None else found.manifest


def _mode(workspace: Workspace, path: bytes) -> str:
    listed = workspace.git.run("ls-files", "-s", "-z", "--", f":(top,literal){os.fsdecode(path)}")
    return listed.split(b" ", 1)[0].decode() or "100644"


def _commit(workspace: Workspace, commit: str, options: ApplyOptions, files: list[MergedFile]) -> str:
    """Commit what is staged, with the author of a picked commit."""
    shown = workspace.git.run("log", "-1", "--format=%an%x00%ae%x00%ad%x00%B", "--date=raw", commit)
    name, mail, date, message = shown.split(b"\0", 3)
    environment = {}
    if options.revert:
        subject = message.split(b"\n", 1)[0]
        message = b'Revert "%s"\n\nThis reverts commit %s.\n' % (subject, commit.encode())
    else:
        author = {"GIT_AUTHOR_NAME": name, "GIT_AUTHOR_EMAIL": mail, "GIT_AUTHOR_DATE": date}
        environment = {key: os.fsdecode(value) for key, value in author.items()}
        message = message.rstrip(b"\n") + b"\n"
        if options.origin:
            message += b"\n(cherry picked from commit %s)\n" % commit.encode()
    key = "Coral-Revert" if options.revert else "Coral-Cherry-Pick"
    lines = [f"{key}: {commit} scale={options.scale:g}"]
    lines += [line for line in trailers(files) if line.startswith("Coral-Merge-Tensors")]
    text = with_trailers(workspace, message, lines)
    workspace.git.run("commit", "-q", "--cleanup=verbatim", "-F", "-", input=text, env=environment)
    return resolve_commit(workspace.git, "HEAD")
