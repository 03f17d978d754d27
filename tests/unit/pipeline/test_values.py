"""Values of every float, against numpy and ml_dtypes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from coral_git.pipeline.float_dtypes import is_float
from coral_git.pipeline.values import computed_in, decode, encode, is_within, value_width
from coral_git.types import DTYPES

kinds = pytest.importorskip("ml_dtypes")

NUMPY = {
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(kinds.bfloat16),
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
    "C64": np.dtype("<f4"),
    "C128": np.dtype("<f8"),
    "F16_BE": np.dtype(">f2"),
    "F32_BE": np.dtype(">f4"),
    "F64_BE": np.dtype(">f8"),
    "C64_BE": np.dtype(">f4"),
    "C128_BE": np.dtype(">f8"),
    "F8_E4M3": np.dtype(kinds.float8_e4m3fn),
    "F8_E5M2": np.dtype(kinds.float8_e5m2),
    "F8_E4M3FNUZ": np.dtype(kinds.float8_e4m3fnuz),
    "F8_E5M2FNUZ": np.dtype(kinds.float8_e5m2fnuz),
}


def test_these_are_all_floats():
    assert {name for name, dtype in DTYPES.items() if is_float(dtype)} == set(NUMPY)
    for name, kind in NUMPY.items():
        assert value_width(DTYPES[name]) == kind.itemsize
        assert computed_in(DTYPES[name]) == (np.float64 if kind.itemsize == 8 else np.float32)


def same(one, other):
    """Equal, with the signs of zeros; every NaN is as good as another."""
    nan = np.isnan(one) & np.isnan(other)
    return ((one == other) & (np.signbit(one) == np.signbit(other))) | nan


@pytest.mark.parametrize("name", NUMPY)
def test_every_pattern_is_read(name):
    kind = NUMPY[name]
    patterns = np.random.default_rng(0).integers(0, 256, 1 << 14, np.uint8)
    if kind.itemsize == 1:
        patterns = np.arange(256, dtype=np.uint8)
    with np.errstate(invalid="ignore"):
        expected = patterns.view(kind).astype(computed_in(DTYPES[name]))
    found = decode(patterns.tobytes(), DTYPES[name])
    assert found.dtype == expected.dtype
    assert same(found, expected).all()


@pytest.mark.parametrize("name", NUMPY)
@given(data=st.data())
def test_values_are_rounded_to_the_nearest(name, data):
    dtype, kind = DTYPES[name], NUMPY[name]
    wide = computed_in(dtype)
    values = data.draw(hnp.arrays(wide, st.integers(1, 40)))
    small = data.draw(hnp.arrays(np.float32, 20, elements=st.floats(-70000, 70000, width=32)))
    values = np.concatenate([values, small.astype(wide)])
    with np.errstate(over="ignore", invalid="ignore"):
        expected = values.astype(kind)
    found = np.frombuffer(encode(values, dtype), kind)
    with np.errstate(invalid="ignore"):
        assert same(found.astype(wide), expected.astype(wide)).all()
    finite = bool(np.isfinite(expected.astype(wide)).all())
    assert not is_within(values, dtype) or finite
    if finite and np.abs(values).max() < 100:
        assert is_within(values, dtype)


@pytest.mark.parametrize("name", [name for name, kind in NUMPY.items() if kind.itemsize == 1])
def test_ties_between_8_bit_floats_go_to_the_even_pattern(name):
    every = decode(bytes(range(128)), DTYPES[name])
    finite = every[np.isfinite(every)]
    middles = (finite[1:] + finite[:-1]) / 2
    values = np.concatenate([middles, -middles]).astype(np.float32)
    assert encode(values, DTYPES[name]) == values.astype(NUMPY[name]).tobytes()


def test_a_nan_stays_one():
    odd = {
        4: np.array([0x7F800001, 0xFFFFFFFF], "<u4").view("<f4"),
        8: np.array([0x7FF0000000000001, 0xFFFFFFFFFFFFFFFF], "<u8").view("<f8"),
    }
    for name in NUMPY:
        dtype = DTYPES[name]
        found = decode(bytes(encode(odd[computed_in(dtype).itemsize], dtype)), dtype)
        assert np.isnan(found).all()
