"""Where ``git coral`` starts.

The commands that git itself calls, often and while the user waits, are dispatched before anything
heavy is imported; everything else goes through click.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

_CALLED_BY_GIT = frozenset({"filter-process", "clean", "smudge", "merge-driver"})


def _leave(status: int) -> NoReturn:
    """End the process at once: git waits, and taking the interpreter apart takes a while."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def main() -> int:
    """Run the command on the command line and return its exit code."""
    arguments = sys.argv[1:]
    if arguments and arguments[0] in _CALLED_BY_GIT and not {"-h", "--help"}.intersection(arguments):
        from coral_git.cli import called_by_git

        _leave(called_by_git.run(arguments[0], arguments[1:]))
    from coral_git.cli.main import run

    return run(arguments)
