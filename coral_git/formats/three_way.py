"""Three-way merging of the entries that a file has beside its tensors: metadata, by key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from coral_git.formats.base import CannotAssemble

K = TypeVar("K", str, bytes)
V = TypeVar("V")


def merge_entries(
    base: Mapping[K, V] | None, sides: Sequence[Mapping[K, V]], prefers: int | None
) -> dict[K, V]:
    """Entries by key, merged: what one side changed, added or removed follows that side.

    Args:
        base: those of the common ancestor; None where there is none.
        sides: those of the sides, ours first.
        prefers: the side that wins where several changed an entry in different ways; None for none.

    Returns:
        The entries in the order of ours; what others added comes after.

    Raises:
        CannotAssemble: sides changed an entry in different ways and none wins.
    """
    before: Mapping[K, V] = {} if base is None else base
    keys = [key for entries in sides for key in entries] + list(before)
    merged: dict[K, V] = {}
    for key in dict.fromkeys(keys):
        versions = [side.get(key) for side in sides]
        changed = [version for version in versions if version != before.get(key)]
        result = changed[0] if changed else before.get(key)
        if any(version != result for version in changed):
            if prefers is None:
                raise CannotAssemble(f"the sides changed the metadata {key!a}")
            result = versions[prefers]
        if result is not None:
            merged[key] = result
    return merged
