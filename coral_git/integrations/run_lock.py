"""Who trains a run: a second process that does the same is warned, as each drops the other's checkpoints."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from urllib.parse import quote

from coral_git import fsops
from coral_git.errors import CoralError, LockedError
from coral_git.manifest.escape import printable
from coral_git.pipeline.workspace import Workspace
from coral_git.store.locks import exclusive_lock

_FOLDER = "runs"
_held: dict[str, tuple[ExitStack, int]] = {}


def hold_run(workspace: Workspace, run: str) -> Callable[[], None]:
    """Say that this process trains a run; several trainers of one process may.

    Args:
        workspace: the repository.
        run: its name.

    Returns:
        What lets go again; to be called once.
    """
    path = os.path.join(workspace.store.root, _FOLDER, f"{quote(run, safe='')[:200]}.lock")
    stack, count = _held.get(path, (ExitStack(), 0))
    if not count:
        try:
            fsops.make_directory(os.path.dirname(path))
            stack.enter_context(exclusive_lock(path, f"the run '{run}'"))
        except LockedError as error:
            said = f"another process trains the run '{printable(run)}', too ({error.message})"
            warnings.warn(f"{said}; each drops checkpoints of the other", RuntimeWarning, stacklevel=4)
            return lambda: None
        except (CoralError, OSError):
            return lambda: None  # whoever cannot write here hears of it when there is something to save
    _held[path] = stack, count + 1
    return lambda: _let_go(path)


def _let_go(path: str) -> None:
    stack, count = _held.pop(path)
    if count > 1:
        _held[path] = stack, count - 1
    else:
        stack.close()
