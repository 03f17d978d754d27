"""Text that came from elsewhere, made fit for a terminal."""

from __future__ import annotations

import re

from coral_git.errors import CoralError, RemoteError, StorageFullError, from_os_error

_SECRET = re.compile(r"(?<=://)([^/@\s:]*):[^/@\s]*@")
_LONGEST = 2000


def escape(text: str) -> str:
    """The text with every character that does not print written as an escape, and cut when it is long."""
    cut = text if len(text) <= _LONGEST else text[:_LONGEST] + "…"
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in cut)


def escape_lines(text: str) -> str:
    """Like :func:`escape`, with the lines joined by ``; ``."""
    return "; ".join(escape(line.strip()) for line in text.splitlines() if line.strip())


def redact(url: str) -> str:
    """A URL without its password, fit to be printed."""
    return escape(_SECRET.sub(r"\1@", url))


def remote_os_error(error: OSError, doing: str) -> CoralError:
    """Translate an error of the operating system that a remote store on a file system met.

    Args:
        error: the error that was raised.
        doing: what was attempted and on what.
    """
    translated = from_os_error(error, doing)
    if isinstance(translated, StorageFullError):
        return translated
    return RemoteError(translated.message)
