"""New files of the work tree: checked places, how they are written, patterns for weights, ``git add``."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import BinaryIO, NamedTuple

from coral_git import fsops
from coral_git.errors import ProblemsFound, UsageError, from_os_error
from coral_git.git import drivers
from coral_git.git.attributes import FILE_NAME, check_attr, literal_pattern, track_in
from coral_git.git.worktree import WorkTreeFile
from coral_git.pipeline.workspace import Workspace

_FILTER = b"coral"
_GLOB_SIGNS = frozenset("*?[\\ ")
_ADDED_AT_ONCE = 500


class Place(NamedTuple):
    """Where a file of the work tree is or will be.

    Attributes:
        out: its absolute path, free of symbolic links but for the last part.
        path: the path relative to the root of the work tree.
    """

    out: str
    path: bytes


def work_tree(workspace: Workspace) -> str:
    """The root of the work tree.

    Raises:
        UsageError: there is none.
    """
    if workspace.paths.work_tree is None:
        raise UsageError("there is no work tree here")
    return os.path.realpath(workspace.paths.work_tree)


def find_place(workspace: Workspace, path: str, *, force: bool) -> Place:
    """Where a file is to be written.

    Args:
        workspace: the repository.
        path: the file, relative to the current folder.
        force: whether it may be there already.

    Raises:
        UsageError: it is outside of the work tree, a folder, or there already.
    """
    root = work_tree(workspace)
    folder, name = os.path.split(os.path.abspath(path))
    out = os.path.join(os.path.realpath(folder), name)
    relative = os.path.relpath(out, root)
    parts = relative.split(os.sep)
    if parts[0] == os.pardir or any(part.casefold() == ".git" for part in parts):
        raise UsageError(f"'{path}' is outside of the work tree '{root}'")
    if os.path.isdir(out):
        raise UsageError(f"'{path}' is a folder")
    if os.path.lexists(out) and not force:
        raise UsageError(f"'{path}' exists", hint="give another name, or --force")
    return Place(out, os.fsencode(relative))


@contextmanager
def new_file(workspace: Workspace, place: Place, *, force: bool) -> Iterator[BinaryIO]:
    """A file that takes its place when the block ends well; a kill leaves nothing in the work tree.

    Args:
        workspace: the repository.
        place: where it goes; missing folders are made.
        force: whether a file there is replaced.

    Raises:
        UsageError: somebody has put a file there meanwhile.
        CoralError: the file system refused; what was there is as it was.
    """
    path = os.fsdecode(place.path)
    name = place.path.replace(os.fsencode(os.sep), b"/")
    try:
        with WorkTreeFile(work_tree(workspace), name, git_dir=workspace.paths.git_dir) as written:
            with os.fdopen(os.dup(written.fd), "w+b") as file:
                yield file
                file.flush()
                fsops.sync_file(written.fd, path)
            if written.commit(lambda target: force or target is None) is None:
                raise UsageError(f"'{path}' exists", hint="give another name, or --force")
    except OSError as error:
        raise from_os_error(error, f"write '{path}'") from error


def check_places(workspace: Workspace, places: Sequence[Place], weights: Sequence[Place]) -> None:
    """Make sure that files can be added, and that the weights among them will go through the filter.

    Raises:
        UsageError: git ignores a file, does not know the filter, or attributes give a file to another one.
    """
    wanted = b"".join(place.path + b"\0" for place in places)
    ignored = workspace.git.run("check-ignore", "--stdin", "-z", input=wanted, check=False).split(b"\0")
    if ignored[0]:
        raise UsageError(
            f"git ignores '{os.fsdecode(ignored[0])}'",
            hint="change .gitignore, give another name, or --no-add",
        )
    if weights and drivers.inspect(workspace.git, drivers.PROGRAM).state is drivers.DriverState.ABSENT:
        raise UsageError("git does not use coral-git here", hint="git coral install")
    for path, value in check_attr(workspace.git, [place.path for place in weights]).items():
        if value not in (_FILTER, b"unspecified"):
            raise UsageError(
                f"attributes give '{os.fsdecode(path)}' the filter '{os.fsdecode(value)}'",
                hint=f"git check-attr filter -- '{os.fsdecode(path)}'",
            )


def track_weights(workspace: Workspace, weights: Sequence[Place]) -> list[str]:
    """Track the endings of weights that no pattern matches, in the attributes file of the root.

    Returns:
        The patterns that are new.

    Raises:
        UsageError: attributes of a folder outweigh those of the root.
        CoralError: the attributes file cannot be read or written.
    """
    root = work_tree(workspace)
    paths = [place.path for place in weights]
    filters = check_attr(workspace.git, paths)
    patterns = list(dict.fromkeys(_pattern(path) for path in paths if filters[path] != _FILTER))
    for pattern in patterns:
        track_in(root, pattern)
    if patterns:
        for path, value in check_attr(workspace.git, paths).items():
            if value != _FILTER:
                raise UsageError(
                    f"'{os.fsdecode(path)}' is not tracked, whatever '{FILE_NAME}' says",
                    hint="another attributes file says otherwise",
                )
    return list(map(os.fsdecode, patterns))


def add_files(workspace: Workspace, paths: Sequence[bytes], *, attributes: bool) -> None:
    """Run ``git add``, which says itself what is wrong.

    Args:
        workspace: the repository.
        paths: relative to the root.
        attributes: whether the attributes file of the root is added, before them.

    Raises:
        ProblemsFound: git failed, and has said why.
    """
    names = [FILE_NAME] * attributes + [os.fsdecode(path) for path in paths]
    for start in range(0, len(names), _ADDED_AT_ONCE):
        chosen = names[start : start + _ADDED_AT_ONCE]
        if workspace.git.call("--literal-pathspecs", "add", "--", *chosen):
            raise ProblemsFound("git add failed")


def _pattern(path: bytes) -> bytes:
    """``*.safetensors``, or just the one file where its name has no plain ending."""
    ending = os.path.splitext(os.fsdecode(path))[1]
    if len(ending) < 2 or _GLOB_SIGNS & set(ending):
        return literal_pattern(path)
    return os.fsencode(f"*{ending}")
