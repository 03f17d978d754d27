"""Which copies can be decoded, and how objects go to a remote store without naming a private base."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from coral_git.limits import DEFAULT_LIMITS
from coral_git.pipeline.closure import complete_copies
from coral_git.pipeline.transfer_plan import batches, plan_shipments
from coral_git.store.location import Location
from coral_git.types import Element, ObjectId, PackId


def oid(number: int) -> ObjectId:
    return ObjectId(bytes([number]) * 32)


def copy(number: int, base: int | None = None) -> Location:
    named = None if base is None else oid(base)
    return Location(oid(number), PackId(bytes(32)), 16, 100 + number, 1000, named, 3, Element.F32)


def table(*entries: Location) -> dict[ObjectId, list[Location]]:
    found: dict[ObjectId, list[Location]] = {}
    for entry in entries:
        found.setdefault(entry.object_id, []).append(entry)
    return found


def test_a_delta_without_its_base_is_not_complete() -> None:
    copies = table(copy(1), copy(2, 1), copy(3, 9), copy(4, 3))
    assert list(complete_copies(copies)) == [oid(1), oid(2)]
    assert set(complete_copies(copies, [oid(9)])) == {oid(1), oid(2), oid(3), oid(4)}


def test_of_several_copies_the_one_with_the_fewest_deltas_is_chosen() -> None:
    copies = table(copy(1), copy(2, 1), copy(3, 2), copy(3, 1))
    assert complete_copies(copies)[oid(3)].base == oid(1)


def test_copies_in_a_circle_are_not_complete() -> None:
    assert complete_copies(table(copy(1, 2), copy(2, 1))) == {}
    assert set(complete_copies(table(copy(1, 2), copy(2, 1), copy(2)))) == {oid(1), oid(2)}


def test_a_private_base_is_replaced_by_the_nearest_public_ancestor() -> None:
    """4 → 3 (private) → 2 (private) → 1 (on the remote); 5 → 4 goes as it is."""
    copies = table(copy(1), copy(2, 1), copy(3, 2), copy(4, 3), copy(5, 4))
    plan = plan_shipments(copies, [oid(5), oid(4)], {oid(1)}, DEFAULT_LIMITS)
    assert [(one.object_id, one.copied is not None, one.bases) for one in plan] == [
        (oid(4), False, (oid(1),)),
        (oid(5), True, ()),
    ]


def test_without_a_public_ancestor_there_is_no_base() -> None:
    plan = plan_shipments(table(copy(1), copy(2, 1)), [oid(2)], set(), DEFAULT_LIMITS)
    assert [(one.copied, one.bases) for one in plan] == [(None, ())]


@given(
    st.lists(st.tuples(st.integers(1, 12), st.none() | st.integers(1, 12)), max_size=40),
    st.sets(st.integers(1, 12)),
    st.sets(st.integers(1, 12)),
)
def test_whatever_is_sent_can_be_decoded_there(
    edges: list[tuple[int, int | None]], wanted: set[int], held: set[int]
) -> None:
    copies = table(*(copy(number, base) for number, base in edges if number != base))
    complete = complete_copies(copies)
    lacking = [oid(one) for one in sorted(wanted - held) if oid(one) in complete]
    remote = {oid(one) for one in held}
    plan = plan_shipments(copies, lacking, remote, DEFAULT_LIMITS)
    assert sorted(one.object_id for one in plan) == sorted(lacking)
    there = set(remote)
    for shipment in plan:  # bases first
        bases = shipment.bases if shipment.copied is None else (shipment.copied.base,)
        assert all(base is None or base in there for base in bases)
        there.add(shipment.object_id)


@given(st.lists(st.integers(0, 50), max_size=20), st.integers(1, 200))
def test_batches_keep_order_and_bound(sizes: list[int], most: int) -> None:
    plan = plan_shipments(
        table(*(copy(number + 1) for number in range(len(sizes)))),
        [oid(number + 1) for number in range(len(sizes))],
        set(),
        DEFAULT_LIMITS,
    )
    cut = list(batches(plan, most))
    assert [one for batch in cut for one in batch] == plan
    assert all(len(batch) == 1 or sum(one.size for one in batch) <= most for batch in cut)
