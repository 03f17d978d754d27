"""Faults on order: every write operation fails once, or the process ends there.

All writes of coral-git go through :mod:`coral_git.fsops`, which announces each of them. So an operation can
be run again and again, failing at its first, second, third … write, until it gets through untouched.
"""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Callable
from typing import Literal, TypeVar

from coral_git import fsops
from coral_git.errors import CoralError

Subject = TypeVar("Subject")
Mode = Literal["error", "kill"]

_KILLED = 77
_FAILED = 78
_MOST = 100_000


def count_operations(operation: Callable[[], object]) -> int:
    """Run an operation and count its write operations."""
    counter = _Nth(0, lambda: None)
    fsops.set_fault_hook(counter)
    try:
        operation()
    finally:
        fsops.set_fault_hook(None)
    return counter.seen


def fail_each(
    operation: Callable[[Subject], object],
    prepare: Callable[[], Subject],
    verify: Callable[[Subject, bool], None],
    *,
    mode: Mode = "error",
    code: int = errno.EIO,
    first: int = 1,
    step: int = 1,
) -> int:
    """Run an operation once for each of its write operations, failing that one.

    Args:
        operation: what is tested. With ``"kill"`` it runs in a child process, so it must open what it needs
            itself. It may raise ``CoralError`` or ``OSError`` when a write fails; or cope with it.
        prepare: makes a new subject for each run, e.g. a repository in a new directory.
        verify: is called after each run with the subject and whether the operation ended well.
        mode: ``"error"`` raises an ``OSError``, ``"kill"`` ends the process at that point.
        code: the error number, e.g. ``errno.ENOSPC``.
        first: the write operation to begin with.
        step: fail only every n-th write operation from there on.

    Returns:
        How many write operations were failed.

    Raises:
        AssertionError: a killed child failed in another way than by being killed.
    """
    for points, number in enumerate(range(first, _MOST, step)):
        subject = prepare()
        run = _run_with_error if mode == "error" else _run_and_kill
        completed, reached = run(operation, subject, number, code)
        verify(subject, completed)
        if not reached:
            assert completed, "the operation failed although no fault was raised"
            return points
    raise AssertionError(f"the operation did not end within {_MOST} write operations")


class _Nth:
    """A fault hook that acts at the n-th operation of the process that installed it."""

    def __init__(self, number: int, act: Callable[[], None]) -> None:
        self._number = number
        self._act = act
        self.seen = 0

    def __call__(self, name: str, path: str) -> None:
        self.seen += 1
        if self.seen == self._number:
            self._act()


def _run_with_error(
    operation: Callable[[Subject], object], subject: Subject, number: int, code: int
) -> tuple[bool, bool]:
    """Whether the operation ended well, and whether it got to the fault."""

    def act() -> None:
        raise OSError(code, os.strerror(code))

    hook = _Nth(number, act)
    fsops.set_fault_hook(hook)
    try:
        operation(subject)
    except (CoralError, OSError):
        return False, hook.seen >= number
    finally:
        fsops.set_fault_hook(None)
    return True, hook.seen >= number


def _run_and_kill(
    operation: Callable[[Subject], object], subject: Subject, number: int, _: int
) -> tuple[bool, bool]:
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        fsops.set_fault_hook(_Nth(number, lambda: os._exit(_KILLED)))
        try:
            operation(subject)
        except BaseException:  # noqa: BLE001 - the child must not run the rest of the test
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(_FAILED)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, _KILLED), f"the child failed by itself ({status})"
    return status == 0, status == _KILLED
