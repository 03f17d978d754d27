"""Figures block by block, against numpy on whole arrays."""

from __future__ import annotations

import json
import math

import ml_dtypes
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from coral_git.diff import figures as module
from coral_git.diff.figures import measure
from coral_git.pipeline.float_dtypes import BLOCK_VALUES

KINDS = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "F32_BE": np.dtype(">f4"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
    "I16": np.dtype("<i2"),
    "U16_BE": np.dtype(">u2"),
    "I32": np.dtype("<i4"),
    "I64": np.dtype("<i8"),
    "U64": np.dtype("<u8"),
    "BOOL": np.dtype("u1"),
}
FLOATS = [name for name in KINDS if name[0] in "FB" and name != "BOOL"]


def bits(values):
    return values.view(f"V{values.dtype.itemsize}").ravel()


@np.errstate(all="ignore")
def reference(old, new):
    """The same from whole arrays in float64."""
    count = min(old.size, new.size)
    start, end = (one.ravel()[:count] for one in (old, new))
    if start.dtype == end.dtype:
        changed = int(np.count_nonzero(bits(start) != bits(end)))
    start, end = (one.astype(np.float64) for one in (start, end))
    if old.dtype != new.dtype:
        changed = int(np.count_nonzero((start != end) & ~(np.isnan(start) & np.isnan(end))))
    delta = end - start
    a, b, d = (np.where(np.isfinite(one), one, 0.0) for one in (start, end, delta))
    norm, new_norm = np.linalg.norm(a), np.linalg.norm(b)
    return {
        "values": count,
        "changed": changed,
        "norm": norm,
        "new_norm": new_norm,
        "delta_norm": np.linalg.norm(d),
        "max_delta": np.abs(d).max(initial=0.0),
        "cosine": a @ b / (norm * new_norm) if norm * new_norm else None,
        "zeros": int(np.count_nonzero(end == 0)),
        "old_zeros": int(np.count_nonzero(start == 0)),
        "nans": int(np.isnan(end).sum()),
        "infinities": int(np.isinf(end).sum()),
    }


def check(found, old, new):
    expected = reference(old, new)
    for name, value in expected.items():
        number = getattr(found, name)
        if isinstance(value, int) or value is None:
            assert number == value, name
        elif math.isfinite(value):  # squares of doubles overflow where numpy's do
            assert math.isclose(number, value, rel_tol=1e-9, abs_tol=1e-150), name
        else:
            assert not math.isfinite(number), name
    assert 0 <= found.share <= 1
    if found.histogram is not None:
        edges, counts = found.histogram
        assert sum(counts) == expected["values"]
        assert len(edges) == len(counts) + 1
        assert list(edges) == sorted(edges)
        assert all(map(math.isfinite, edges))
        assert edges[-1] == -edges[0] == found.max_delta


@st.composite
def versions(draw):
    """Two arrays of random bits of the same shape, alike in some values."""
    names = [draw(st.sampled_from(sorted(KINDS)))]
    names.append(draw(st.sampled_from([names[0], names[0], *FLOATS])))
    shape = draw(st.sampled_from([(), (7,), (4, 6), (3, 2, 2), (0, 3)]))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    size = math.prod(shape)

    def values(name):
        kind = KINDS[name]
        if draw(st.booleans()) and name in FLOATS:
            return generator.standard_normal(shape).astype(kind)
        return np.frombuffer(generator.bytes(size * kind.itemsize), kind).reshape(shape)

    with np.errstate(all="ignore"):
        old, new = map(values, names)
    if names[0] == names[1]:
        new = np.where(generator.random(shape) < draw(st.sampled_from([0, 0.5, 1])), old, new).astype(
            old.dtype
        )
    return names, old, new


@settings(max_examples=150, deadline=None)
@given(versions(), st.booleans())
def test_random_bits(array, case, bins):
    names, old, new = case
    before, after = array(old, names[0]), array(new, names[1])
    found = measure(before.entry, before.read, after.entry, after.read, bins)
    check(found, old, new)
    assert (found.histogram is None) == (not bins or not found.delta_norm)


@pytest.mark.parametrize("name", KINDS)
def test_blocks_end_anywhere(array, monkeypatch, name):
    monkeypatch.setattr(module, "BLOCK_VALUES", 5)
    generator = np.random.default_rng(0)
    for count in (1, 4, 5, 6, 10, 23):
        old = generator.integers(0, 3, count).astype(KINDS[name])
        new = generator.integers(0, 3, count).astype(KINDS[name])
        before, after = array(old, name), array(new, name)
        check(measure(before.entry, before.read, after.entry, after.read, True), old, new)


def test_real_blocks(array):
    generator = np.random.default_rng(0)
    old = generator.standard_normal(2 * BLOCK_VALUES + 3).astype(np.float32)
    new = old.copy()
    new[[0, BLOCK_VALUES - 1, 2 * BLOCK_VALUES, -1]] = [np.nan, np.inf, 0, -0.0]
    before, after = array(old, "F32"), array(new, "F32")
    found = measure(before.entry, before.read, after.entry, after.read, True)
    check(found, old, new)
    assert (found.changed, found.nans, found.infinities, found.zeros) == (4, 1, 1, 2)


def test_odd_values(array):
    old = np.array([0.0, -0.0, np.nan, np.inf, -np.inf, 1.0, 1.0, 2.0], np.float32)
    new = np.array([-0.0, -0.0, np.nan, -np.inf, 3.0, np.nan, 1.0, 0.0], np.float32)
    new.view("<u4")[2] ^= 1
    before, after = array(old, "F32"), array(new, "F32")
    found = measure(before.entry, before.read, after.entry, after.read, False)
    check(found, old, new)
    assert found.changed == 6
    assert (found.nans, found.infinities, found.zeros, found.old_zeros) == (2, 1, 3, 2)
    assert found.max_delta == 2


@pytest.mark.parametrize("rows", [0, 1, 3, 9])
def test_a_first_dimension_that_grew_or_shrank(array, rows):
    old = np.arange(20, dtype=np.float32).reshape(5, 4)
    new = -np.arange(4 * rows, dtype=np.float32).reshape(rows, 4)
    before, after = array(old, "F32"), array(new, "F32")
    found = measure(before.entry, before.read, after.entry, after.read, True)
    check(found, old, new)
    assert found.values == 4 * min(rows, 5)
    assert found.rank is None


def test_what_does_not_face_each_other(array):
    values = np.zeros((4, 6), np.float32)
    cases = [
        (array(values, "F32"), array(values[:, :3], "F32")),
        (array(values, "F32"), array(np.zeros((2, 18), np.uint8), "Q4_0")),
        (array(np.zeros(18, np.uint8).reshape(1, 18), "Q4_0"), array(np.zeros((1, 34), np.uint8), "Q8_0")),
    ]
    for before, after in cases:
        assert measure(before.entry, before.read, after.entry, after.read, True) is None


def test_quantized_blocks_are_counted(array, monkeypatch):
    monkeypatch.setattr(module, "_PIECE", 40)
    old = np.arange(32 * 18, dtype=np.uint8)
    new = old.copy()
    new[[0, 1, 18 * 5 + 17, -1]] += 1
    before, after = (array(one, "Q4_0") for one in (old, new))
    before, after = ((one.entry._replace(shape=(32, 32)), one.read) for one in (before, after))
    found = measure(*before, *after, True)
    assert found == found.__class__(values=32, changed=3)


@pytest.mark.parametrize("scale", [5e-324, 1e-160, 1e-40, 1e150, 1e300, 1.7e308])
def test_extreme_values_give_numbers_or_nothing(array, scale):
    old = np.array([1.0, -1.0, 0.0, 0.0]) * scale
    new = np.array([-1.0, 1.0, 1.0, 1.0]) * scale
    before, after = array(old, "F64"), array(new, "F64")
    found = measure(before.entry, before.read, after.entry, after.read, True)
    assert found.changed == 4
    assert math.isfinite(found.max_delta)
    if found.histogram is not None:
        assert sum(found.histogram.counts) == 4
        assert all(map(math.isfinite, found.histogram.edges))
    assert json.dumps(found.histogram and found.histogram.edges, allow_nan=False)


@example([0.0] * 8)
@settings(deadline=None)
@given(st.lists(st.floats(-10, 10, width=32), min_size=8, max_size=8))
def test_the_histogram_counts_every_change(array, values):
    old = np.zeros(8, np.float32)
    new = np.array(values, np.float32)
    before, after = array(old, "F32"), array(new, "F32")
    found = measure(before.entry, before.read, after.entry, after.read, True)
    check(found, old, new)
    if found.histogram is not None:
        edges, counts = found.histogram
        inner = np.histogram(new.astype(np.float64), edges)[0]
        assert counts == tuple(inner)
