"""Git's configuration, read with one call and by git's rules, and written in one scope."""

from __future__ import annotations

import os
from collections.abc import Iterator

from coral_git.errors import UsageError
from coral_git.git.command import Git

_TRUE = frozenset({"true", "yes", "on"})
_FALSE = frozenset({"false", "no", "off", ""})
_UNITS = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_SCOPES = frozenset({"system", "global", "local", "worktree"})


class GitConfig:
    """All values in force. Sections and keys are compared without case, subsections with it.

    Args:
        listing: what ``git config --list -z`` prints.
    """

    def __init__(self, listing: bytes) -> None:
        self._values: dict[str, list[str]] = {}
        for entry in listing.split(b"\0"):
            if entry:
                key, newline, value = os.fsdecode(entry).partition("\n")
                self._values.setdefault(_canonical(key), []).append(value if newline else "true")

    def get(self, key: str) -> str | None:
        """The value of a key, the last one where there are several; None when it is not set.

        A key without ``=`` has the value ``"true"``.
        """
        values = self._values.get(_canonical(key))
        return values[-1] if values else None

    def get_all(self, key: str) -> list[str]:
        """Every value of a key, the weakest first."""
        return list(self._values.get(_canonical(key), ()))

    def get_bool(self, key: str, default: bool = False) -> bool:
        """A value as git understands booleans.

        Raises:
            UsageError: it is none.
        """
        value = self.get(key)
        if value is None:
            return default
        if value.lower() in _TRUE:
            return True
        return value.lower() not in _FALSE and self.get_int(key, 0) != 0

    def get_int(self, key: str, default: int) -> int:
        """A value as git understands numbers: ``k``, ``m`` and ``g`` stand for powers of 1024.

        Raises:
            UsageError: it is none.
        """
        value = self.get(key)
        if value is None:
            return default
        factor = _UNITS.get(value[-1:].lower(), 1)
        digits = value[:-1] if factor > 1 else value
        if not (digits.isascii() and digits.removeprefix("-").isdigit()):
            raise UsageError(
                f"bad value {value!r} for '{key}' in git's configuration", hint=f"git config {key} 0"
            )
        return int(digits) * factor

    def items(self) -> Iterator[tuple[str, str]]:
        """Each key in git's canonical spelling with its value in force, in the order of the files."""
        for key, values in self._values.items():
            yield key, values[-1]


def read_config(git: Git, *, file: str | None = None, blob: str | None = None) -> GitConfig:
    """Ask git for its whole configuration, or for what one file or blob says, without what it includes.

    Raises:
        GitError: a configuration file cannot be read.
    """
    place: list[str] = []
    if file is not None:
        place = ["--no-includes", "--file", file]
    elif blob is not None:
        place = ["--no-includes", "--blob", blob]  # or git would follow what somebody else wrote
    return GitConfig(git.run("config", *place, "--list", "-z"))


def set_value(git: Git, key: str, value: str, scope: str = "local") -> None:
    """Give a key one value in a scope (``local``, ``global``, ``system``, ``worktree``).

    Raises:
        UsageError: there is no such scope.
        GitError: git cannot write the configuration.
    """
    git.run("config", _option(scope), "--replace-all", key, value)


def unset_value(git: Git, key: str, scope: str = "local") -> bool:
    """Remove every value of a key from a scope; the return value says whether there was one.

    Raises:
        UsageError: there is no such scope.
        GitError: git cannot write the configuration.
    """
    if not git.succeeds("config", _option(scope), "--get-all", key):
        return False
    git.run("config", _option(scope), "--unset-all", key)
    return True


def _option(scope: str) -> str:
    if scope not in _SCOPES:
        raise UsageError(f"no scope '{scope}' in git's configuration", hint="--local, --global or --system")
    return f"--{scope}"


def _canonical(key: str) -> str:
    section, dot, rest = key.partition(".")
    subsection, inner_dot, name = rest.rpartition(".")
    return f"{section.lower()}{dot}{subsection}{inner_dot}{name.lower()}"
