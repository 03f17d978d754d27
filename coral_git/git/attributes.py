"""Which files coral-git handles: reading and editing ``.gitattributes``.

Editing keeps everything it does not have to change, byte for byte: order, comments, foreign attributes,
CRLF line ends, a byte order mark, lines git would reject. Lines are understood as git's ``attr.c`` does.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from coral_git import fsops
from coral_git.errors import GitError, PolicyError, UsageError, from_os_error
from coral_git.git.command import Git

ATTRIBUTES = (b"filter=coral", b"diff=coral", b"merge=coral", b"-text")
"""What a tracked pattern is given, in the order in which it is written."""

FILE_NAME = ".gitattributes"

_BLANK = b" \t\r\n"
_BOM = b"\xef\xbb\xbf"
_MACRO = b"[attr]"
_LINE_LIMIT = 2048  # git ignores longer lines
_FILTER = b"filter"
_TEXT = b"text"
_MERGE = b"merge="
_NAMES = (_FILTER, b"diff", b"merge", _TEXT)
_ESCAPES = {b"a": 7, b"b": 8, b"t": 9, b"n": 10, b"v": 11, b"f": 12, b"r": 13, b'"': 34, b"\\": 92}
_QUOTED = re.compile(rb'"((?:[^"\\]|\\[abtnvfr"\\]|\\[0-3][0-7][0-7])*)"', re.DOTALL)
_ESCAPE = re.compile(rb"\\([0-3][0-7][0-7]|.)", re.DOTALL)
_TOKEN = re.compile(rb"([ \t\r\n]*)([^ \t\r\n]+)")
_NEEDS_QUOTES = re.compile(rb'[\x00-\x20\x7f]|^["#]')
_TO_ESCAPE = re.compile(rb'[\x00-\x1f\x7f"\\]')
_GLOB = re.compile(rb"[*?\[\\]")


class TrackedPattern(NamedTuple):
    """A pattern that has ``filter=coral``.

    Attributes:
        pattern: the pattern, unquoted.
        file: path of the file it stands in.
        line: number of the line, from 1.
    """

    pattern: bytes
    file: str
    line: int


class _Line(NamedTuple):
    """A line that gives attributes to a pattern.

    Attributes:
        head: everything before the first attribute: indentation and the pattern as written.
        pattern: the pattern, unquoted.
        tokens: the attributes, each with the blanks before it.
        tail: blanks and line end after the last attribute.
    """

    head: bytes
    pattern: bytes
    tokens: tuple[tuple[bytes, bytes], ...]
    tail: bytes

    @property
    def is_tracked(self) -> bool:
        """Whether the line gives ``filter=coral``; of several values the last one counts."""
        return self.values().get(_FILTER) == ATTRIBUTES[0]

    def values(self) -> dict[bytes, bytes]:
        """Attribute name to the text that sets it."""
        return {_attribute_name(token): token for _, token in self.tokens}

    def without(self, names: Iterable[bytes]) -> _Line:
        """The line without any mention of these attributes."""
        gone = frozenset(names)
        return self._replace(
            tokens=tuple(pair for pair in self.tokens if _attribute_name(pair[1]) not in gone)
        )

    def with_attributes(self, attributes: Iterable[bytes]) -> _Line:
        """The line with these attributes at its end."""
        return self._replace(tokens=(*self.tokens, *((b" ", attribute) for attribute in attributes)))

    def render(self) -> bytes:
        """The bytes of the line."""
        return self.head + b"".join(blank + token for blank, token in self.tokens) + self.tail


def track(text: bytes, pattern: bytes, merge: bytes = b"") -> bytes:
    """Give the attributes of coral-git to a pattern.

    The last line with an equal pattern is completed in place (attributes that the user chose beside
    ``filter=coral`` are kept; those of another filter are replaced), else a line is added at the end.

    Args:
        text: the content of an attributes file.
        pattern: the pattern as git is to see it, unquoted.
        merge: the merge driver; empty to leave one that is there, and to take ``coral`` where there is none.

    Raises:
        UsageError: git would ignore a line with this pattern.
    """
    quoted = quote_pattern(pattern)
    lines = _split(text)
    for number in reversed(range(len(lines))):
        line = _parse(lines[number], first=number == 0)
        if line is not None and line.pattern == _effective(pattern):
            lines[number] = _with_merge(_complete(line), merge).render()
            if len(lines[number].rstrip(b"\r\n")) >= _LINE_LIMIT:
                raise UsageError(f"the line of {os.fsdecode(pattern)!r} would become too long for git")
            return b"".join(lines)
    end = b"\r\n" if lines and lines[0].endswith(b"\r\n") else b"\n"
    if text and not text.endswith(b"\n"):
        text += end
    wanted = (_merge_attribute(merge) if merge and one.startswith(_MERGE) else one for one in ATTRIBUTES)
    return text + b" ".join((quoted, *wanted)) + end


def untrack(text: bytes, pattern: bytes) -> bytes:
    """Take the attributes of coral-git from a pattern; a line that has no others is removed.

    Only lines with ``filter=coral`` are touched, and only values that coral-git writes.

    Args:
        text: the content of an attributes file.
        pattern: the pattern, unquoted.
    """
    lines = _split(text)
    for number, raw in enumerate(lines):
        line = _parse(raw, first=number == 0)
        if line is None or line.pattern != _effective(pattern) or not line.is_tracked:
            continue
        rest = line._replace(tokens=tuple(pair for pair in line.tokens if not _is_ours(pair[1])))
        bom = _BOM if number == 0 and raw.startswith(_BOM) else b""
        lines[number] = rest.render() if rest.tokens else bom
    return b"".join(lines)


def tracked_lines(text: bytes) -> Iterator[tuple[int, bytes]]:
    """Line numbers, from 1, and patterns of the lines with ``filter=coral``."""
    for number, raw in enumerate(_split(text)):
        line = _parse(raw, first=number == 0)
        if line is not None and line.is_tracked:
            yield number + 1, line.pattern


def quote_pattern(pattern: bytes) -> bytes:
    """The pattern as it must be written in an attributes file.

    A leading ``!`` is escaped (git refuses negative patterns), and C quotes are put around what git would
    take for blanks, a comment or a quote.

    Raises:
        UsageError: a line with this pattern could never match.
    """
    shown = os.fsdecode(pattern)
    if not pattern or b"\0" in pattern:
        raise UsageError(f"bad pattern {shown!r}", hint="git coral track '*.safetensors'")
    if pattern.endswith(b"/"):
        raise UsageError(f"pattern {shown!r} matches no file", hint=f"git coral track '{shown}**'")
    if pattern.startswith(_MACRO):
        raise UsageError(
            f"pattern {shown!r} would define a macro", hint="begin it with another character class"
        )
    quoted = _effective(pattern)
    if _NEEDS_QUOTES.search(quoted):
        quoted = b'"' + _TO_ESCAPE.sub(_escape_byte, quoted) + b'"'
    if len(quoted) + 64 > _LINE_LIMIT:
        raise UsageError(f"pattern of {len(pattern)} bytes is too long for git", hint="use a shorter one")
    return quoted


def literal_pattern(path: bytes) -> bytes:
    """A pattern that matches just one path, relative to the folder of its attributes file."""
    return b"/" + _GLOB.sub(rb"\\\g<0>", path)


def track_in(folder: str, pattern: bytes, merge: bytes = b"") -> bool:
    """Track a pattern in the ``.gitattributes`` of a folder; the return value says whether it changed.

    Raises:
        UsageError: git would ignore a line with this pattern.
        PolicyError: the file is a symbolic link, which git does not read.
        CoralError: the file cannot be read or written.
    """
    path = os.path.join(folder, FILE_NAME)
    old = _read(path)
    return _write(path, old, track(old, pattern, merge))


def untrack_in(folder: str, pattern: bytes) -> bool:
    """Untrack a pattern in the ``.gitattributes`` of a folder; the return value says whether it changed.

    Raises:
        PolicyError: the file is a symbolic link, which git does not read.
        CoralError: the file cannot be read or written.
    """
    path = os.path.join(folder, FILE_NAME)
    old = _read(path)
    return _write(path, old, untrack(old, pattern))


def list_patterns(git: Git, work_tree: str | None, common_dir: str) -> list[TrackedPattern]:
    """The patterns with ``filter=coral`` of every attributes file of a work tree, in the order of the files.

    Those that git tracks or that lie untracked in the work tree, outermost first, then ``info/attributes``.

    Args:
        git: runs in the root of the work tree.
        work_tree: the root of the work tree; None in a bare repository.
        common_dir: the git directory that work trees share.
    """
    files = []
    if work_tree is not None:
        listed = git.run("ls-files", "-z", "--cached", "--others", "--", f":(top,glob)**/{FILE_NAME}")
        names = sorted(
            {name for name in listed.split(b"\0") if name}, key=lambda name: (name.count(b"/"), name)
        )
        files = [os.path.join(work_tree, os.fsdecode(name)) for name in names]
    files.append(os.path.join(common_dir, "info", "attributes"))
    found = []
    for file in files:
        with contextlib.suppress(PolicyError):  # git does not read attributes through a symbolic link
            found += [TrackedPattern(pattern, file, line) for line, pattern in tracked_lines(_read(file))]
    return found


def check_attr(
    git: Git, paths: Iterable[bytes], attribute: str = "filter", cached: bool = False
) -> dict[bytes, bytes]:
    """The value of an attribute for each path, by git itself.

    Args:
        git: runs where the paths are relative to.
        paths: paths; they need not exist.
        attribute: name of the attribute.
        cached: read attributes files from the index only.

    Returns:
        path → value: ``b"coral"``, or ``b"set"``, ``b"unset"``, ``b"unspecified"``.
    """
    wanted = b"".join(path + b"\0" for path in paths)
    if not wanted:
        return {}
    option = ("--cached",) if cached else ()
    answer = git.run("check-attr", *option, "--stdin", "-z", attribute, input=wanted).split(b"\0")
    if len(answer) % 3 != 1:
        raise GitError("git check-attr gave an answer that cannot be understood")
    return dict(zip(answer[0:-1:3], answer[2::3], strict=True))


def _effective(pattern: bytes) -> bytes:
    return b"\\" + pattern if pattern.startswith(b"!") else pattern


def _split(text: bytes) -> list[bytes]:
    """Lines with their ends; only a line feed ends a line."""
    return re.findall(rb"[^\n]*\n|[^\n]+", text)


def _parse(raw: bytes, *, first: bool) -> _Line | None:
    """A line as git understands it; None for a comment, a blank line, a macro and what git rejects."""
    start = len(_BOM) if first and raw.startswith(_BOM) else 0
    start += len(raw[start:]) - len(raw[start:].lstrip(_BLANK))
    if start == len(raw) or raw[start : start + 1] == b"#" or len(raw.rstrip(b"\r\n")) >= _LINE_LIMIT:
        return None
    quoted = _QUOTED.match(raw, start)
    if quoted:
        end, pattern = quoted.end(), _ESCAPE.sub(_unescape, quoted[1])
    else:
        end = next(_TOKEN.finditer(raw, start)).end()
        pattern = raw[start:end]
    if (pattern.startswith(_MACRO) and len(pattern) > len(_MACRO)) or pattern.startswith(b"!"):
        return None
    tokens = [(match[1], match[2]) for match in _TOKEN.finditer(raw, end)]
    used = end + sum(len(blank) + len(token) for blank, token in tokens)
    return _Line(raw[:end], pattern, tuple(tokens), raw[used:])


def _complete(line: _Line) -> _Line:
    """The line with all attributes of coral-git."""
    if not line.is_tracked:
        return line.without(_NAMES).with_attributes(ATTRIBUTES)
    values = line.values()
    if values.get(_TEXT, ATTRIBUTES[-1]) != ATTRIBUTES[-1]:  # converted line ends would break manifests
        line = line.without((_TEXT,))
        del values[_TEXT]
    return line.with_attributes(
        new for name, new in zip(_NAMES, ATTRIBUTES, strict=True) if name not in values
    )


def _with_merge(line: _Line, merge: bytes) -> _Line:
    """The line with another merge driver, in the place of the one it has."""
    if not merge:
        return line
    tokens = (
        (blank, _merge_attribute(merge) if _attribute_name(token) == b"merge" else token)
        for blank, token in line.tokens
    )
    return line._replace(tokens=tuple(tokens))


def _is_ours(token: bytes) -> bool:
    return token in ATTRIBUTES or token.startswith(_MERGE + b"coral-")


def _merge_attribute(driver: bytes) -> bytes:
    return _MERGE + driver


def _attribute_name(token: bytes) -> bytes:
    return token.lstrip(b"-!").partition(b"=")[0]


def _unescape(match: re.Match[bytes]) -> bytes:
    code = match[1]
    return bytes([int(code, 8) if len(code) == 3 else _ESCAPES[code]])


def _escape_byte(match: re.Match[bytes]) -> bytes:
    byte = match[0][0]
    for letter, code in _ESCAPES.items():
        if code == byte:
            return b"\\" + letter
    return b"\\%03o" % byte


def _read(path: str) -> bytes:
    """The content of an attributes file, empty when there is none; never through a symbolic link."""
    try:
        if stat.S_ISLNK(os.lstat(path).st_mode):
            raise PolicyError(
                f"'{path}' is a symbolic link, which git does not read", hint="replace it with a regular file"
            )
        with open(path, "rb") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return b""
    except OSError as error:
        raise from_os_error(error, f"read '{path}'") from error


def _write(path: str, old: bytes, new: bytes) -> bool:
    if new == old:
        return False
    try:
        mode = stat.S_IMODE(os.stat(path).st_mode) if os.path.exists(path) else None
        fsops.replace_file(path, new, mode)
    except OSError as error:
        raise from_os_error(error, f"write '{path}'") from error
    return True
