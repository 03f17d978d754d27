"""Choosing the bases of stored objects anew: a plan that makes no circle and no chain too long.

What was added without a base, or with a far one, may have a nearer one by now. Candidates come from sketches,
and a sample of each decides, as when a part is added. Packs are replaced one after the other, so a plan is
sound only when the old and the new deltas together have no circle.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from coral_git.codecs.choose import estimate, facing_sample, sample
from coral_git.codecs.facing import can_face
from coral_git.errors import CoralError
from coral_git.pipeline.similar import SimilarObjects, sketch_stored
from coral_git.similarity.sketch import BITS, SKETCHED_UNITS, Sketch, as_words, distances
from coral_git.store.location import Location
from coral_git.store.sketch_table import SketchTable
from coral_git.store.store import Store
from coral_git.types import ObjectId

_GAIN = 0.95  # of what is stored now; the estimate is not better than that
_SMALL_CHAIN = 64 << 10

Step = Callable[[int, int], None]
"""Is told how many objects of how many are done."""


class NewBase(NamedTuple):
    """A new base for an object.

    Attributes:
        base: the object to build on.
        is_forced: whether it is taken even where it is no gain, because the chain is too long.
    """

    base: ObjectId
    is_forced: bool = False


class Forest:
    """Which object is a delta on which: as it is stored, and as it is planned.

    Args:
        copies: all copies of all objects.
    """

    def __init__(self, copies: Iterable[Location]) -> None:
        self.best: dict[ObjectId, Location] = {}
        self._parents: dict[ObjectId, set[ObjectId]] = defaultdict(set)
        self._children: dict[ObjectId, set[ObjectId]] = defaultdict(set)
        for copy in copies:
            known = self.best.get(copy.object_id)
            if known is None or (copy.base is None and known.base is not None):
                self.best[copy.object_id] = copy
            if copy.base is not None:
                self._parents[copy.object_id].add(copy.base)
        self.planned = {object_id: copy.base for object_id, copy in self.best.items()}
        for object_id, base in self.planned.items():
            if base is not None:
                self._children[base].add(object_id)

    def depth(self, object_id: ObjectId) -> int:
        """Deltas between an object and its full copy, as planned."""
        return len(self.chain(object_id)) - 1

    def chain(self, object_id: ObjectId) -> list[ObjectId]:
        """An object, its base and so on, as planned."""
        chain = [object_id]
        while (base := self.planned.get(chain[-1])) is not None and len(chain) <= len(self.planned):
            chain.append(base)
        return chain

    def height(self, object_id: ObjectId) -> int:
        """Deltas on top of an object, as planned."""
        level, height = {object_id}, -1
        while level:
            level = {child for one in level for child in self._children[one]}
            height += 1
        return height

    def may_stand_on(self, object_id: ObjectId, base: ObjectId) -> bool:
        """Whether a new base makes no circle, with the old deltas neither."""
        seen, level = {base}, [base]
        while level:
            one = level.pop()
            if one == object_id:
                return False
            fresh = self._parents[one] - seen
            seen |= fresh
            level += fresh
        return True

    def move(self, object_id: ObjectId, base: ObjectId) -> None:
        """Plan a new base."""
        old = self.planned[object_id]
        if old is not None:
            self._children[old].discard(object_id)
        self.planned[object_id] = base
        self._parents[object_id].add(base)
        self._children[base].add(object_id)


class Planner:
    """Finds better bases.

    Args:
        store: the objects.
        copies: all copies of all objects.
        threshold: the least cosine similarity of an object and a new base.
        depth: deltas on top of each other, at most.
        only_full: whether only full copies get a base, and deltas stay as they are.
    """

    def __init__(
        self, store: Store, copies: Iterable[Location], threshold: float, depth: int, *, only_full: bool
    ) -> None:
        self._store = store
        self._depth = depth
        self._only_full = only_full
        self._forest = Forest(copies)
        self._search = SimilarObjects(store, threshold)
        self._table = SketchTable(store.cache.database)

    def plan(self, step: Step) -> dict[ObjectId, NewBase]:
        """The objects that get a new base."""
        self._sketch_all(step)
        found: dict[ObjectId, list[Sketch]] = defaultdict(list)
        for row in self._table.rows(BITS // 8):
            found[row.object_id].append(Sketch(row.reach, row.bits))
        plan: dict[ObjectId, NewBase] = {}
        order = sorted(self._forest.best.values(), key=lambda one: -one.entry_length)
        for number, location in enumerate(order):
            step(number, len(order))
            chosen = self._choose(location, found)
            if chosen is None and self._forest.depth(location.object_id) > self._depth:
                chosen = self._nearer_the_end(location)
            if chosen is not None:
                plan[location.object_id] = chosen
                self._forest.move(location.object_id, chosen.base)
        return plan

    def _sketch_all(self, step: Step) -> None:
        waiting = self._table.unsketched(SKETCHED_UNITS)
        for number, one in enumerate(waiting):
            step(number, len(waiting))
            self._table.add(sketch_stored(self._store, one))

    def _choose(self, location: Location, found: dict[ObjectId, list[Sketch]]) -> NewBase | None:
        """A base against which an object is clearly smaller than it is now."""
        own = found.get(location.object_id)
        if own is None or (self._only_full and location.base is not None):
            return None
        near = list(self._candidates(location, own, found))
        if not near:
            return None
        try:
            size, base = min(self._estimates(location, near), default=(0.0, None))
        except (CoralError, OSError):
            return None
        if base is None or size > _GAIN * location.entry_length:
            return None
        return NewBase(base)

    def _candidates(
        self, location: Location, own: list[Sketch], found: dict[ObjectId, list[Sketch]]
    ) -> Iterator[ObjectId]:
        """Similar objects that are nearer than the base there is, and may be the base."""
        limit = self._apart(own, found.get(location.base, [])) if location.base else BITS
        above = self._forest.height(location.object_id)
        for one in self._search.nearest(own, location.element, location.raw_length):
            if one == location.object_id or one not in self._forest.best:
                continue
            is_shallow = self._forest.depth(one) + 1 + above <= self._depth
            is_nearer = self._apart(own, found[one]) < limit
            if is_shallow and is_nearer and self._forest.may_stand_on(location.object_id, one):
                yield one

    def _estimates(self, location: Location, bases: list[ObjectId]) -> Iterator[tuple[float, ObjectId]]:
        """The bytes that an object would take on each base."""
        reader, element, length = (
            self._store.reader(location.object_id),
            location.element,
            location.raw_length,
        )
        own = sample(reader.read, length, element)
        for base in bases:
            below = self._store.reader(base)
            faced = facing_sample(below.read, below.element, length, element)
            if self._search.is_similar(own, faced, element):
                size = estimate(element, own, faced) * length / len(own)
                if self._is_short(base, size, length):
                    yield size, base

    def _is_short(self, base: ObjectId, size: float, raw_length: int) -> bool:
        """Whether a chain with one more delta stays short in bytes."""
        stored = sum(self._forest.best[one].entry_length for one in self._forest.chain(base))
        return size + stored <= raw_length * self._store.limits.chain_percent / 100 + _SMALL_CHAIN

    def _nearer_the_end(self, location: Location) -> NewBase | None:
        """The full copy at the end of a chain that is too long."""
        end = self._forest.chain(location.object_id)[-1]
        is_here = end in self._forest.best and can_face(location.element, self._forest.best[end].element)
        return NewBase(end, is_forced=True) if is_here and end != location.base else None

    @staticmethod
    def _apart(own: list[Sketch], other: list[Sketch]) -> int:
        """In how many bits two objects differ; more than there are where they cannot be compared."""
        known = {sketch.reach: sketch.bits for sketch in other}
        pairs = [(one.bits, known[one.reach]) for one in own if one.reach in known]
        return min((int(distances(a, as_words([b]))[0]) for a, b in pairs), default=BITS)
