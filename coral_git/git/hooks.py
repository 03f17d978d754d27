"""The pre-push hook: where it lives, what is there, and putting ours there without losing another one.

The hook file is the one in ``hooks/`` of the source tree. Its text is a block between two marker lines, so
that any version of it is recognised and replaced, and what stands around it is kept. A hook that was there
before is moved to ``pre-push.local`` beside it, which ours runs first; uninstalling moves it back, unread.

Nothing is written where ``core.hooksPath`` points: that folder belongs to another tool, or to every
repository of the user. The report then says which line to add.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
from enum import Enum
from typing import NamedTuple

from coral_git import fsops
from coral_git.errors import CoralError, from_os_error
from coral_git.git.hook_folder import BLOCK_END, BLOCK_START, HookFolder, read_hook

HOOK = "pre-push"
ADVICE = 'git coral hook pre-push "$@" || exit'
"""The line that does what our hook does, for a hook that somebody else owns."""

_EARLIER = HOOK + ".local"
_MOVED_BY_OTHERS = HOOK + ".legacy"  # where the pre-commit tool puts, and from where it runs, an earlier hook
_MODE = 0o755
_EXECUTE = 0o111
_BLOCK = re.compile(
    rb"^" + BLOCK_START + rb"\d+ >>>.*?^" + BLOCK_END + rb"[^\n]*\n?", re.DOTALL | re.MULTILINE
)
_CALL = re.compile(rb"^[^#\n]*\bgit[ -]coral hook pre-push\b", re.MULTILINE)
_SHEBANG = b"#!/bin/sh\n"


class HookState(Enum):
    """What was found where git looks for the hook.

    ``OURS``: our hook alone. ``CHAINED``: ours and another one both run. ``MISSING``: none. ``FOREIGN``:
    another one, which does not call ours. ``HOOKS_PATH``: ``core.hooksPath`` is set, and ours is not called.
    """

    OURS = "ours"
    CHAINED = "chained"
    MISSING = "missing"
    FOREIGN = "foreign"
    HOOKS_PATH = "hooks-path"


class HookReport(NamedTuple):
    """The hook of a repository.

    Attributes:
        state: what was found.
        path: the hook file that git runs, or would run.
        is_current: whether the hook is the one this version would install, and executable.
        advice: the line to add to ``path`` by hand; empty where ``install`` can do it.
    """

    state: HookState
    path: str
    is_current: bool
    advice: str = ""


def inspect(folder: HookFolder, program: str = "git-coral") -> HookReport:
    """Say what is there, without changing it.

    Args:
        folder: where git looks for hooks.
        program: the program that the hook is to find, as ``drivers.find_program`` gives it.
    """
    path = os.path.join(folder.path, HOOK)
    text = read_hook(path)
    if text is not None and _CALL.search(text):
        return _report_ours(folder, path, text, program)
    if folder.is_configured:
        return HookReport(HookState.HOOKS_PATH, path, False, ADVICE)
    if text is None and not os.path.lexists(path):
        return HookReport(HookState.MISSING, path, False)
    moved = os.path.join(folder.path, _MOVED_BY_OTHERS)
    moved_text = read_hook(moved)
    if moved_text is not None and _BLOCK.search(moved_text):
        is_current = _is_current(moved, moved_text, program)
        return HookReport(HookState.CHAINED, moved, is_current)
    earlier = os.path.join(folder.path, _EARLIER)
    in_the_way = os.path.lexists(earlier) and read_hook(earlier) != text
    return HookReport(HookState.FOREIGN, path, False, ADVICE if in_the_way else "")


def install(folder: HookFolder, program: str = "git-coral", *, chain: bool = True) -> HookReport:
    """Put our hook in place, or bring it up to date.

    Args:
        folder: where git looks for hooks.
        program: ``git-coral``, or the absolute path of it where the hook would not find it.
        chain: whether another hook may be moved aside, to be run by ours.

    Returns:
        What is there afterwards. Where nothing could be done, its ``advice`` says what the user can do.

    Raises:
        CoralError: the folder cannot be written.
    """
    report = inspect(folder, program)
    if folder.is_configured or report.is_current:
        return report
    try:
        if report.state is HookState.MISSING:
            fsops.make_directory(folder.path)
            fsops.replace_file(report.path, _SHEBANG + _block(program), _MODE)
        elif report.state is HookState.FOREIGN:
            if not chain or report.advice:
                return report
            fsops.rename(report.path, os.path.join(folder.path, _EARLIER))
            fsops.replace_file(report.path, _SHEBANG + _block(program), _MODE)
        else:
            _update(report.path, _block(program))
    except OSError as error:
        raise from_os_error(error, f"write '{report.path}'") from error
    return inspect(folder, program)


def uninstall(folder: HookFolder) -> HookReport:
    """Remove our hook, and put back the one that was there before, byte for byte.

    Raises:
        CoralError: the folder cannot be written.
    """
    report = inspect(folder)
    text = read_hook(report.path) if report.state in (HookState.OURS, HookState.CHAINED) else None
    if folder.is_configured or text is None or not _BLOCK.search(text):
        return report
    earlier = os.path.join(folder.path, _EARLIER)
    rest = _BLOCK.sub(b"", text)
    try:
        if not _is_only_shebang(rest):
            fsops.replace_file(report.path, rest, stat.S_IMODE(os.stat(report.path).st_mode))
        elif os.path.lexists(earlier):
            fsops.rename(earlier, report.path)
        else:
            fsops.remove(report.path)
    except OSError as error:
        raise from_os_error(error, f"write '{report.path}'") from error
    return inspect(folder)


def shipped_hook() -> bytes:
    """The text of our hook, from the installed package or the source tree.

    Raises:
        CoralError: the installation lacks the file.
    """
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    for folder in (package, os.path.dirname(package)):
        text = read_hook(os.path.join(folder, "hooks", HOOK))
        if text is not None:
            return text
    raise CoralError(
        "the installation of coral-git lacks its hooks", hint="pip install --force-reinstall coral-git"
    )


def _report_ours(folder: HookFolder, path: str, text: bytes, program: str) -> HookReport:
    """The report on a hook file that calls ours."""
    block = _BLOCK.search(text)
    alone = block is not None and _is_only_shebang(_BLOCK.sub(b"", text))
    earlier = os.path.lexists(os.path.join(folder.path, _EARLIER))
    state = HookState.OURS if alone and not earlier else HookState.CHAINED
    return HookReport(state, path, _is_current(path, text, program))


def _is_current(path: str, text: bytes, program: str) -> bool:
    """Whether a hook file that calls ours is executable, and its block (if any) is this version's."""
    block = _BLOCK.search(text)
    return os.access(path, os.X_OK) and (block is None or block[0] == _block(program))


def _block(program: str) -> bytes:
    """The block of our hook; a program given by its path gets its folder added to the search path."""
    found = _BLOCK.search(shipped_hook())
    if found is None:
        raise CoralError("the hooks of this installation of coral-git are damaged")
    if not os.path.isabs(program):
        return found[0]
    marker, _, body = found[0].partition(b"\n")
    folder = shlex.quote(os.path.dirname(program))
    return b"\n".join((marker, b'PATH="$PATH":' + os.fsencode(folder), body))


def _update(path: str, block: bytes) -> None:
    """Replace our block in a hook file, keep what stands around it, and make it executable."""
    with open(path, "rb") as file:
        text = file.read()
    mode = stat.S_IMODE(os.stat(path).st_mode)
    new = _BLOCK.sub(lambda _: block, text, count=1)
    fsops.replace_file(path, new, mode | mode >> 2 & _EXECUTE)


def _is_only_shebang(text: bytes) -> bool:
    return text.strip() in (b"", _SHEBANG.strip())
