"""Where a repository is: asked of git once, so that every way of having one works."""

from __future__ import annotations

import os
from dataclasses import dataclass

from coral_git.errors import GitError, NotARepositoryError
from coral_git.git.command import Git


@dataclass(frozen=True, slots=True)
class GitPaths:
    """The places of a repository, as absolute paths.

    Attributes:
        git_dir: the git directory of this work tree.
        common_dir: the directory that all work trees of the repository share.
        work_tree: the root of the work tree, or None in a bare repository.
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
    """Find the repository that a directory is in; the environment of a hook is respected.

    Raises:
        NotARepositoryError: there is none, or git refuses it.
    """
    git = Git(directory)
    try:
        answer = git.run(
            "rev-parse",
            "--is-bare-repository",
            "--is-inside-work-tree",
            "--show-object-format",
            "--git-dir",
            "--git-common-dir",
            "--git-path",
            "index",
            "--show-prefix",
        )
    except GitError as error:
        place = directory or os.getcwd()
        hint = (
            "run 'git coral init' to make one" if "not a git repository" in error.message else error.message
        )
        raise NotARepositoryError(f"'{place}' is not in a git repository", hint=hint) from error
    fields = os.fsdecode(answer).split("\n")
    is_bare, in_work_tree, object_format, git_dir, common_dir, index_path, prefix = fields[:7]
    base = directory or os.getcwd()

    def absolute(path: str) -> str:
        return os.path.normpath(os.path.join(os.path.abspath(base), path))

    work_tree = None
    if in_work_tree == "true":
        work_tree = os.fsdecode(git.run("rev-parse", "--show-toplevel")).removesuffix("\n")
    return GitPaths(
        git_dir=absolute(git_dir),
        common_dir=absolute(common_dir),
        work_tree=work_tree,
        index_path=absolute(index_path),
        object_format=object_format,
        is_bare=is_bare == "true",
        prefix=prefix,
    )
