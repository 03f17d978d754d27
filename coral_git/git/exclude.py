"""The ``.coral`` link at the root of the main work tree, and the line that keeps it out of git.

The link is a convenience for people: code never resolves through it. The store itself is in the git
directory, where ``git clean -fdx`` and ``git stash --all`` do not reach it.
"""

from __future__ import annotations

import contextlib
import os
import stat

from coral_git import fsops
from coral_git.errors import from_os_error
from coral_git.git.repository import GitPaths

LINK = ".coral"
EXCLUDE_LINE = b"/.coral"
"""Without a slash at its end, or it would not match a symbolic link."""


def add_link(paths: GitPaths) -> bool:
    """Make the link, and exclude it from git first; what is at its place already is never touched.

    Args:
        paths: the repository. A bare one gets nothing; in a linked work tree the main one gets the link.

    Returns:
        Whether the link exists afterwards and leads to the store.

    Raises:
        CoralError: ``info/exclude`` cannot be written.
    """
    root = _main_work_tree(paths)
    if root is None:
        return False
    link, target = os.path.join(root, LINK), _target(paths, root)
    if not os.path.lexists(link):
        _edit_exclude(paths, present=True)
        with contextlib.suppress(OSError):  # a file system without links, or a read-only work tree
            fsops.make_link(target, link)
    return _is_our_link(link, target)


def remove_link(paths: GitPaths) -> None:
    """Undo ``add_link``; a ``.coral`` that is not our link stays, and so does the line that excludes it.

    Raises:
        CoralError: ``info/exclude`` cannot be written.
    """
    root = _main_work_tree(paths)
    if root is None:
        return
    link = os.path.join(root, LINK)
    if _is_our_link(link, _target(paths, root)):
        with contextlib.suppress(OSError):
            fsops.remove(link)
    if not os.path.lexists(link):
        _edit_exclude(paths, present=False)


def _main_work_tree(paths: GitPaths) -> str | None:
    """The root of the main work tree; None where there is none, or it cannot be told."""
    if os.path.realpath(paths.git_dir) == os.path.realpath(paths.common_dir):
        return None if paths.is_bare else paths.work_tree
    root, name = os.path.split(paths.common_dir)
    has_index = os.path.isfile(os.path.join(paths.common_dir, "index"))  # a bare ".git" has none
    return root if name == ".git" and has_index else None


def _target(paths: GitPaths, root: str) -> str:
    """Where the link leads: relative while the git directory is in the work tree, so that both can move."""
    store = os.path.join(paths.common_dir, "coral")
    relative = os.path.relpath(store, root)
    return store if relative.startswith(os.pardir) else relative


def _is_our_link(link: str, target: str) -> bool:
    try:
        return os.readlink(link) == target
    except OSError:
        return False


def _edit_exclude(paths: GitPaths, *, present: bool) -> None:
    """Add or remove the line in ``info/exclude``, which all work trees share."""
    path = os.path.realpath(os.path.join(paths.common_dir, "info", "exclude"))
    try:
        text, mode = _read(path)
        lines = text.splitlines(keepends=True)
        kept = [line for line in lines if line.rstrip(b"\r\n") != EXCLUDE_LINE]
        if present and len(kept) == len(lines):
            end = b"" if not text or text.endswith(b"\n") else b"\n"
            fsops.make_directory(os.path.dirname(path))
            fsops.replace_file(path, text + end + EXCLUDE_LINE + b"\n", mode)
        elif not present and len(kept) < len(lines):
            fsops.replace_file(path, b"".join(kept), mode)
    except OSError as error:
        raise from_os_error(error, f"write '{path}'") from error


def _read(path: str) -> tuple[bytes, int | None]:
    """The content and permission bits of a file; nothing and None when there is none."""
    try:
        with open(path, "rb") as file:
            return file.read(), stat.S_IMODE(os.fstat(file.fileno()).st_mode)
    except FileNotFoundError:
        return b"", None
