"""The table of sketches: which stored objects may be similar to a new one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from coral_git.store.database import Database
from coral_git.types import ID_LENGTH, Element, ObjectId

_ELEMENTS = {int(element): element for element in Element}


class SketchRow(NamedTuple):
    """A sketch of an object.

    Attributes:
        object_id: the object.
        element: how its units were seen.
        reach: of how many units, as a power of two.
        bits: the sketch; empty where the object has none.
    """

    object_id: ObjectId
    element: Element
    reach: int
    bits: bytes


class Unsketched(NamedTuple):
    """An object that nobody has sketched yet."""

    object_id: ObjectId
    element: Element
    raw_length: int


class SketchTable:
    """Queries on the table of sketches, in the file of the other hints.

    Args:
        database: the shared connection.
    """

    __slots__ = ("_database",)

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, rows: Iterable[SketchRow]) -> None:
        """Remember sketches."""
        self._database.write_rows(
            "INSERT OR REPLACE INTO sketches VALUES (?,?,?,?)",
            [(row.object_id, row.reach, int(row.element), row.bits) for row in rows],
        )

    def rows(self, length: int) -> list[SketchRow]:
        """All sketches of ``length`` bytes of objects that are stored."""
        found = self._database.run(
            lambda connection: connection.execute(
                "SELECT id, element, reach, bits FROM sketches WHERE id IN (SELECT id FROM objects)"
            ).fetchall()
        )
        return [
            SketchRow(ObjectId(row[0]), _ELEMENTS[row[1]], row[2], row[3])
            for row in found
            if len(row[0]) == ID_LENGTH and row[1] in _ELEMENTS and len(row[3]) == length
        ]

    def unsketched(self, least_length: int) -> list[Unsketched]:
        """The stored objects of at least ``least_length`` bytes that are no plain bytes and have no row."""
        found = self._database.run(
            lambda connection: connection.execute(
                "SELECT DISTINCT id, element, raw_length FROM objects"
                " WHERE element != 0 AND raw_length >= ? AND id NOT IN (SELECT id FROM sketches)",
                (least_length,),
            ).fetchall()
        )
        return [
            Unsketched(ObjectId(row[0]), _ELEMENTS[row[1]], row[2]) for row in found if row[1] in _ELEMENTS
        ]

    def forget_gone(self) -> None:
        """Forget the sketches of objects that are not stored any more."""
        self._database.transaction(
            lambda connection: connection.execute(
                "DELETE FROM sketches WHERE id NOT IN (SELECT id FROM objects)"
            )
        )
