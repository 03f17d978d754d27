"""``git coral merge``: git's own merge with a strategy in force, and the commit that says what was done."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

from coral_git import fsops
from coral_git.errors import UsageError, from_os_error
from coral_git.git.command import Git, failure
from coral_git.git.revisions import resolve_commit
from coral_git.manifest.escape import printable
from coral_git.merge.driver import REPORT
from coral_git.merge.settings import ENVIRONMENT, Wanted, as_options
from coral_git.pipeline.workspace import Workspace
from coral_git.repository.merge_report import MergedFile, read_report, report_file, trailers
from coral_git.repository.unfinished import require_work_tree, user_git


class MergeOptions(NamedTuple):
    """How branches are merged.

    Attributes:
        wanted: strategy, parameters and rules.
        message: of the commit; git's own where it is empty.
        commit: whether a commit is made.
        fast_forward: ``"--no-ff"``, ``"--ff-only"``, or empty for what git does.
        allow_nonfinite: whether new infinities and NaNs are taken.
        trailers: lines that the commit records besides.
        quiet: whether nothing is printed: a refusal of git is an error then.
    """

    wanted: Wanted = Wanted()
    message: str = ""
    commit: bool = True
    fast_forward: str = ""
    allow_nonfinite: bool = False
    trailers: tuple[str, ...] = ()
    quiet: bool = False

    @property
    def git_options(self) -> list[str]:
        """What git is told, for the merge drivers that it starts."""
        allowed = ["-c", "coral.merge.allowNonFinite=true"] if self.allow_nonfinite else []
        return [*as_options(self.wanted), *allowed]


class MergeResult(NamedTuple):
    """What came out.

    Attributes:
        status: ``"merged"``, ``"staged"`` (no commit was asked for), ``"conflict"``, ``"fast-forward"`` or
            ``"up to date"``.
        commit: the id of HEAD afterwards.
        files: the weight files that both sides changed.
    """

    status: str
    commit: str
    files: list[MergedFile]


def merge_branch(workspace: Workspace, branch: str, options: MergeOptions) -> MergeResult:
    """Merge one branch as ``git merge`` does, with trailers that say how.

    Args:
        workspace: the repository, with a work tree.
        branch: any revision.
        options: how.

    Raises:
        UsageError: there is no such commit, or a strategy or rule cannot be understood.
        GitError: git cannot tell where HEAD is; with ``quiet`` also: git refuses to merge or to commit.
    """
    require_work_tree(workspace)
    resolve_commit(workspace.git, branch)
    before = resolve_commit(workspace.git, "HEAD")
    if _merge_head(workspace):
        raise UsageError(
            "a merge is not concluded yet", hint="git commit to conclude it, git merge --abort to drop it"
        )
    git = user_git(workspace)
    ask = git.ask if options.quiet else partial(_show, git)
    words = [*options.git_options, "merge", "-q", "--no-commit"]
    words += [options.fast_forward] if options.fast_forward else []
    words += ["-m", options.message] if options.message else []
    with report_file(workspace) as report:
        environment = {REPORT: report}
        if options.wanted.strategy:
            environment[ENVIRONMENT] = options.wanted.strategy
        code, said = ask(*words, branch, env=environment)
        files = read_report(report)
    if not _merge_head(workspace):
        if code and options.quiet:
            raise failure(("merge",), code, said)
        if code:
            return MergeResult("conflict", before, files)
        after = resolve_commit(workspace.git, "HEAD")
        return MergeResult("up to date" if after == before else "fast-forward", after, files)
    record(workspace, [*trailers(files), *options.trailers])
    if code:
        return MergeResult("conflict", before, files)
    if not options.commit:
        return MergeResult("staged", before, files)
    code, said = ask("commit", "-q", "--no-edit")
    if code and options.quiet:
        raise failure(("commit",), code, said)
    if code:
        return MergeResult("staged", before, files)
    return MergeResult("merged", resolve_commit(workspace.git, "HEAD"), files)


def _show(git: Git, *words: str, env: Mapping[str, str] | None = None) -> tuple[int, bytes]:
    """Run git on the terminal of the user; nothing of what it prints is known here."""
    return git.call(*words, env=env, apart=True), b""


def record(workspace: Workspace, lines: Sequence[str]) -> None:
    """Put trailers into the message of the merge that is going on; ``git commit`` will take it.

    Raises:
        GitError: git cannot write them.
    """
    if not lines:
        return
    path = os.path.join(workspace.paths.git_dir, "MERGE_MSG")
    try:
        with open(path, "rb") as file:
            message = file.read()
        fsops.replace_file(path, with_trailers(workspace, message, lines))
    except OSError as error:
        raise from_os_error(error, "write the message of the merge") from error


def record_resolution(workspace: Workspace, file: MergedFile) -> None:
    """Put right what the message of the merge says of a file that was in conflict, if it says anything.

    Raises:
        GitError: git cannot write trailers.
        CoralError: the message cannot be written.
    """
    path = os.path.join(workspace.paths.git_dir, "MERGE_MSG")
    try:
        with open(path, "rb") as found:
            message = found.read()
        if b"\nCoral-Merge-Tensors: " not in message:
            return
        stale = (f"Coral-Merge-Tensors: {printable(file.path)} ", "Coral-Merge: fail")
        lines = message.decode("utf-8", "surrogateescape").splitlines(keepends=True)
        kept = "".join(line for line in lines if not line.startswith(stale))
        new = [line for line in trailers([file]) if f"\n{line}\n" not in kept]
        text = kept.encode("utf-8", "surrogateescape")
        fsops.replace_file(path, with_trailers(workspace, text, new))
    except FileNotFoundError:
        return
    except OSError as error:
        raise from_os_error(error, "write the message of the merge") from error


def with_trailers(workspace: Workspace, message: bytes, lines: Sequence[str]) -> bytes:
    """A message with trailers at its end, by git's rules."""
    words = [word for line in lines for word in ("--trailer", line)]
    return workspace.git.run("interpret-trailers", *words, input=message)


def _merge_head(workspace: Workspace) -> bool:
    return os.path.exists(os.path.join(workspace.paths.git_dir, "MERGE_HEAD"))
