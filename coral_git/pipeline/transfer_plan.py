"""How objects go to a remote store: copied as they are stored, or encoded anew because a base is private.

A base that is neither part of the push nor on the remote store must not be named there: it may belong to a
branch that nobody else is to see. What is built on it gets another base, or none.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass

from coral_git.limits import Limits
from coral_git.pipeline.closure import complete_copies
from coral_git.store.location import Location
from coral_git.types import ObjectId


@dataclass(frozen=True, slots=True)
class Shipment:
    """One object to be sent.

    Attributes:
        object_id: the object.
        size: bytes that it takes, or about as many.
        copied: the entry to be sent as it is; None for an object that is encoded anew.
        bases: objects that it may be encoded against then.
    """

    object_id: ObjectId
    size: int
    copied: Location | None
    bases: tuple[ObjectId, ...] = ()


def plan_shipments(
    copies: Mapping[ObjectId, Sequence[Location]],
    lacking: Sequence[ObjectId],
    held: Container[ObjectId],
    limits: Limits,
) -> list[Shipment]:
    """Decide for every object how it is sent; bases come before what is built on them.

    Args:
        copies: the copies of the objects and of all their bases in the local store.
        lacking: the objects to be sent; each can be decoded.
        held: what the remote store can decode already.
        limits: the caps.
    """
    wanted = set(lacking)
    allowed = {
        object_id: [c for c in copies[object_id] if c.base is None or c.base in wanted or c.base in held]
        for object_id in lacking
    }
    roots = [c.base for found in allowed.values() for c in found if c.base is not None and c.base in held]
    grounded = complete_copies(allowed, roots)
    stranded = [object_id for object_id in lacking if not allowed[object_id]]
    others = complete_copies(allowed, [*roots, *grounded, *stranded])
    anew = [object_id for object_id in lacking if object_id not in grounded and object_id not in others]
    local = complete_copies(copies)
    shipments = [Shipment(object_id, copy.entry_length, copy) for object_id, copy in grounded.items()]
    for object_id in anew:  # against what stands without them, or two could end up as each other's base
        bases = tuple(
            base for base in _ancestors(object_id, local, limits) if base in grounded or base in held
        )
        shipments.append(Shipment(object_id, local[object_id].raw_length, None, bases))
    shipments += [
        Shipment(object_id, copy.entry_length, copy)
        for object_id, copy in others.items()
        if object_id not in grounded
    ]
    return shipments


def batches(shipments: Sequence[Shipment], most_bytes: int) -> Iterator[list[Shipment]]:
    """Cut shipments into batches of bounded length, in their order."""
    batch: list[Shipment] = []
    total = 0
    for shipment in shipments:
        if batch and total + shipment.size > most_bytes:
            yield batch
            batch, total = [], 0
        batch.append(shipment)
        total += shipment.size
    if batch:
        yield batch


def _ancestors(object_id: ObjectId, local: Mapping[ObjectId, Location], limits: Limits) -> list[ObjectId]:
    """The bases of an object, the nearest first, without those that are too deep to be built on."""
    found: list[ObjectId] = []
    base = local[object_id].base
    while base is not None:
        found.append(base)
        base = local[base].base
    return [one for place, one in enumerate(found) if len(found) - place <= limits.chain_depth]
