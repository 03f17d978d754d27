"""The tables of packs and objects: which object lies where, as far as is remembered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from coral_git.store.database import Database
from coral_git.store.layout import is_place
from coral_git.store.location import Location
from coral_git.types import ID_LENGTH, Element, ObjectId, PackId

if TYPE_CHECKING:
    import sqlite3

_BATCH = 500
_COLUMNS = """
    objects.id, packs.id, offset, entry_length, raw_length, base, codec, element, packs.place
    FROM objects JOIN packs ON packs.number = objects.pack
"""


class PackRow(NamedTuple):
    """What is remembered of a pack.

    Attributes:
        place: where it lies, see ``layout.LIVE``.
        size: length of its file.
        inode: number of its inode; another one means another file of the same name.
        usable: whether its objects are known; a damaged pack is not usable until its file changes.
    """

    place: str
    size: int
    inode: int
    usable: bool


class Placed(NamedTuple):
    """A location together with the place of its pack."""

    location: Location
    place: str


class PackTable:
    """Queries on the tables of packs and objects.

    Args:
        database: the shared connection.
    """

    __slots__ = ("database",)

    def __init__(self, database: Database) -> None:
        self.database = database

    def packs(self) -> dict[PackId, PackRow]:
        """All remembered packs."""
        rows = self.database.run(
            lambda connection: connection.execute(
                "SELECT id, place, size, inode, usable FROM packs"
            ).fetchall()
        )
        return {PackId(row[0]): PackRow(row[1], row[2], row[3], bool(row[4])) for row in rows}

    def lookup(self, object_ids: Sequence[ObjectId]) -> dict[ObjectId, list[Placed]]:
        """All remembered copies of objects; full copies first, then the pack that was seen last."""

        def query(connection: sqlite3.Connection) -> dict[ObjectId, list[Placed]]:
            found: dict[ObjectId, list[Placed]] = {}
            for start in range(0, len(object_ids), _BATCH):
                batch = object_ids[start : start + _BATCH]
                marks = ",".join("?" * len(batch))
                rows = connection.execute(
                    f"SELECT {_COLUMNS} WHERE objects.id IN ({marks})"
                    " ORDER BY base IS NOT NULL, packs.number DESC",
                    batch,
                )
                for row in rows:
                    placed = _placed(row)
                    if placed is not None:
                        found.setdefault(placed.location.object_id, []).append(placed)
            return found

        return self.database.run(query)

    def pack_locations(self, pack: PackId) -> list[Location]:
        """The remembered entries of one pack by offset."""
        rows = self.database.run(
            lambda connection: connection.execute(
                f"SELECT {_COLUMNS} WHERE packs.id=? ORDER BY offset",
                (pack,),
            ).fetchall()
        )
        return [placed.location for placed in map(_placed, rows) if placed is not None]

    def add(self, pack: PackId, row: PackRow, locations: Iterable[Location]) -> None:
        """Remember a pack with its entries; what was remembered of it before is replaced."""

        def write(connection: sqlite3.Connection) -> None:
            _forget(connection, (pack,))
            number = connection.execute(
                "INSERT INTO packs(id, place, size, inode, usable) VALUES (?,?,?,?,?)",
                (pack, row.place, row.size, row.inode, row.usable),
            ).lastrowid
            connection.executemany(
                "INSERT INTO objects VALUES (?,?,?,?,?,?,?,?)",
                [
                    (
                        location.object_id,
                        number,
                        location.offset,
                        location.entry_length,
                        location.raw_length,
                        location.base,
                        location.codec,
                        int(location.element),
                    )
                    for location in locations
                ],
            )

        self.database.transaction(write)

    def move(self, places: Mapping[PackId, str]) -> None:
        """Remember that packs lie in another place now."""
        rows = [(place, pack) for pack, place in places.items()]
        self.database.write_rows("UPDATE packs SET place=? WHERE id=?", rows)

    def forget(self, packs: Sequence[PackId]) -> None:
        """Forget packs and their entries."""
        self.database.transaction(lambda connection: _forget(connection, packs))


def _forget(connection: sqlite3.Connection, packs: Sequence[PackId]) -> None:
    numbers = [
        row
        for pack in packs
        for row in connection.execute("SELECT number FROM packs WHERE id=?", (pack,)).fetchall()
    ]
    if numbers:
        connection.executemany("DELETE FROM packs WHERE number=?", numbers)
        connection.execute("DELETE FROM objects WHERE pack NOT IN (SELECT number FROM packs)")


def _placed(row: tuple[Any, ...]) -> Placed | None:
    """A row as a location, or None where a damaged file made nonsense of it."""
    object_id, pack, offset, entry_length, raw_length, base, codec, element, place = row
    numbers = (offset, entry_length, raw_length, codec, element)
    if not all(isinstance(number, int) and number >= 0 for number in numbers):
        return None
    if not (isinstance(object_id, bytes) and isinstance(pack, bytes) and len(pack) == ID_LENGTH):
        return None
    if not (base is None or isinstance(base, bytes)) or element not in _ELEMENTS:
        return None
    if not (isinstance(place, str) and is_place(place)):
        return None
    named = None if base is None else ObjectId(base)
    kind = _ELEMENTS[element]
    return Placed(
        Location(ObjectId(object_id), PackId(pack), offset, entry_length, raw_length, named, codec, kind),
        place,
    )


_ELEMENTS = {int(element): element for element in Element}
