"""What gc is going to do with each pack. Nothing is read or written here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from coral_git.maintenance.closure import Closure
from coral_git.maintenance.survey import PackState
from coral_git.store.location import Location

MERGE_AT_LEAST = 8
"""Fewer small packs than this are left as they are."""


@dataclass(frozen=True, slots=True)
class PackPlan:
    """A pack that goes, and what must be written elsewhere first.

    Attributes:
        state: the pack.
        needed: entries that nothing else holds for the objects that are kept.
        spare: entries of kept objects of which another copy was chosen.
        dead: entries that nobody needs.
    """

    state: PackState
    needed: tuple[Location, ...]
    spare: tuple[Location, ...]
    dead: tuple[Location, ...]


@dataclass(slots=True)
class Plan:
    """The packs that go.

    Attributes:
        drop: packs without a needed entry.
        rewrite: old packs with needed and dead entries.
        merge: small packs that become one.
        young: dead bytes that are too young to go.
    """

    drop: list[PackPlan] = field(default_factory=list)
    rewrite: list[PackPlan] = field(default_factory=list)
    merge: list[PackPlan] = field(default_factory=list)
    young: int = 0


def make_plan(packs: Iterable[PackState], closure: Closure, now: float, grace: int, pack_target: int) -> Plan:
    """Decide what becomes of each pack.

    Args:
        packs: the packs in their place.
        closure: what is kept.
        now: the time, seconds since the epoch.
        grace: seconds below which nothing unreachable goes.
        pack_target: packs below this size are small.
    """
    plan = Plan()
    small: list[PackPlan] = []
    for state in packs:
        sorted_out = _sort_out(state, closure)
        if any(location.object_id not in closure.chosen for location in sorted_out.needed):
            continue  # a base is lost: not one byte is moved before it is back
        old = is_older(state.info.mtime, now, grace)
        if not sorted_out.needed and (old or not sorted_out.dead):
            plan.drop.append(sorted_out)
        elif sorted_out.dead and old:
            plan.rewrite.append(sorted_out)
        elif sorted_out.dead:
            plan.young += _length(sorted_out.dead)
        elif state.info.size < pack_target:
            small.append(sorted_out)
    plan.merge = choose_merge(small)
    return plan


def is_older(time: float, now: float, grace: float) -> bool:
    """Whether something is older than the grace time; a time in the future is young."""
    return time <= now and now - time >= grace


def choose_merge(small: Sequence[PackPlan]) -> list[PackPlan]:
    """The small packs to merge: those that are not larger than all smaller ones together.

    What is left is a geometric row, so that every byte is merged a logarithmic number of times (the idea of
    ``git repack --geometric``).
    """
    row = sorted(small, key=lambda one: (one.state.info.size, one.state.info.id))
    below = [0]
    for one in row:
        below.append(below[-1] + one.state.info.size)
    for count in range(len(row), MERGE_AT_LEAST - 1, -1):
        if row[count - 1].state.info.size < below[count - 1]:
            return row[:count]
    return []


def _sort_out(state: PackState, closure: Closure) -> PackPlan:
    needed, spare, dead = [], [], []
    for location in state.entries:
        if location.object_id not in closure.kept:
            dead.append(location)
        elif closure.chosen.get(location.object_id, location) == location:
            needed.append(location)
        elif location.base is None or location.base in closure.kept:
            spare.append(location)
        else:
            dead.append(location)
    return PackPlan(state, tuple(needed), tuple(spare), tuple(dead))


def _length(entries: Iterable[Location]) -> int:
    return sum(location.entry_length for location in entries)
