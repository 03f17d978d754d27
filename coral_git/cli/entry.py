"""Where ``git coral`` starts, and where it ends.

The commands that git itself calls, often and while the user waits, are dispatched before anything
heavy is imported; everything else goes through click.
"""

from __future__ import annotations

import gc
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

_CALLED_BY_GIT = frozenset({"filter-process", "clean", "smudge", "merge-driver"})
_OBJECTS_OF_A_START = 50_000


def _leave(status: int) -> NoReturn:
    """End the process at once: somebody waits, and taking the interpreter apart takes a while."""
    for stream in filter(None, (sys.stdout, sys.stderr)):  # None where the shell has closed it
        try:
            stream.flush()
        except BrokenPipeError:
            status = status or 141
        except OSError as error:
            os.write(2, f"error: cannot write: {(error.strerror or 'failed').lower()}\n".encode())
            status = status or 16
    os._exit(status)


def main() -> NoReturn:
    """Run the command on the command line and exit with its code."""
    gc.set_threshold(_OBJECTS_OF_A_START)  # imports leave no garbage: not to look for it saves a twentieth
    arguments = sys.argv[1:]
    if arguments and arguments[0] in _CALLED_BY_GIT and not {"-h", "--help"}.intersection(arguments):
        from coral_git.cli import called_by_git

        _leave(called_by_git.run(arguments[0], arguments[1:]))
    from coral_git.cli.main import run

    _leave(run(arguments))
