"""Which objects can be decoded: those whose bases, all the way down, are at hand too.

A delta is worth nothing without its base. A store that was filled by an interrupted fetch, or a remote
store after an interrupted push, may hold the one without the other; neither counts as having the object.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence

from coral_git.store.location import Location
from coral_git.store.store import Store
from coral_git.types import ObjectId


def complete_copies(
    copies: Mapping[ObjectId, Sequence[Location]], roots: Iterable[ObjectId] = ()
) -> dict[ObjectId, Location]:
    """For each object that can be decoded, the copy with the fewest deltas below it.

    A breadth-first walk from full copies upwards, so that the chosen copies cannot form a circle.

    Args:
        copies: every copy of each object.
        roots: objects that are at hand by other means.

    Returns:
        The chosen copies; a base always comes before what is built on it.
    """
    chosen: dict[ObjectId, Location] = {}
    waiting: dict[ObjectId, list[Location]] = {}
    ready = deque(dict.fromkeys(roots))
    reached = set(ready)
    for object_id, found in copies.items():
        for copy in found:
            if copy.base is None:
                if object_id not in chosen:
                    chosen[object_id] = copy
                    ready.append(object_id)
            else:
                waiting.setdefault(copy.base, []).append(copy)
    reached.update(chosen)
    while ready:
        for copy in waiting.get(ready.popleft(), ()):
            if copy.object_id not in reached:
                reached.add(copy.object_id)
                chosen[copy.object_id] = copy
                ready.append(copy.object_id)
    return chosen


def stored_copies(store: Store, wanted: Iterable[ObjectId]) -> dict[ObjectId, list[Location]]:
    """Every copy that a store has of some objects, of their bases, of the bases of those, and so on."""
    copies: dict[ObjectId, list[Location]] = {}
    asked: set[ObjectId] = set()
    level = list(dict.fromkeys(wanted))
    while level:
        asked.update(level)
        found = store.locations(level)
        copies.update((object_id, found[object_id]) for object_id in level if object_id in found)
        bases = (copy.base for object_id in level for copy in found.get(object_id, ()) if copy.base)
        level = [base for base in dict.fromkeys(bases) if base not in asked]
    return copies


def find_incomplete(store: Store, wanted: Iterable[ObjectId]) -> list[ObjectId]:
    """The objects that a store cannot decode, because it lacks them or bases of theirs; no repetition."""
    order = list(dict.fromkeys(wanted))
    complete = complete_copies(stored_copies(store, order))
    return [object_id for object_id in order if object_id not in complete]
