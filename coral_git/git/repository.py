"""Where a repository is: asked of git once, so that every way of having one works."""

from __future__ import annotations

import os
from typing import NamedTuple

from coral_git.errors import GitError, NotARepositoryError
from coral_git.git.command import Git

_QUESTIONS = (
    ("--is-bare-repository",),
    ("--show-object-format",),
    ("--git-dir",),
    ("--git-common-dir",),
    ("--git-path", "index"),
    ("--show-prefix",),
    ("--show-toplevel",),  # last, because git gives up here where there is no work tree
)


class GitPaths(NamedTuple):
    """The places of a repository, as absolute paths.

    Attributes:
        git_dir: the git directory of this work tree.
        common_dir: the directory that all work trees of the repository share.
        work_tree: the root of the work tree, or None in a bare repository and inside a git directory.
        index_path: the index of this work tree.
        object_format: ``"sha1"`` or ``"sha256"``.
        is_bare: whether the repository has no main work tree.
        prefix: the current directory relative to the work tree, empty at its root, else ending in ``/``.
    """

    git_dir: str
    common_dir: str
    work_tree: str | None
    index_path: str
    object_format: str
    is_bare: bool
    prefix: str = ""


def discover(directory: str | None = None) -> GitPaths:
    """Find the repository that a directory is in.

    ``GIT_DIR``, ``GIT_WORK_TREE`` and ``GIT_INDEX_FILE`` count as they do for git itself.

    Args:
        directory: the directory; the current one by default.

    Raises:
        NotARepositoryError: there is none, or git refuses it.
    """
    git = Git(directory)
    answers = _ask(git, *(word for question in _QUESTIONS for word in question))
    if not answers:
        raise _refusal(git, directory or os.getcwd())
    if len(answers) not in (len(_QUESTIONS) - 1, len(_QUESTIONS)):  # a line feed in a path
        answers = ["\n".join(_ask(git, *question)) for question in _QUESTIONS]
    is_bare, object_format, git_dir, common_dir, index_path, prefix, *work_tree = answers
    return GitPaths(
        git_dir=os.path.normpath(git_dir),
        common_dir=os.path.normpath(common_dir),
        work_tree=os.path.normpath(work_tree[0]) if work_tree and work_tree[0] else None,
        index_path=os.path.normpath(index_path),
        object_format=object_format,
        is_bare=is_bare == "true",
        prefix=prefix if work_tree else "",
    )


def _ask(git: Git, *question: str) -> list[str]:
    """The lines of the answer, as far as git gets."""
    answer = git.run("rev-parse", "--path-format=absolute", *question, check=False)
    return os.fsdecode(answer).split("\n")[:-1]


def _refusal(git: Git, place: str) -> NotARepositoryError:
    """What git says where it finds no repository, or one that it does not trust."""
    try:
        git.run("rev-parse", "--git-dir")
    except GitError as error:
        if "not a git repository" in error.message:
            return NotARepositoryError(
                f"'{place}' is not in a git repository", hint="run 'git coral init' to make one"
            )
        return NotARepositoryError(f"git does not open the repository of '{place}'", hint=error.message)
    return NotARepositoryError(f"'{place}' is not in a git repository", hint="git 2.35 or newer is needed")
