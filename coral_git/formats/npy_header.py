"""The header of a ``.npy`` file: a Python literal, read by a grammar that knows nothing else.

numpy evaluates the literal. This one accepts only what numpy writes: a dictionary of three fields, where a
structured dtype is a list of lists and tuples. Nothing is evaluated, nothing recurses, no expression
backtracks. The format is in ``numpy/lib/_format_impl.py``.
"""

from __future__ import annotations

import re
from math import prod
from typing import NamedTuple

from coral_git.formats.base import NotThisFormat
from coral_git.formats.npy import MAGIC
from coral_git.limits import KIB, Limits
from coral_git.types import DTYPES, DType

MAX_HEADER = 64 * KIB
"""A longer header is not read; numpy itself trusts 10,000 bytes."""

_LENGTH_BYTES = {b"\x01\x00": 2, b"\x02\x00": 4, b"\x03\x00": 4}
_TOKEN = re.compile(
    r"[ \t\n]*+(?:"
    r"'((?:[^'\\\n]++|\\.)*+)'|"
    r'"((?:[^"\\\n]++|\\.)*+)"|'
    r"(0|[1-9][0-9]{0,18}+)L?|"
    r"(True|False)|"
    r"([][(){},:])|"
    r"(\Z))"
)
_TEXT, _OTHER_TEXT, _NUMBER, _TRUTH, _SIGN, _END = range(1, 7)
_CODE = re.compile(r"([<>|])([a-zA-Z?])([0-9]{0,9}+)(?:\[[0-9a-zA-Z/]{1,32}\])?")
_NAMES = {"i": "I", "u": "U", "f": "F", "c": "C", "m": "I", "M": "I"}
_UNITS = {"U": 4, "S": 1, "V": 1}
_TRUTH_CODES = ("b1", "?")
_FOREIGN = ("V1", "f1", "V2")
"""What the float8 types and bfloat16 of other packages are in a header."""

_LARGEST = 1 << 63


class NpyHeader(NamedTuple):
    """What a header says.

    Attributes:
        dtype: of the values; U8 where they are none that coral-git has a name for.
        item: bytes of such a value, of which U8 makes a dimension of its own; None for all others.
        fortran: whether the first index runs fastest.
        shape: as numpy has it.
        length: of the header with everything before it, in bytes.
    """

    dtype: DType
    item: int | None
    fortran: bool
    shape: tuple[int, ...]
    length: int


def header_length(head: bytes) -> int:
    """Where the values begin, from the first bytes of a file.

    Raises:
        NotThisFormat: it does not begin as such a file, or has a header of a length that nobody writes.
    """
    width = _LENGTH_BYTES.get(head[6:8])
    if not head.startswith(MAGIC) or width is None or len(head) < 8 + width:
        raise NotThisFormat("the file does not begin as an array")
    length = int.from_bytes(head[8 : 8 + width], "little")
    if length > MAX_HEADER:
        raise NotThisFormat("the header is too long")
    return 8 + width + length


def parse_header(head: bytes, limits: Limits) -> NpyHeader:
    """What the header says.

    Args:
        head: exactly the bytes before the values.
        limits: caps on the shape.

    Raises:
        NotThisFormat: it is no such header, or the values are Python objects.
    """
    start = 8 + _LENGTH_BYTES[head[6:8]]
    try:
        text = head[start:].decode("utf-8" if head[6] == 3 else "latin-1")
    except UnicodeDecodeError as error:
        raise NotThisFormat("the header is not UTF-8") from error
    tokens = _Tokens(text)
    fields: set[str] = set()
    dtype, item, fortran = DTYPES["U8"], None, False
    shape: tuple[int, ...] = ()
    tokens.sign("{")
    while tokens.peek() != "}":
        key = tokens.text()
        if key in fields:
            raise NotThisFormat("the header has a field twice")
        fields.add(key)
        tokens.sign(":")
        if key == "descr":
            dtype, item = _descr(tokens)
        elif key == "fortran_order":
            fortran = tokens.truth()
        elif key == "shape":
            shape = tokens.shape(limits.rank)
        else:
            raise NotThisFormat("the header has an unknown field")
        tokens.comma("}")
    tokens.sign("}")
    tokens.end()
    if len(fields) != 3:
        raise NotThisFormat("the header lacks a field")
    return NpyHeader(dtype, item, fortran, shape, len(head))


class _Tokens:
    """The words of a header, one after the other."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._next: re.Match[str]
        self._advance(0)

    def _advance(self, position: int) -> None:
        found = _TOKEN.match(self._text, position)
        if found is None:
            raise NotThisFormat("the header is malformed")
        self._next = found

    def _take(self, *kinds: int) -> str:
        found = self._next
        if found.lastindex not in kinds:
            raise NotThisFormat("the header is malformed")
        self._advance(found.end())
        return found[found.lastindex]

    def peek(self) -> str:
        """The sign that comes next, or nothing where none does."""
        return self._next[_SIGN] or ""

    def sign(self, wanted: str) -> None:
        if self._take(_SIGN) != wanted:
            raise NotThisFormat("the header is malformed")

    def comma(self, closing: str) -> None:
        """A comma, which may be missing before ``closing``."""
        if self.peek() != closing:
            self.sign(",")

    def text(self) -> str:
        """A string as it is spelled; escapes are left alone."""
        return self._take(_TEXT, _OTHER_TEXT)

    def next_is_text(self) -> bool:
        return self._next.lastindex in (_TEXT, _OTHER_TEXT)

    def next_is_number(self) -> bool:
        return self._next.lastindex == _NUMBER

    def truth(self) -> bool:
        return self._take(_TRUTH) == "True"

    def number(self) -> int:
        return int(self._take(_NUMBER))

    def end(self) -> None:
        self._take(_END)

    def shape(self, rank: int) -> tuple[int, ...]:
        """A tuple of numbers."""
        self.sign("(")
        numbers: list[int] = []
        while self.peek() != ")":
            if len(numbers) == rank:
                raise NotThisFormat("the array has too many dimensions")
            numbers.append(self.number())
            if len(numbers) == 1:
                self.sign(",")
            else:
                self.comma(")")
        self.sign(")")
        return tuple(numbers)


def _descr(tokens: _Tokens) -> tuple[DType, int | None]:
    """The dtype of the values, and their bytes if it is none that manifests can name."""
    if not tokens.next_is_text():
        return DTYPES["U8"], _record_bytes(tokens)
    return _scalar(tokens.text())


def _scalar(code: str) -> tuple[DType, int | None]:
    found = _CODE.fullmatch(code)
    if found is None:
        raise NotThisFormat("the dtype is unknown")
    order, kind, digits = found.groups()
    if kind + digits in _TRUTH_CODES:
        return DTYPES["BOOL"], None
    size = int(digits) if digits else -1
    if f"{kind}{size}" in _FOREIGN and order != ">":
        return DTYPES[f"U{8 * size}"], None
    if kind in _UNITS and size >= 0:
        return DTYPES["U8"], _UNITS[kind] * size
    if kind not in _NAMES or size < 1 or (order == "|" and size > 1):
        raise NotThisFormat("the values are objects, or of an unknown dtype")
    name = f"{_NAMES[kind]}{8 * size}" + ("_BE" if order == ">" and size > 1 else "")
    return (DTYPES[name], None) if name in DTYPES else (DTYPES["U8"], size)


def _record_bytes(tokens: _Tokens) -> int:
    """Bytes of a structured value: a list of (name, dtype[, shape]), where the dtype may be such a list."""
    totals = [0]
    tokens.sign("[")
    while True:
        if tokens.peek() == "]":
            tokens.sign("]")
            size = totals.pop()
            if not totals:
                return size
        else:
            _field_name(tokens)
            if not tokens.next_is_text():
                tokens.sign("[")
                totals.append(0)
                continue
            dtype, item = _scalar(tokens.text())
            size = dtype.bits // 8 if item is None else item
        totals[-1] += size * _repeats(tokens)
        if totals[-1] >= _LARGEST:
            raise NotThisFormat("the values are impossibly long")
        tokens.sign(")")
        tokens.comma("]")


def _field_name(tokens: _Tokens) -> None:
    """The beginning of a field: its name, or its title and its name."""
    tokens.sign("(")
    if tokens.peek() == "(":
        tokens.sign("(")
        tokens.text()
        tokens.sign(",")
        tokens.text()
        tokens.sign(")")
    else:
        tokens.text()
    tokens.sign(",")


def _repeats(tokens: _Tokens) -> int:
    """How often a field repeats: the product of its shape, where it has one."""
    tokens.comma(")")
    if tokens.peek() == ")":
        return 1
    return tokens.number() if tokens.next_is_number() else prod(tokens.shape(64))
