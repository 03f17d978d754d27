import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coral_git.errors import IntegrityError, ObjectMissingError
from coral_git.store.chains import find_chain
from coral_git.store.location import Location
from coral_git.types import Element, ObjectId, PackId


def name(number):
    return ObjectId(bytes([number]) * 32)


def copy(number, base=None, pack=1):
    named = None if base is None else name(base)
    return Location(name(number), PackId(bytes([pack]) * 32), 16, 128, 1, named, 1, Element.BYTES)


def lookup(*copies):
    def find(object_ids):
        wanted = list(object_ids)
        return {key: [one for one in copies if one.object_id == key] for key in wanted}

    return find


def test_follows_the_bases_to_the_full_copy():
    copies = copy(1), copy(2, 1), copy(3, 2)
    assert find_chain(name(3), lookup(*copies), 8) == [copies[2], copies[1], copies[0]]
    assert find_chain(name(1), lookup(*copies), 0) == [copies[0]]


def test_depth_is_counted_in_deltas():
    copies = [copy(1)] + [copy(number, number - 1) for number in range(2, 10)]
    assert len(find_chain(name(9), lookup(*copies), 8)) == 9
    with pytest.raises(IntegrityError, match="more than 7 deep"):
        find_chain(name(9), lookup(*copies), 7)


def test_cycles_are_refused():
    for copies in ([copy(1, 1)], [copy(1, 2), copy(2, 1)], [copy(3, 1), copy(1, 2), copy(2, 1)]):
        with pytest.raises(IntegrityError, match="cycle"):
            find_chain(copies[0].object_id, lookup(*copies), 64)


def test_two_packs_that_would_form_a_circle_together_still_serve():
    """After a repack the new pack has A as a delta on B while the old one has B as a delta on A."""
    old = copy(1), copy(2, 1)
    new = copy(2, pack=2), copy(1, 2, pack=2)
    for copies in ((*old, *new), (*new, *old), (old[1], new[1], old[0], new[0])):
        for start in (1, 2):
            assert find_chain(name(start), lookup(*copies), 8)[-1].base is None


def test_missing_objects_and_bases_are_named():
    with pytest.raises(ObjectMissingError, match=f"object '{name(5).hex()}' is not in the store"):
        find_chain(name(5), lookup(), 8)
    with pytest.raises(ObjectMissingError, match=f"needs its base '{name(4).hex()}'"):
        find_chain(name(5), lookup(copy(5, 4)), 8)


def test_a_second_copy_helps_where_the_base_of_the_first_is_missing():
    copies = copy(1, 9), copy(1, 2, pack=2), copy(2)
    assert find_chain(name(1), lookup(*copies), 8) == [copies[1], copies[2]]


@given(st.lists(st.tuples(st.integers(0, 7), st.none() | st.integers(0, 7)), max_size=24), st.integers(0, 7))
def test_any_graph_gives_a_chain_that_holds_together_or_an_error(edges, start):
    copies = [copy(number, base, pack) for pack, (number, base) in enumerate(edges)]
    try:
        chain = find_chain(name(start), lookup(*copies), 64)
    except (IntegrityError, ObjectMissingError):
        return
    assert chain[0].object_id == name(start)
    assert chain[-1].base is None
    assert all(above.base == below.object_id for above, below in itertools.pairwise(chain))
    assert len({one.object_id for one in chain}) == len(chain)
