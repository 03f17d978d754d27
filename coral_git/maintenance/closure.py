"""What live objects need: for each one copy, chosen so that following bases ends at a full copy."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from coral_git.maintenance.survey import PackState
from coral_git.store.location import Location
from coral_git.types import ObjectId


@dataclass(frozen=True, slots=True)
class Closure:
    """The objects to keep and the copies that matter.

    Attributes:
        kept: the live objects and, all the way down, the bases of their chosen copies.
        chosen: for each object that has a chain to a full copy, the copy on its shortest chain. Taken
            together these chains have no cycle, so the chosen copies are enough.
    """

    kept: frozenset[ObjectId]
    chosen: dict[ObjectId, Location]


def close(live: Iterable[ObjectId], packs: Sequence[PackState]) -> Closure:
    """The base closure of live objects.

    An object without a chain (a base is lost) keeps all its copies and their bases: what is damaged is not
    to be made worse.
    """
    copies = _copies(packs)
    chosen = _shortest(copies)
    kept: set[ObjectId] = set()
    queue = list(live)
    while queue:
        object_id = queue.pop()
        if object_id in kept:
            continue
        kept.add(object_id)
        best = chosen.get(object_id)
        needed = copies.get(object_id, ()) if best is None else (best,)
        queue += [one.base for one in needed if one.base is not None]
    return Closure(frozenset(kept), chosen)


def _copies(packs: Sequence[PackState]) -> dict[ObjectId, list[Location]]:
    """Every copy of every object, those in larger packs first: small packs are the ones to go."""
    copies: dict[ObjectId, list[Location]] = defaultdict(list)
    for state in sorted(packs, key=lambda state: (-state.info.size, state.info.id)):
        for location in state.entries:
            copies[location.object_id].append(location)
    return copies


def _shortest(copies: dict[ObjectId, list[Location]]) -> dict[ObjectId, Location]:
    """Breadth first from the full copies: a chosen delta has a base one step nearer to a full copy."""
    chosen: dict[ObjectId, Location] = {}
    children: dict[ObjectId, list[Location]] = defaultdict(list)
    for object_id, found in copies.items():
        for location in found:
            if location.base is None:
                chosen.setdefault(object_id, location)
            else:
                children[location.base].append(location)
    frontier = list(chosen)
    while frontier:
        following: dict[ObjectId, Location] = {}
        for base in frontier:
            for location in children.get(base, ()):
                if location.object_id not in chosen:
                    following.setdefault(location.object_id, location)
        chosen.update(following)
        frontier = list(following)
    return chosen
