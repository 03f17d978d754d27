"""The errors of coral-git, their exit codes and their hints.

One class, one exit code (the table in ``docs/reference/errors.md``)::

    CoralError                     1
    ├─ UsageError                  2   wrong arguments
    ├─ NotARepositoryError        10   no git repository, or no store in it
    ├─ LockedError                11   somebody else holds a lock
    ├─ ObjectMissingError         12   an object is in no store that was asked
    ├─ IntegrityError             13   bytes differ from their digest
    ├─ FormatVersionError         14   written by a newer coral-git
    ├─ RemoteError                15   a remote store or git remote failed
    ├─ StorageFullError           16   no space left
    ├─ PolicyError                17   a limit was exceeded, or something is unsafe
    ├─ GitError                   18   the git binary failed
    ├─ InvalidManifestError       19   a text that claims to be a manifest and is none
    ├─ MergeConflictError          1   a merge needs decisions, and nothing was merged
    └─ ProblemsFound               1   a check found problems (they were listed)

Messages follow git: lower case, what failed and on what, no full stop; the hint names the next command.
"""

from __future__ import annotations

import errno

TYPE_CHECKING = False  # the filter imports this file: what annotations name would cost it milliseconds
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class CoralError(Exception):
    """Base of every error that is shown to the user without a traceback.

    Args:
        message: what failed and on what; lower case, no full stop.
        hint: what to type next, or an empty string.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(CoralError):
    """The arguments of a command make no sense."""

    exit_code = 2


class NotARepositoryError(CoralError):
    """There is no git repository here, or it has no store yet."""

    exit_code = 10


class LockedError(CoralError):
    """Another process holds the lock that this operation needs."""

    exit_code = 11


class ObjectMissingError(CoralError):
    """An object is neither in the store nor in any remote store that was asked."""

    exit_code = 12


class IntegrityError(CoralError):
    """Stored or received bytes differ from the digest that names them."""

    exit_code = 13


class FormatVersionError(CoralError):
    """The data was written by a newer version of coral-git."""

    exit_code = 14


class RemoteError(CoralError):
    """A remote store or a git remote refused, or could not be reached."""

    exit_code = 15


class StorageFullError(CoralError):
    """There is no space left where something had to be written."""

    exit_code = 16


class PolicyError(CoralError):
    """A limit was exceeded, or the request is unsafe."""

    exit_code = 17


class GitError(CoralError):
    """The git binary failed; the message carries what it said."""

    exit_code = 18


class InvalidManifestError(CoralError):
    """A text has the first line of a manifest, and its rest is not a valid one."""

    exit_code = 19


class ProblemsFound(CoralError):
    """A check ended normally and found problems, which it has listed already."""

    exit_code = 1


class MergeConflictError(CoralError):
    """A merge needs decisions about tensors or files that nobody has made; nothing was merged.

    Args:
        message: what is in conflict.
        conflicts: the names of the tensors that need a decision.
        files: why each file is in conflict, by its path from the root.
        hint: what to do next.

    Example:
        >>> error = MergeConflictError("1 tensor in conflict: 'head'", ["head"])
        >>> error.conflicts
        ('head',)
    """

    exit_code = 1

    def __init__(
        self,
        message: str,
        conflicts: Sequence[str] = (),
        files: Mapping[str, str] | None = None,
        *,
        hint: str = "",
    ) -> None:
        super().__init__(message, hint=hint)
        self.conflicts = tuple(conflicts)
        self.files = dict(files or {})


_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def from_os_error(error: OSError, doing: str) -> CoralError:
    """Translate an operating-system error into the error the user sees.

    Args:
        error: the error that was raised.
        doing: what was attempted and on what, e.g. ``"write 'model.safetensors'"``.

    Returns:
        A ``StorageFullError`` where space ran out, else a plain ``CoralError``.
    """
    reason = (error.strerror or str(error)).lower()
    if error.errno in _FULL:
        return StorageFullError(
            f"cannot {doing}: {reason}", hint="free some space, then run the same command again"
        )
    return CoralError(f"cannot {doing}: {reason}")
