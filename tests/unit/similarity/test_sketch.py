"""Sketches: near for similar tensors, far for others, and the same for ever."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coral_git.similarity.sketch import SKETCHED_UNITS, Sketch, as_words, cosine, distances, sketches
from coral_git.types import Element

RNG = np.random.default_rng(5)
WEIGHTS = RNG.standard_normal(300_000).astype(np.float32)
NOISE = RNG.standard_normal(300_000).astype(np.float32)


def sketched(values: np.ndarray, element: Element) -> list[Sketch]:
    raw = values.tobytes()
    return sketches(lambda start, length: raw[start : start + length], len(raw), element)


def apart(one: list[Sketch], other: list[Sketch]) -> int:
    reaches = {sketch.reach: sketch.bits for sketch in one}
    pairs = [(reaches[sketch.reach], sketch.bits) for sketch in other if sketch.reach in reaches]
    return min((int(distances(a, as_words([b]))[0]) for a, b in pairs), default=256)


@pytest.mark.parametrize("share", [0.001, 0.01, 0.1])
def test_a_fine_tune_is_near(share: float) -> None:
    tuned = WEIGHTS + np.float32(share) * NOISE
    assert apart(sketched(WEIGHTS, Element.F32), sketched(tuned, Element.F32)) <= 32


def test_another_tensor_is_far() -> None:
    assert apart(sketched(WEIGHTS, Element.F32), sketched(NOISE, Element.F32)) > 80


@pytest.mark.parametrize(
    ("dtype", "element"),
    [(ml_dtypes.bfloat16, Element.BF16), (np.float16, Element.F16), (np.float64, Element.F64)],
)
def test_other_precisions_are_near(dtype: type, element: Element) -> None:
    assert apart(sketched(WEIGHTS, Element.F32), sketched(WEIGHTS.astype(dtype), element)) <= 4


@pytest.mark.parametrize("units", [20_000, 150_000, 290_000])
def test_a_tensor_that_grew_is_near(units: int) -> None:
    assert (
        apart(sketched(WEIGHTS[:units], Element.F32), sketched(WEIGHTS[: units * 9 // 10], Element.F32)) == 0
    )


def test_small_constant_and_opaque_objects_have_none() -> None:
    assert sketched(WEIGHTS[: SKETCHED_UNITS - 1], Element.F32) == []
    assert sketched(np.zeros(100_000, np.float32), Element.F32) == []
    assert sketched(np.full(100_000, np.nan, np.float32), Element.F32) == []
    assert sketched(WEIGHTS, Element.BYTES) == []


def test_the_bits_never_change() -> None:
    ramp = np.arange(1 << 13, dtype=np.float32) - 3000
    (only,) = sketched(ramp, Element.F32)
    assert only.reach == 13
    assert only.bits.hex() == "fcdafe091c04d086bca194f5613f1d5651a14e19cbbeb0a296542bdc6c700456"


@given(st.sampled_from([one for one in Element if one != Element.BYTES]), st.integers(0, 2**32))
def test_any_bytes_can_be_sketched(element: Element, seed: int) -> None:
    raw = np.random.default_rng(seed).integers(0, 256, SKETCHED_UNITS * element.width + 3, np.uint8)
    for sketch in sketched(raw, element):
        assert len(sketch.bits) == 32


def test_cosine() -> None:
    assert cosine(WEIGHTS.tobytes(), WEIGHTS.tobytes(), Element.F32) == pytest.approx(1)
    assert cosine(WEIGHTS.tobytes(), (-WEIGHTS).tobytes(), Element.F32) == pytest.approx(-1)
    assert abs(cosine(WEIGHTS.tobytes(), NOISE.tobytes(), Element.F32)) < 0.02
    assert cosine(bytes(40), bytes(40), Element.F32) == 0
