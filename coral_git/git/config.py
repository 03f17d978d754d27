"""Git's configuration, read with one call and by git's rules."""

from __future__ import annotations

import os
from collections.abc import Iterator

from coral_git.git.command import Git


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
        """The value of a key, the last one where there are several; None when it is not set."""
        values = self._values.get(_canonical(key))
        return values[-1] if values else None

    def get_all(self, key: str) -> list[str]:
        """Every value of a key, the weakest first."""
        return list(self._values.get(_canonical(key), ()))

    def items(self) -> Iterator[tuple[str, str]]:
        """Each key in git's canonical spelling with its value in force, in the order of the files."""
        for key, values in self._values.items():
            yield key, values[-1]


def read_config(git: Git) -> GitConfig:
    """Ask git for its whole configuration.

    Raises:
        GitError: a configuration file cannot be read.
    """
    return GitConfig(git.run("config", "--list", "-z"))


def _canonical(key: str) -> str:
    section, dot, rest = key.partition(".")
    subsection, inner_dot, name = rest.rpartition(".")
    return f"{section.lower()}{dot}{subsection}{inner_dot}{name.lower()}"
