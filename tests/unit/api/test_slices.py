"""Parts of tensors are what numpy cuts, and no more is read than the rows they lie in."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from coral_git.api import slices
from coral_git.api.arrays import tensor_data
from coral_git.api.slices import TensorSlice
from coral_git.errors import UsageError


def test_the_example():
    assert doctest.testmod(slices) == (0, 4)


def watched(array):
    """A part to be cut, and what is read for it."""
    reads = []
    source = tensor_data("w", array)

    def read(start, length):
        reads.append((start // array.itemsize, length // array.itemsize))
        return source.read(start, length)

    return TensorSlice(source._replace(read=read)), reads


@st.composite
def cuts(draw):
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5))
    index = draw(hnp.basic_indices(shape, allow_newaxis=False))
    return shape, index


@given(cuts())
def test_a_part_is_what_numpy_cuts(case):
    shape, index = case
    array = np.arange(int(np.prod(shape)), dtype=np.int32).reshape(shape)
    part, reads = watched(array)
    found, expected = part[index], array[index]
    assert np.array_equal(found, expected)
    assert np.shape(found) == np.shape(expected)
    assert found.dtype == expected.dtype
    for start, count in reads:
        assert 0 <= start < start + count <= array.size


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (np.s_[2:4], (40, 40)),
        (np.s_[2:4, :1], (40, 40)),
        (np.s_[3], (60, 20)),
        (np.s_[3, 1], (65, 5)),
        (np.s_[-1, 1:3], (85, 10)),
        (np.s_[4, -1, -1], (99, 1)),
        (np.s_[..., 0], (0, 100)),
        (np.s_[4:0:-2], (40, 60)),
    ],
)
def test_only_rows_that_are_needed_are_read(index, expected):
    array = np.arange(100.0).reshape(5, 4, 5)
    part, reads = watched(array)
    assert np.array_equal(part[index], array[index])
    assert reads == [expected]


def test_nothing_is_read_for_nothing():
    part, reads = watched(np.ones((4, 4)))
    assert part[2:2].shape == (0, 4)
    assert part[3:1, :2].shape == (0, 2)
    assert not reads


def test_bad_indices():
    part, _ = watched(np.ones((4, 4)))
    for index in (4, -5, (0, 4), (0, 0, 0), (..., 0, ...)):
        with pytest.raises(IndexError):
            part[index]
    for index in (True, None, [0, 1], np.array([0, 1]), 1.0, "a"):
        with pytest.raises(UsageError, match="integers and slices"):
            part[index]
    assert part[np.int64(1)].shape == (4,)
