"""The JSON header of a safetensors file, read by a grammar that knows nothing else.

A general JSON parser builds whatever the header says: a hundred megabytes of nested or empty lists become
gigabytes of objects. This one accepts only the three shapes that occur (a tensor, the metadata, their strings
and numbers), so memory grows with the number of tensors, nothing recurses, and no expression backtracks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from coral_git.formats.base import NotThisFormat
from coral_git.limits import Limits

_WS = r"[ \t\n\r]*+"
_CHARS = r'(?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*+'
_STRING = rf'"({_CHARS})"'
_SKIPPED = f'"{_CHARS}"'
_PAIR = rf"{_WS}{_SKIPPED}{_WS}:{_WS}{_SKIPPED}{_WS}"
_KEY = re.compile(rf"{_WS}{_STRING}{_WS}:{_WS}\{{")
_OPEN = re.compile(rf"{_WS}\{{")
_EMPTY = re.compile(rf"{_WS}\}}")
_NEXT = re.compile(rf"{_WS}([,}}])")
_METADATA_BODY = re.compile(rf"(?:{_PAIR},)*+{_PAIR}\}}")
_VALUE = r'(?:"([A-Z0-9_a-z]{1,32})"|\[([0-9, \t\n\r]*+)\])'
_FIELD = re.compile(rf'{_WS}"(dtype|shape|data_offsets)"{_WS}:{_WS}{_VALUE}{_WS}([,}}])')
_INT = r"(?:0|[1-9][0-9]{0,18}+)"
_USUAL = re.compile(
    rf'"dtype":"([A-Z0-9_a-z]{{1,32}})","shape":\[((?:{_INT}(?:,{_INT})*+)?+)\],'
    rf'"data_offsets":\[({_INT}),({_INT})\]\}}'
)
_ESCAPE = re.compile(r'\\(?:(["\\/bfnrt])|u([0-9a-fA-F]{4}))')
_PLAIN = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_METADATA = "__metadata__"
_MAX_DIGITS = 19


class HeaderEntry(NamedTuple):
    """What the header says about one tensor; offsets count from the end of the header."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def scan(header: bytes, limits: Limits) -> Iterator[HeaderEntry]:
    """The tensors of a header, in its order.

    Raises:
        NotThisFormat: it is not UTF-8, not exactly such a header, or names something twice.
    """
    try:
        text = header.decode("utf-8")
    except UnicodeDecodeError as error:
        raise NotThisFormat("the header is not UTF-8") from error
    position = _match(_OPEN, text, 0).end()
    names: set[str] = set()
    empty = _EMPTY.match(text, position)
    more = empty is None
    if empty is not None:
        position = empty.end()
    while more:
        key = _match(_KEY, text, position)
        name = _unescape(key[1], limits)
        if name in names:
            raise NotThisFormat("the header names something twice")
        names.add(name)
        if name == _METADATA:
            position = _skip_metadata(text, key.end())
        else:
            entry, position = _entry(name, text, key.end(), limits)
            yield entry
        end = _match(_NEXT, text, position)
        position = end.end()
        more = end[1] == ","
    if text[position:].strip(" \t\n\r"):
        raise NotThisFormat("something follows the header")


def _entry(name: str, text: str, position: int, limits: Limits) -> tuple[HeaderEntry, int]:
    """One tensor, from behind its opening brace, and where it ends."""
    usual = _USUAL.match(text, position)  # as the library writes it: one step instead of three
    if usual is not None:
        dtype, digits, begin, end = usual.groups()
        if digits.count(",") >= limits.rank:
            raise NotThisFormat("a tensor has too many dimensions")
        shape = tuple(map(int, digits.split(","))) if digits else ()
        return HeaderEntry(name, dtype, shape, int(begin), int(end)), usual.end()
    return _unusual_entry(name, text, position, limits)


def _unusual_entry(name: str, text: str, position: int, limits: Limits) -> tuple[HeaderEntry, int]:
    """The same with white space and in any order."""
    dtype = ""
    numbers: dict[str, tuple[int, ...]] = {}
    for last in (False, False, True):
        field = _match(_FIELD, text, position)
        position = field.end()
        key, word, digits, end = field.groups()
        if (end == "}") != last:
            raise NotThisFormat("a tensor has too many or too few fields")
        if key == "dtype" and word is not None and not dtype:
            dtype = word
        elif key != "dtype" and digits is not None and key not in numbers:
            numbers[key] = _numbers(digits, limits.rank)
        else:
            raise NotThisFormat("a tensor has a field of the wrong kind, or twice")
    offsets = numbers["data_offsets"]
    if len(offsets) != 2:
        raise NotThisFormat("a tensor does not have two offsets")
    return HeaderEntry(name, dtype, numbers["shape"], *offsets), position


def _numbers(text: str, most: int) -> tuple[int, ...]:
    if not text.strip(" \t\n\r"):
        return ()
    if text.count(",") >= max(most, 2):
        raise NotThisFormat("a tensor has too many dimensions")
    words = [word.strip(" \t\n\r") for word in text.split(",")]
    for word in words:
        if not word.isdecimal() or len(word) > _MAX_DIGITS or (word[0] == "0" and word != "0"):
            raise NotThisFormat("a number of a tensor is malformed")
    return tuple(map(int, words))


def _skip_metadata(text: str, position: int) -> int:
    """Where the metadata ends: any strings by any strings. What they say is nobody's business here."""
    empty = _EMPTY.match(text, position)
    return (empty or _match(_METADATA_BODY, text, position)).end()


def _unescape(raw: str, limits: Limits) -> str:
    """The name that a JSON string stands for."""
    if len(raw) > 6 * limits.name_bytes:
        raise NotThisFormat("a tensor has a long name")
    if "\\" not in raw:
        return raw
    name = _ESCAPE.sub(lambda m: _PLAIN.get(m[1], m[1]) if m[1] else chr(int(m[2], 16)), raw)
    try:
        return name.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
    except UnicodeDecodeError as error:
        raise NotThisFormat("a name has half a character") from error


def _match(pattern: re.Pattern[str], text: str, position: int) -> re.Match[str]:
    found = pattern.match(text, position)
    if found is None:
        raise NotThisFormat("the header is malformed")
    return found
