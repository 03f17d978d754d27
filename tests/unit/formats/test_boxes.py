"""Boxes cover a range, in the order of C, and hardly more than it."""

from __future__ import annotations

from math import prod

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from coral_git.formats.boxes import cover

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
