"""Bases that nobody names: stored objects with a similar sketch.

So a fine-tune under another file name finds what it was made from, and so does a tensor that was renamed.
Sketches are hints in the store's cache, made when somebody looks for a base for the first time: most objects
have one under their own name, and whoever only adds versions of a file pays nothing.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from coral_git.codecs.facing import can_face
from coral_git.errors import CoralError
from coral_git.pipeline.part_source import HashedPart
from coral_git.similarity.sketch import (
    BITS,
    SKETCHED_UNITS,
    Sketch,
    as_words,
    cosine,
    distances,
    sketches,
)
from coral_git.store.sketch_table import SketchRow, SketchTable, Unsketched
from coral_git.store.store import Store
from coral_git.types import Element, ObjectId

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_NEAR = 48
"""Bits in which the sketches of similar objects differ at most. A cosine of 0.98 gives 16, give or take 4."""

_NEAREST = 8
_MADE_FIRST = 256
_MADE_AT_ONCE = 16
"""Sketches that one session makes of any objects, and for each object that is looked for of those as long."""


class SimilarObjects:
    """Finds stored objects by their sketches; for several threads.

    Args:
        store: where the objects and their sketches are.
        threshold: the least cosine similarity of two samples, 0 to 1.
    """

    def __init__(self, store: Store, threshold: float) -> None:
        self._store = store
        self._threshold = threshold
        self._table = SketchTable(store.cache.database)
        self._lock = threading.Lock()
        self._known: dict[int, _Reach] | None = None
        self._unsketched: dict[int, list[Unsketched]] = {}

    def similar(self, part: HashedPart) -> list[ObjectId]:
        """The objects with the nearest sketches; none for a part that has no sketch itself."""
        found = sketches(part.read, part.source.length, part.source.element)
        return self.nearest(found, part.source.element, part.source.length) if found else []

    def is_similar(self, own: bytes, other: bytes, element: Element) -> bool:
        """Whether the cosine of two samples reaches the threshold; always for bytes."""
        return element == Element.BYTES or cosine(own, other, element) >= self._threshold

    def nearest(self, found: Iterable[Sketch], element: Element, length: int) -> list[ObjectId]:
        """The stored objects whose sketches differ least, the nearest first."""
        with self._lock:
            known = self._load()
            self._sketch_some(length)
            near = [
                pair
                for sketch in found
                if sketch.reach in known
                for pair in known[sketch.reach].near(sketch.bits, element)
            ]
        near.sort()
        return list(dict.fromkeys(object_id for _, object_id in near))[:_NEAREST]

    def _load(self) -> dict[int, _Reach]:
        if self._known is None:
            self._known = defaultdict(_Reach)
            _collect(self._known, self._table.rows(BITS // 8))
            waiting = self._table.unsketched(SKETCHED_UNITS)
            for one in waiting[_MADE_FIRST:]:
                self._unsketched.setdefault(one.raw_length, []).append(one)
            self._sketch(waiting[:_MADE_FIRST])
        return self._known

    def _sketch_some(self, length: int) -> None:
        """Sketch a few stored objects of a length that have none yet."""
        waiting = self._unsketched.get(length, [])
        self._sketch(waiting[:_MADE_AT_ONCE])
        del waiting[:_MADE_AT_ONCE]

    def _sketch(self, objects: Iterable[Unsketched]) -> None:
        rows = [row for one in objects for row in sketch_stored(self._store, one)]
        if rows:
            self._table.add(rows)
            _collect(self._load(), rows)


def sketch_stored(store: Store, one: Unsketched) -> list[SketchRow]:
    """The sketches of a stored object; an empty one where it has none or cannot be read."""
    try:
        found = sketches(store.reader(one.object_id).read, one.raw_length, one.element)
    except (CoralError, OSError):
        found = []
    return _rows(one.object_id, one.element, found)


def _rows(object_id: ObjectId, element: Element, found: Iterable[Sketch]) -> list[SketchRow]:
    rows = [SketchRow(object_id, element, sketch.reach, sketch.bits) for sketch in found]
    return rows or [SketchRow(object_id, element, 0, b"")]


class _Reach:
    """The sketches of one reach, and an array of them that is made when it is asked."""

    def __init__(self) -> None:
        self._rows: list[SketchRow] = []
        self._words: npt.NDArray[np.uint64] | None = None

    def add(self, row: SketchRow) -> None:
        """One more sketch."""
        self._rows.append(row)
        self._words = None

    def near(self, bits: bytes, element: Element) -> Iterator[tuple[int, ObjectId]]:
        """The objects that are near, each with its distance in bits."""
        import numpy as np

        if self._words is None:
            self._words = as_words([row.bits for row in self._rows])
        apart = distances(bits, self._words)
        for index in np.flatnonzero(apart <= _NEAR):
            row = self._rows[index]
            if can_face(element, row.element):
                yield int(apart[index]), row.object_id


def _collect(known: dict[int, _Reach], rows: Iterable[SketchRow]) -> None:
    for row in rows:
        if row.bits:
            known[row.reach].add(row)
