"""What a pickle says, read without doing it: opcodes become inert values, and nothing is imported or called.

The opcodes are those of Python's ``pickletools`` for the protocols 2 to 5, without the ones that only
protocols 0 and 1 write, extension codes and out-of-band buffers. Numbers, strings, lists and tuples are
themselves; dicts and whatever would have been made by a call are ``Made``; names of classes and functions are
``Global``. Bytes, and strings and numbers that are too long for a name or a shape, are left out: None.

Memory grows with the number of opcodes, which is capped. A value may hold itself.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from coral_git.formats.base import NotThisFormat
from coral_git.limits import Limits

MAX_STRING = 1 << 12
MAX_INTEGER = 16
"""Bytes of a string and of an integer that are kept."""


class CutShortError(NotThisFormat):
    """The bytes end before the pickle does."""


class Global:
    """The name of a class or a function, e.g. ``torch`` and ``FloatStorage``."""

    __slots__ = ("module", "name")

    def __init__(self, module: str, name: str) -> None:
        self.module = module
        self.name = name


class Persistent:
    """Something outside the pickle, by what the program that wrote it calls it."""

    __slots__ = ("id",)

    def __init__(self, persistent_id: object) -> None:
        self.id = persistent_id


class Made:
    """What a call would have made, and what would have been done to it.

    Attributes:
        maker: what would have been called; None for a plain dict.
        arguments: with what; a tuple, unless the pickle is odd.
        items: keys and values in turn, as they would have been set; an appended value has None for a key.
        state: what would have become its attributes, mostly a dict.
    """

    __slots__ = ("arguments", "items", "maker", "state")

    def __init__(self, maker: object, arguments: object) -> None:
        self.maker = maker
        self.arguments = arguments
        self.items: list[object] | None = None
        self.state: object = None

    def extend(self, items: list[object]) -> None:
        """Set items, given as keys and values in turn."""
        if self.items is None:
            self.items = items
        else:
            self.items.extend(items)


def read_pickle(data: bytes, position: int, limits: Limits) -> tuple[object, int]:
    """The value of the pickle that begins at ``position``, and the position behind it.

    Raises:
        CutShortError: the data end before the pickle does.
        NotThisFormat: it is no pickle, or has opcodes that are not understood, or too many of them.
    """
    if data[position : position + 1] not in (b"\x80", b""):
        raise NotThisFormat("a pickle has no protocol number")
    machine = _Machine(data, position)
    try:
        return machine.run(limits.pickle_opcodes), machine.position
    except (IndexError, KeyError, struct.error, UnicodeDecodeError) as error:
        raise NotThisFormat("a pickle is malformed") from error


class _Machine:
    """The stack, the marks in it, and the memo."""

    __slots__ = ("data", "marks", "memo", "position", "stack")

    def __init__(self, data: bytes, position: int) -> None:
        self.data = data
        self.position = position
        self.stack: list[object] = []
        self.marks: list[int] = []
        self.memo: dict[int, object] = {}

    def run(self, most: int) -> object:
        """Read up to ``most`` opcodes; what is on top of the stack at the one that ends the pickle."""
        data = self.data
        find = _HANDLERS.get
        for _ in range(most):
            if self.position >= len(data):
                raise CutShortError("a pickle is cut short")
            code = data[self.position]
            self.position += 1
            handle = find(code)
            if handle is not None:
                handle(self)
            elif code == _STOP:
                return self.stack.pop()
            else:
                raise NotThisFormat("a pickle has an unknown opcode")
        raise NotThisFormat("a pickle has too many opcodes")

    def skip(self, length: int) -> int:
        """Go on by ``length`` bytes; where they began."""
        start = self.position
        if length > len(self.data) - start:
            raise CutShortError("a pickle is cut short")
        self.position = start + length
        return start

    def number(self, length: int) -> int:
        """An unsigned number of ``length`` bytes."""
        start = self.position
        self.position = end = (
            start + length
        )  # as in ``skip``, without the call: half of all opcodes come here
        if end > len(self.data):
            raise CutShortError("a pickle is cut short")
        return int.from_bytes(self.data[start:end], "little")

    def line(self) -> str:
        """Text up to the next line feed."""
        start = self.position
        end = self.data.find(b"\n", start, start + MAX_STRING)
        if end < 0:
            enough = len(self.data) - start >= MAX_STRING
            raise NotThisFormat("a name is too long") if enough else CutShortError("a pickle is cut short")
        self.position = end + 1
        return self.data[start:end].decode()

    def since_mark(self) -> list[object]:
        """Take what lies above the last mark off the stack."""
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items


_Handler = Callable[[_Machine], object]
_STOP = ord(".")


def _skipped(width: int) -> _Handler:
    """For opcodes whose argument of ``width`` bytes matters to nobody here."""
    return lambda machine: machine.skip(width)


def _constant(value: object) -> _Handler:
    return lambda machine: machine.stack.append(value)


def _unpacked(layout: str) -> _Handler:
    """For numbers."""
    number = struct.Struct(layout)

    def handle(machine: _Machine) -> None:
        start = machine.skip(number.size)
        machine.stack.append(number.unpack_from(machine.data, start)[0])

    return handle


def _long(width: int) -> _Handler:
    """For integers whose length comes first, in ``width`` bytes."""

    def handle(machine: _Machine) -> None:
        length = machine.number(width)
        start = machine.skip(length)
        raw = machine.data[start : start + min(length, MAX_INTEGER)]
        machine.stack.append(int.from_bytes(raw, "little", signed=True) if length <= MAX_INTEGER else None)

    return handle


def _string(width: int, encoding: str) -> _Handler:
    """For strings whose length comes first, in ``width`` bytes."""

    def handle(machine: _Machine) -> None:
        length = machine.number(width)
        start = machine.skip(length)
        kept = length <= MAX_STRING
        text = machine.data[start : start + length].decode(encoding, "replace") if kept else None
        machine.stack.append(text)

    return handle


def _bytes(width: int) -> _Handler:
    """For bytes whose length comes first, in ``width`` bytes."""

    def handle(machine: _Machine) -> None:
        machine.skip(machine.number(width))
        machine.stack.append(None)

    return handle


def _recall(width: int) -> _Handler:
    return lambda machine: machine.stack.append(machine.memo[machine.number(width)])


def _remember(width: int) -> _Handler:
    def handle(machine: _Machine) -> None:
        machine.memo[machine.number(width)] = machine.stack[-1]

    return handle


def _memoize(machine: _Machine) -> None:
    machine.memo[len(machine.memo)] = machine.stack[-1]


def _mark(machine: _Machine) -> None:
    machine.marks.append(len(machine.stack))


def _last(count: int) -> _Handler:
    """For tuples of the last few values."""

    def handle(machine: _Machine) -> None:
        stack = machine.stack
        if len(stack) < count:
            raise IndexError
        stack[-count:] = [tuple(stack[-count:])]

    return handle


def _dict(machine: _Machine) -> None:
    made = Made(None, ())
    made.extend(machine.since_mark())
    machine.stack.append(made)


def _append(machine: _Machine) -> None:
    _add(machine, [machine.stack.pop()])


def _add(machine: _Machine, values: list[object]) -> None:
    target = machine.stack[-1]
    if isinstance(target, list):
        target.extend(values)
    elif isinstance(target, Made):
        target.extend([item for value in values for item in (None, value)])
    else:
        raise NotThisFormat("a pickle appends to what is no list")


def _set_item(machine: _Machine) -> None:
    value = machine.stack.pop()
    _set(machine, [machine.stack.pop(), value])


def _set(machine: _Machine, items: list[object]) -> None:
    target = machine.stack[-1]
    if not isinstance(target, Made) or len(items) % 2:
        raise NotThisFormat("a pickle sets items of what is no dict")
    target.extend(items)


def _global(machine: _Machine) -> None:
    module = machine.line()
    machine.stack.append(Global(module, machine.line()))


def _stack_global(machine: _Machine) -> None:
    name, module = machine.stack.pop(), machine.stack.pop()
    if not isinstance(module, str) or not isinstance(name, str):
        raise NotThisFormat("a name in a pickle is no text")
    machine.stack.append(Global(module, name))


def _reduce(machine: _Machine) -> None:
    arguments = machine.stack.pop()
    machine.stack.append(Made(machine.stack.pop(), arguments))


def _new_with_keywords(machine: _Machine) -> None:
    machine.stack.pop()
    _reduce(machine)


def _object(machine: _Machine) -> None:
    maker, *arguments = machine.since_mark() or [None]
    machine.stack.append(Made(maker, tuple(arguments)))


def _build(machine: _Machine) -> None:
    state = machine.stack.pop()
    target = machine.stack[-1]
    if isinstance(target, Made):
        target.state = state


def _frozen_set(machine: _Machine) -> None:
    machine.stack.append(machine.since_mark())


def _empty_list(machine: _Machine) -> None:
    machine.stack.append([])


_HANDLERS: dict[int, _Handler] = {
    ord(code): handle
    for code, handle in (
        ("\x80", _skipped(1)),  # PROTO
        ("\x95", _skipped(8)),  # FRAME
        ("N", _constant(None)),
        ("\x88", _constant(True)),
        ("\x89", _constant(False)),
        ("J", _unpacked("<i")),
        ("K", lambda machine: machine.stack.append(machine.number(1))),
        ("M", lambda machine: machine.stack.append(machine.number(2))),
        ("G", _unpacked(">d")),
        ("\x8a", _long(1)),
        ("\x8b", _long(4)),
        ("U", _string(1, "latin-1")),
        ("T", _string(4, "latin-1")),
        ("X", _string(4, "utf-8")),
        ("\x8c", _string(1, "utf-8")),
        ("\x8d", _string(8, "utf-8")),
        ("C", _bytes(1)),
        ("B", _bytes(4)),
        ("\x8e", _bytes(8)),
        ("\x96", _bytes(8)),  # a bytearray
        ("h", _recall(1)),
        ("j", _recall(4)),
        ("q", _remember(1)),
        ("r", _remember(4)),
        ("\x94", _memoize),
        ("(", _mark),
        ("0", lambda machine: machine.stack.pop()),
        ("1", lambda machine: machine.since_mark()),
        ("2", lambda machine: machine.stack.append(machine.stack[-1])),
        (")", _constant(())),
        ("\x85", _last(1)),
        ("\x86", _last(2)),
        ("\x87", _last(3)),
        ("t", lambda machine: machine.stack.append(tuple(machine.since_mark()))),
        ("]", _empty_list),
        ("\x8f", _empty_list),  # a set
        ("l", _frozen_set),
        ("\x91", _frozen_set),
        ("a", _append),
        ("e", lambda machine: _add(machine, machine.since_mark())),
        ("\x90", lambda machine: _add(machine, machine.since_mark())),
        ("}", lambda machine: machine.stack.append(Made(None, ()))),
        ("d", _dict),
        ("s", _set_item),
        ("u", lambda machine: _set(machine, machine.since_mark())),
        ("c", _global),
        ("\x93", _stack_global),
        ("R", _reduce),
        ("\x81", _reduce),
        ("\x92", _new_with_keywords),
        ("o", _object),
        ("b", _build),
        ("Q", lambda machine: machine.stack.append(Persistent(machine.stack.pop()))),
    )
}
