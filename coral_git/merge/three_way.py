"""Three-way merging of lists of tensors: what each side did to each tensor. Reads manifests only.

A tensor that nobody changed stays, one that only one side changed, added or removed follows that side, and
so does one that all sides changed in the same way. Two tensors are the same when their dtypes, shapes and
object ids are. What is left has several versions, and somebody must say what becomes of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import NamedTuple

from coral_git.manifest.entries import Manifest, TensorEntry


class Change(NamedTuple):
    """What became of a tensor.

    Attributes:
        name: the tensor.
        base: as it was in the common ancestor; None where it was not there.
        sides: as it is on each side, ours first; None where it is not there.
    """

    name: str
    base: TensorEntry | None
    sides: tuple[TensorEntry | None, ...]

    @property
    def changed(self) -> tuple[int, ...]:
        """Which sides have another version than the common ancestor."""
        return tuple(number for number, side in enumerate(self.sides) if side != self.base)

    @property
    def is_contested(self) -> bool:
        """Whether sides changed it in different ways."""
        return len({self.sides[number] for number in self.changed}) > 1

    @property
    def result(self) -> TensorEntry | None:
        """The tensor where it is not contested; None where it is removed."""
        changed = self.changed
        return self.sides[changed[0]] if changed else self.base

    @property
    def outcome(self) -> Outcome:
        """What happens to it where it is not contested."""
        changed = self.changed
        if not changed:
            return Outcome.UNCHANGED
        if self.sides[changed[0]] is None:
            return Outcome.REMOVED
        if self.base is None:
            return Outcome.ADDED
        if len(changed) > 1:
            return Outcome.BOTH
        return Outcome.OURS if changed[0] == 0 else Outcome.THEIRS


class Outcome(StrEnum):
    """What happened to a tensor in a merge.

    ``UNCHANGED``: nobody changed it. ``OURS``, ``THEIRS``: it follows the side that changed it, or that was
    chosen. ``BOTH``: the sides did the same. ``BASE``: the common ancestor's was chosen. ``ADDED``,
    ``REMOVED``: as a side did. ``MERGED``: a strategy computed it. ``CONFLICT``: nobody could say.
    """

    UNCHANGED = "unchanged"
    OURS = "ours"
    THEIRS = "theirs"
    BOTH = "both"
    BASE = "base"
    ADDED = "added"
    REMOVED = "removed"
    MERGED = "merged"
    CONFLICT = "conflict"


def changes(base: Manifest | None, sides: Sequence[Manifest]) -> list[Change]:
    """What became of every tensor of a file.

    Args:
        base: the common ancestor, expanded; None where there is none.
        sides: the sides, expanded, ours first.

    Returns:
        All tensors that any version has, in the order of ours; what ours does not have follows what it
        follows on the side that has it.
    """
    before = {} if base is None else {tensor.name: tensor for tensor in base.tensors}
    present = [{tensor.name: tensor for tensor in side.tensors} for side in sides]
    lists = [list(version) for version in (*present, before)]
    return [
        Change(name, before.get(name), tuple(side.get(name) for side in present)) for name in _merged(lists)
    ]


def _merged(lists: Sequence[Sequence[str]]) -> Iterator[str]:
    """All names of several lists, in the order of the first; others come after their predecessors."""
    known = set(lists[0])
    followers: dict[str | None, list[str]] = {}
    for names in lists[1:]:
        for previous, name in zip((None, *names), names, strict=False):
            if name not in known:
                known.add(name)
                followers.setdefault(previous, []).append(name)
    waiting: list[str | None] = [*reversed(lists[0]), None]
    while waiting:
        current = waiting.pop()
        if current is not None:
            yield current
        waiting += reversed(followers.pop(current, ()))
