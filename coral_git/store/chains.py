"""The way from an object over its bases to a full copy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from coral_git.errors import IntegrityError, ObjectMissingError
from coral_git.store.location import Location
from coral_git.types import ObjectId

Lookup = Callable[[Iterable[ObjectId]], Mapping[ObjectId, Sequence[Location]]]


def missing_object(object_id: ObjectId) -> ObjectMissingError:
    """The error for an object that is not stored."""
    return ObjectMissingError(f"object '{object_id.hex()}' is not in the store", hint="run 'git coral fetch'")


def find_chain(object_id: ObjectId, lookup: Lookup, max_depth: int) -> list[Location]:
    """The shortest chain from an object to a full copy.

    An object can have several copies, as gc writes new packs while the old ones still serve; following
    the first copy of each could run in a circle. A breadth-first search cannot.

    Args:
        object_id: where the chain starts.
        lookup: the copies of objects, best first.
        max_depth: deltas in the chain, at most.

    Raises:
        ObjectMissingError: an object on every way is missing; the first one is named.
        IntegrityError: the deltas form a cycle or are too deep.
    """
    reached_by: dict[ObjectId, Location | None] = {object_id: None}
    frontier = [object_id]
    missing: ObjectId | None = None
    for _ in range(max_depth + 1):
        found = lookup(frontier)
        following: list[ObjectId] = []
        for current in frontier:
            copies = found.get(current, ())
            if not copies and missing is None:
                missing = current
            for copy in copies:
                if copy.base is None:
                    return _walk_back(copy, reached_by)
                if copy.base not in reached_by:
                    reached_by[copy.base] = copy
                    following.append(copy.base)
        frontier = following
        if not frontier:
            break
    if missing is not None:
        raise _missing(object_id, missing)
    problem = f"are more than {max_depth} deep" if frontier else "form a cycle"
    raise IntegrityError(f"the deltas of object '{object_id.hex()}' {problem}", hint="run 'git coral fsck'")


def _walk_back(last: Location, reached_by: Mapping[ObjectId, Location | None]) -> list[Location]:
    chain = [last]
    step = reached_by[last.object_id]
    while step is not None:
        chain.append(step)
        step = reached_by[step.object_id]
    chain.reverse()
    return chain


def _missing(object_id: ObjectId, missing: ObjectId) -> ObjectMissingError:
    if missing == object_id:
        return missing_object(object_id)
    return ObjectMissingError(
        f"object '{object_id.hex()}' needs its base '{missing.hex()}', which is not in the store",
        hint="run 'git coral fetch'",
    )
