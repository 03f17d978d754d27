"""The fixed words of a manifest and the smallest pieces of its grammar (``docs/format/manifest.md``)."""

from __future__ import annotations

from coral_git.types import ID_LENGTH, ObjectId

VERSION = 1
PREFIX = b"# coral "
CLAIM = b"# coral 1: neural network weights kept outside git"
FIRST_LINE = CLAIM + b"; to get the file: pip install coral-git && git coral install\n"
"""The first line of every manifest of version 1; it tells people without coral-git what to do."""

CHUNKS = "chunks"
"""The format name of files that are cut by content and have no tensors."""

CHUNKS_FORMAT = "chunks/1"
SCALAR = "scalar"
MAX_NUMBER = (1 << 63) - 1
MAX_TENSORS = 1 << 20
MAX_CHUNKS = 1 << 24
"""Caps on what a manifest may name altogether, so that a short text cannot ask for endless lists."""

_ALLOWED = bytes(range(0x20, 0x7F)) + b"\n"
_MAX_DIGITS = 19
_FORMAT_CHARS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")
_MAX_FORMAT_NAME = 32


class LineError(Exception):
    """A line breaks the grammar. Whoever knows what the lines are of makes it an ``InvalidManifestError``.

    Attributes:
        line: its number, counted from 1; 0 for the text as a whole.
        what: what is wrong with it.
    """

    def __init__(self, line: int, what: str) -> None:
        super().__init__(line, what)
        self.line = line
        self.what = what

    def __str__(self) -> str:
        return f"line {self.line}: {self.what}" if self.line else self.what


def text_lines(text: bytes) -> list[str]:
    """The lines of a text, without their ends.

    Raises:
        LineError: a character is neither printable ASCII nor a line feed, or the last line does not end.
    """
    if text.translate(None, _ALLOWED):
        number_of_line = next(
            n for n, line in enumerate(text.split(b"\n"), 1) if line.translate(None, _ALLOWED)
        )
        raise LineError(number_of_line, "a character that is not printable ASCII")
    if not text:
        return []
    if not text.endswith(b"\n"):
        raise LineError(text.count(b"\n") + 1, "it does not end")
    return text[:-1].decode("ascii").split("\n")


def number(text: str) -> int | None:
    """A canonical decimal number of at most 2^63 - 1: no sign, no leading zero, ASCII digits only."""
    if (
        not (text.isascii() and text.isdecimal())
        or len(text) > _MAX_DIGITS
        or (text[0] == "0" and text != "0")
    ):
        return None
    value = int(text)
    return value if value <= MAX_NUMBER else None


def object_id(text: str) -> ObjectId | None:
    """The id that 64 lower-case hexadecimal digits stand for."""
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        return None
    if len(raw) != ID_LENGTH or raw.hex() != text:
        return None
    return ObjectId(raw)


def is_format(text: str) -> bool:
    """Whether a text is ``<reader>/<version>``."""
    name, slash, version = text.partition("/")
    return (
        bool(slash)
        and 0 < len(name) <= _MAX_FORMAT_NAME
        and _FORMAT_CHARS.issuperset(name)
        and name[0].isalpha()
        and number(version) not in (None, 0)
    )


def is_chunked(format_name: str) -> bool:
    """Whether files of a format have chunks instead of tensors."""
    return format_name.partition("/")[0] == CHUNKS
