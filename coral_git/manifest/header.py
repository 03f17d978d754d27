"""The header lines of a manifest."""

from __future__ import annotations

from coral_git.limits import Limits
from coral_git.manifest.body import read_ids
from coral_git.manifest.parts import rest_part_count
from coral_git.manifest.text import MAX_TENSORS, LineError, number, object_id
from coral_git.types import ObjectId


class HeaderLines:
    """Takes the lines of the header one by one."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines
        self.taken = 1

    def has(self, word: str) -> bool:
        """Whether the next line begins with a word."""
        return self.taken < len(self.lines) and self.lines[self.taken].startswith(word + " ")

    def take(self, word: str) -> str:
        """What follows the word on the next line."""
        if not self.has(word):
            raise LineError(self.taken + 1, f"a '{word}' line is wanted here")
        self.taken += 1
        return self.lines[self.taken - 1][len(word) + 1 :]

    def take_number(self, word: str) -> int:
        """The number that follows the word on the next line."""
        value = number(self.take(word))
        if value is None:
            raise LineError(self.taken, f"'{word}' is a canonical number below 2^63")
        return value

    def take_digest(self, word: str) -> bytes:
        """The digest that follows the word on the next line."""
        value = object_id(self.take(word))
        if value is None:
            raise LineError(self.taken, f"'{word}' is 64 lower-case hexadecimal digits")
        return value


def read_rest(header: HeaderLines, size: int, limits: Limits) -> tuple[int, tuple[ObjectId, ...]]:
    """Length and ids of the bytes that belong to no tensor.

    Raises:
        LineError: the line is malformed.
    """
    first, *words = header.take("rest").split(" ")
    length = number(first)
    if not length or length > size:
        raise LineError(header.taken, "the rest is a canonical number, above zero and at most the size")
    if len(words) != rest_part_count(length, limits):
        raise LineError(header.taken, f"a rest of {length} bytes does not have {len(words)} ids")
    return length, read_ids(words, header.taken)


def read_gaps(header: HeaderLines, rest_length: int) -> tuple[int, ...]:
    """How much of the rest lies in each gap.

    Raises:
        LineError: the line is malformed, or not the one way to write its numbers.
    """
    gaps: list[int] = []
    last = None
    for word in header.take("gaps").split(" "):
        times, star, value = word.rpartition("*")
        count = number(times) if star else 1
        gap = number(value)
        if gap is None or gap == last or count is None or (star and count < 2):
            raise LineError(header.taken, "gaps are canonical numbers, k equal ones in a row written 'k*n'")
        if len(gaps) + count > MAX_TENSORS + 1:
            raise LineError(header.taken, "too many gaps")
        gaps += (gap,) * count
        last = gap
    if sum(gaps) != rest_length:
        raise LineError(header.taken, f"the gaps add up to {sum(gaps)} bytes, the rest has {rest_length}")
    return tuple(gaps)
