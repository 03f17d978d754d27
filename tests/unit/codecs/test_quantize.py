"""What quantizing loses is bounded, and what is left of it is found again in the numbers alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coral_git.codecs.quantize import GROUP, MOST_STEPS, from_groups, quantize, recover, to_groups

UNITS = 16 * GROUP + 100
SHAPES = ["normal", "heavy-tailed", "uniform", "sparse", "constant", "zero", "tiny", "huge", "mixed"]
BASES = ["none", "near", "far", "around one", "heavy-tailed"]


def draw(shape: str, seed: int = 1, units: int = UNITS) -> np.ndarray:
    rng = np.random.default_rng(seed)
    normal = rng.standard_normal(units)
    values = {
        "normal": normal * 0.02,
        "heavy-tailed": rng.standard_t(2, units) * 0.02,
        "uniform": rng.uniform(-1, 1, units),
        "sparse": normal * (rng.random(units) < 0.01),
        "constant": np.full(units, 0.7),
        "zero": np.zeros(units),
        "tiny": normal * 1e-33,
        "huge": normal * 1e37,
        "mixed": normal * np.repeat(10.0 ** rng.integers(-30, 30, units // 64 + 1), 64)[:units],
    }
    return values[shape].astype(np.float32)


def draw_base(kind: str, units: int = UNITS) -> np.ndarray | None:
    rng = np.random.default_rng(2)
    bases = {
        "none": None,
        "near": draw("normal", 3, units) * np.float32(1e-3),
        "far": draw("normal", 4, units) * np.float32(1e3),
        "around one": (1 + 0.02 * rng.standard_normal(units)).astype(np.float32),
        "heavy-tailed": draw("heavy-tailed", 5, units),
    }
    return bases[kind]


def add(values: np.ndarray, base: np.ndarray | None) -> np.ndarray:
    return values if base is None else values + base


def bases_like(values: np.ndarray, base: np.ndarray | None) -> np.ndarray:
    return np.zeros_like(to_groups(values)) if base is None else to_groups(base)


def bits_of(values: np.ndarray) -> list[int]:
    return values.view(np.uint32).tolist()


def group_scales(values: np.ndarray, base: np.ndarray | None, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Largest residual and scale of each group by the words of the documentation, in exact enough numbers."""
    residuals = to_groups(values).astype(np.float64) - bases_like(values, base)
    peaks = np.abs(residuals).max(axis=1)
    wanted = (peaks / MOST_STEPS[bits]).astype(np.float32)
    codes = np.arange(0x80, 0x7F80, dtype=np.uint32) << np.uint32(16)
    table = codes.view(np.float32)
    return peaks, table[np.searchsorted(table, wanted)].astype(np.float64)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("kind", BASES)
@pytest.mark.parametrize("shape", SHAPES)
def test_results_are_near_and_found_again(shape: str, kind: str, bits: int) -> None:
    base = draw_base(kind)
    values = add(draw(shape), base)
    before = values.copy()
    results = quantize(values, base, bits)
    assert bits_of(values) == bits_of(before)

    peaks, scales = group_scales(values, base, bits)
    normal = peaks / MOST_STEPS[bits] >= 2.0**-126
    assert (scales <= peaks / MOST_STEPS[bits] * (1 + 2**-7))[normal].all()
    errors = np.abs(to_groups(results).astype(np.float64) - to_groups(values))
    bounds = np.broadcast_to(scales[:, None] / 2, errors.shape)
    if base is not None:
        bounds = bounds * (1 + 2**-35) + np.spacing(np.abs(to_groups(results))).astype(np.float64) / 2
    assert (errors <= bounds).all()

    grid = recover(to_groups(results), bases_like(results, base))
    kept = (to_groups(results).view(np.uint32) == to_groups(values).view(np.uint32)).all(axis=1)
    assert (kept | (grid.bits > 0)).all()
    if shape in ("normal", "heavy-tailed", "uniform", "huge"):
        assert (grid.bits > 0).all()
    if base is None and shape not in ("zero", "tiny"):
        assert (grid.bits == bits).all()
    assert bits_of(quantize(results, base, bits)) == bits_of(results)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("bad", [np.nan, -np.inf, np.inf])
@pytest.mark.parametrize("in_base", [False, True])
def test_groups_with_units_that_are_no_numbers_stay_as_they_are(bits: int, bad: float, in_base: bool) -> None:
    base = draw("normal", 6)
    values = base + draw("normal") * np.float32(0.1)
    (base if in_base else values)[GROUP + 5] = bad
    results = quantize(values, base, bits)
    changed = (to_groups(results).view(np.uint32) != to_groups(values).view(np.uint32)).any(axis=1)
    assert changed.tolist() == [group != 1 for group in range(len(changed))]
    assert recover(to_groups(results), to_groups(base)).bits[1] == 0


@pytest.mark.parametrize(
    ("values", "base"),
    [
        (np.full(50, 1e-45), None),
        (np.full(50, 1.2e-38), None),
        (np.full(50, 3.4e38), np.full(50, -1e38)),
        (np.array([-0.0, 0.0]), None),
        (np.zeros(0), None),
    ],
    ids=["denormal", "denormal scale", "overflow", "zeros", "empty"],
)
def test_what_no_scale_can_tell_stays_as_it_is(values: np.ndarray, base: np.ndarray | None) -> None:
    floats = values.astype(np.float32)
    floats_base = None if base is None else base.astype(np.float32)
    for bits in (8, 16):
        assert bits_of(quantize(floats, floats_base, bits)) == bits_of(floats)


def test_eight_bits_are_not_quantized_again_to_sixteen() -> None:
    values = quantize(draw("normal"), None, 8)
    assert bits_of(quantize(values, None, 16)) == bits_of(values)
    coarser = quantize(quantize(draw("normal"), None, 16), None, 8)
    assert (recover(to_groups(coarser), np.zeros_like(to_groups(coarser))).bits == 8).all()


@given(
    st.lists(st.integers(0, (1 << 32) - 1), max_size=40),
    st.lists(st.integers(0, (1 << 32) - 1), min_size=40, max_size=40),
    st.booleans(),
    st.sampled_from([8, 16]),
)
def test_any_bits_stay_or_are_found_again(
    units: list[int], base_units: list[int], has_base: bool, bits: int
) -> None:
    values = np.array(units, np.uint32).view(np.float32)
    base = np.array(base_units[: len(units)], np.uint32).view(np.float32) if has_base else None
    results = quantize(values, base, bits)
    if bits_of(results) != bits_of(values):
        assert recover(to_groups(results), bases_like(results, base)).bits.tolist() == [bits]
        assert np.isfinite(results).all()
    assert bits_of(quantize(results, base, bits)) == bits_of(results)


@pytest.mark.parametrize("units", [0, 1, GROUP - 1, GROUP, GROUP + 1])
def test_groups_are_filled_up_with_zeros(units: int) -> None:
    values = np.arange(1, units + 1, dtype=np.float32)
    groups = to_groups(values)
    assert groups.shape == ((units + GROUP - 1) // GROUP, GROUP)
    assert np.count_nonzero(groups) == units
    assert from_groups(groups, units).tolist() == values.tolist()
