"""Repositories of the original Coral: the newest weights, or a commit of git for every commit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from coral_git.errors import GitError, UsageError
from coral_git.pipeline.workspace import Workspace
from coral_git.repository.adding import add_files, check_places, track_weights, work_tree
from coral_git.repository.importing import (
    ImportOptions,
    ImportReport,
    import_tensors,
    plan_tensors,
    write_place,
)
from coral_git.repository.original_coral import OriginalCommit, OriginalRepository
from coral_git.repository.original_weights import OriginalWeights, open_weights

_NOBODY = "unknown"


def import_original(
    workspace: Workspace,
    source: str,
    path: str | None,
    options: ImportOptions,
    *,
    ref: str | None = None,
    history: bool = False,
) -> ImportReport:
    """Import a repository of the original Coral; its weights become one file.

    Args:
        workspace: the repository, with a work tree.
        source: the folder with ``.coral``.
        path: where the file goes.
        options: how.
        ref: a branch, a version, or a commit; by default what is checked out there.
        history: whether every commit up to there becomes a commit on the current branch.

    Raises:
        UsageError: h5py is not installed, something cannot be understood or is not there as a full copy, the
            file exists, or, with ``history``, the index has changes. Nothing was written.
        GitError: git does not commit.
        CoralError: weights cannot be read or written.
    """
    repository = OriginalRepository(source, workspace.limits)
    tip = repository.find(ref)
    with open_weights(repository) as weights:
        if not history:
            return import_tensors(workspace, weights.tensors(tip), source, path, options)
        commits = repository.history(tip)
        report, made = _replay(workspace, commits, weights, source, path, options)
    _tag(workspace, repository, commits, made, report)
    return report


def _replay(
    workspace: Workspace,
    commits: Sequence[OriginalCommit],
    weights: OriginalWeights,
    source: str,
    path: str | None,
    options: ImportOptions,
) -> tuple[ImportReport, dict[str, str]]:
    """Commit the weights of one commit after the other; also tells which became which."""
    _check_index(workspace)
    for commit in commits:
        if not weights.tensors(commit):
            raise UsageError(f"the commit '{commit.id}' has no weights")
    place, writer = plan_tensors(workspace, source, path, options)
    check_places(workspace, [place], [place])
    report = ImportReport()
    made: dict[str, str] = {}
    before: dict[str, str] = {}
    for commit in commits:
        if commit.weights != before:
            report.files = [write_place(workspace, place, writer, weights.tensors(commit), options)]
            patterns = track_weights(workspace, [place])
            add_files(workspace, [place.path], attributes=bool(patterns))
            report.patterns += patterns
            before = commit.weights
            options = options._replace(force=True)  # what is there now is ours
        made[commit.id] = _commit(workspace, commit)
    report.commits = len(made)
    return report, made


def _check_index(workspace: Workspace) -> None:
    """Refuse to commit what somebody else has added, or to end a merge."""
    work_tree(workspace)
    git = workspace.git
    if not git.succeeds("diff", "--cached", "--quiet") or git.succeeds(
        "rev-parse", "-q", "--verify", "MERGE_HEAD"
    ):
        raise UsageError("the index has changes that are not committed", hint="git commit, or git stash")


def _commit(workspace: Workspace, commit: OriginalCommit) -> str:
    """Commit the index, and say what the commit is called."""
    environment = {
        "GIT_AUTHOR_NAME": _printable(commit.author),
        "GIT_AUTHOR_EMAIL": _printable(commit.email),
        "GIT_AUTHOR_DATE": f"@{commit.seconds} {commit.zone}",
    }
    workspace.git.run(
        *("commit", "--quiet", "--allow-empty", "--allow-empty-message", "--cleanup=verbatim", "-F", "-"),
        input=_text(commit.message),
        env=environment,
    )
    return workspace.git.run("rev-parse", "HEAD").decode().strip()


def _tag(
    workspace: Workspace,
    repository: OriginalRepository,
    commits: Iterable[OriginalCommit],
    made: dict[str, str],
    report: ImportReport,
) -> None:
    """Make tags of versions and of the tags of commits; a name counts once."""
    for name, commit, message in _tags(repository, commits):
        target = made.get(commit)
        if target is None or name in report.tags or not _make_tag(workspace, name, target, message):
            report.left_out.append(f"tag {name}")
        else:
            report.tags.append(name)


def _tags(
    repository: OriginalRepository, commits: Iterable[OriginalCommit]
) -> Iterator[tuple[str, str, str]]:
    """Name, commit and message of all tags."""
    for version in repository.versions():
        yield version.name, version.commit, version.message
    for commit in commits:
        for name in commit.tags:
            yield name, commit.id, ""


def _make_tag(workspace: Workspace, name: str, target: str, message: str) -> bool:
    """Whether a tag could be made: its name may be there already, or be one that git does not allow."""
    if name.startswith("-") or not name.isprintable():
        return False
    options = ("--annotate", "--cleanup=verbatim", "-F", "-") if message else ()
    try:
        workspace.git.run("tag", *options, name, target, input=_text(message))
    except GitError:
        return False
    return True


def _printable(text: str) -> str:
    """A name as git takes it."""
    return (
        "".join(char for char in text if char.isprintable() and char not in "<>").strip(" .,:;'\"") or _NOBODY
    )


def _text(text: str) -> bytes:
    return text.replace("\0", "").encode("utf-8", "replace")
