"""Plans of new bases: never a circle, with the old deltas neither, and never a chain too long."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from coral_git.maintenance.base_plan import Forest
from coral_git.store.location import Location
from coral_git.types import Element, ObjectId


def object_id(number):
    return ObjectId(number.to_bytes(32, "big"))


def location(number, base):
    return Location(
        object_id=object_id(number),
        pack=bytes(32),
        offset=0,
        entry_length=100,
        raw_length=4096,
        codec=4 if base is not None else 3,
        element=Element.F32,
        base=None if base is None else object_id(base),
    )


@st.composite
def forests(draw):
    """For each object the number of a smaller one, or None; some have a second copy."""
    count = draw(st.integers(1, 12))
    bases = [draw(st.none() | st.integers(0, number - 1)) if number else None for number in range(count)]
    copies = [location(number, base) for number, base in enumerate(bases)]
    for number in range(1, count):
        if draw(st.booleans()):
            copies.append(location(number, draw(st.none() | st.integers(0, number - 1))))
    return Forest(copies), count


@given(forests(), st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=30))
def test_old_and_new_deltas_have_no_circle(made, moves):
    forest, count = made
    edges = {one: set(bases) for one, bases in forest._parents.items()}
    for child, base in moves:
        if child < count and base < count and forest.may_stand_on(object_id(child), object_id(base)):
            forest.move(object_id(child), object_id(base))
            edges.setdefault(object_id(child), set()).add(object_id(base))
    waiting = set(edges)
    while waiting:  # what has no base left to wait for is removed, until nothing is left
        free = {one for one in waiting if not (edges[one] & waiting)}
        assert free
        waiting -= free


def test_depth_and_height_count_deltas():
    forest = Forest([location(0, None), location(1, 0), location(2, 1), location(3, None)])
    assert [forest.depth(object_id(n)) for n in range(4)] == [0, 1, 2, 0]
    assert [forest.height(object_id(n)) for n in range(4)] == [2, 1, 0, 0]
    assert not forest.may_stand_on(object_id(0), object_id(2))
    assert not forest.may_stand_on(object_id(0), object_id(0))
    forest.move(object_id(0), object_id(3))
    assert [forest.depth(object_id(n)) for n in range(4)] == [1, 2, 3, 0]
    assert not forest.may_stand_on(object_id(3), object_id(2))


def test_the_full_copy_of_two_is_what_counts():
    forest = Forest([location(0, None), location(1, 0), location(1, None)])
    assert forest.depth(object_id(1)) == 0
    assert not forest.may_stand_on(object_id(0), object_id(1))  # the other copy still stands on it
