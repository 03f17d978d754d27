"""Boxes cover a range, in the order of C, and hardly more than it."""

from __future__ import annotations

from math import prod

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from coral_git.formats.boxes import cover, is_tiling

SHAPES = st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple)


@given(SHAPES, st.data())
def test_boxes_are_what_lies_between(shape, data):
    size = prod(shape)
    start = data.draw(st.integers(0, size))
    stop = data.draw(st.integers(start, size))
    most = data.draw(st.integers(0, 30))
    values = np.arange(size).reshape(shape)
    covered = cover(shape, start, stop, most)
    found = [values[box.place][box.first : box.last].ravel() for box in covered.boxes]
    flat = np.concatenate([*found, np.zeros(0, int)])
    assert covered.start <= start
    assert flat.tolist() == list(range(covered.start, covered.start + len(flat)))
    if start < stop:
        assert covered.start + len(flat) >= stop
    row = max(most, 1)
    assert len(flat) <= stop - start + 2 * row


def test_what_tiles_an_array():
    grid = [((row, column), (2, 3)) for row in (0, 2) for column in (0, 3, 6)]
    assert is_tiling((4, 9), grid)
    assert is_tiling((4, 9), [((0, 0), (4, 4)), ((0, 4), (1, 5)), ((1, 4), (3, 5))])
    assert is_tiling((), [((), ())])
    assert is_tiling((3, 0), [])
    assert not is_tiling((4, 9), grid[1:])
    assert not is_tiling((4, 9), [*grid, grid[0]])
    assert not is_tiling((4, 9), [*grid[1:], ((0, 0), (2, 2)), ((0, 3), (2, 1))])
    assert not is_tiling((), [((), ()), ((), ())])
    assert not is_tiling((4,), [])
    assert not is_tiling((3, 0), [((0, 0), (3, 1))])
    assert not is_tiling((4,), [((0,), (5,))])


def test_many_blocks_are_judged_quickly():
    assert is_tiling(
        (1000, 300), [((row, column), (1, 100)) for row in range(1000) for column in (0, 100, 200)]
    )
    # each cut takes off one block: an attack on whoever cuts until the end
    size = 2000
    spiral = [((number, number), (1, size - number)) for number in range(size)]
    spiral += [((number + 1, number), (size - number - 1, 1)) for number in range(size - 1)]
    assert not is_tiling((size, size), spiral)


@given(SHAPES, st.data())
def test_a_tiling_fills_each_element_once(shape, data):
    blocks = [(tuple(0 for _ in shape), shape)]
    for _ in range(data.draw(st.integers(0, 5))):
        offsets, sizes = blocks.pop(data.draw(st.integers(0, len(blocks) - 1)))
        axis = data.draw(st.integers(0, len(shape) - 1))
        at = data.draw(st.integers(0, sizes[axis]))
        for start, size in ((0, at), (at, sizes[axis] - at)):
            moved = [*offsets]
            moved[axis] += start
            blocks.append((tuple(moved), (*sizes[:axis], size, *sizes[axis + 1 :])))
    blocks = [block for block in blocks if prod(block[1])]
    blocks = data.draw(st.permutations(blocks))
    assert is_tiling(shape, blocks)
    assert not is_tiling(shape, blocks[1:])
    assert not is_tiling(shape, [*blocks, blocks[0]])
