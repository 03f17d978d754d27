"""What holds for each strategy, whatever it computes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coral_git.errors import UsageError
from coral_git.merge.strategies.base import Parameters
from coral_git.merge.strategies.registry import STRATEGIES, strategy_by_name

from .memory import InMemory, draw, in_memory, merge, with_block

EACH = pytest.mark.parametrize("name", sorted(STRATEGIES))
NEEDS_BASE = [name for name, offered in STRATEGIES.items() if offered.needs_base]
RANDOM = ["dare-linear", "dare-ties"]


def most(name: str) -> int:
    return STRATEGIES[name].most_sides or 5


@EACH
@given(
    st.integers(0, 99),
    st.integers(0, 6).map(lambda blocks: blocks * 16),
    st.integers(-2, 2),
    st.sampled_from(["f4", "f8"]),
    st.floats(0.01, 1),
)
@settings(max_examples=15, deadline=None)
def test_blocks_do_not_matter(
    name: str, seed: int, whole: int, more: int, dtype: str, density: float
) -> None:
    versions = draw(seed, max(whole + more, 0), 2 + seed % (most(name) - 1), dtype)
    parameters = Parameters(density=density, gamma=0.1, alpha=0.3, seed=seed)
    at_once = merge(name, versions, parameters)
    assert at_once.dtype == versions.dtype
    for block in (1, 7, 16):
        assert merge(name, with_block(versions, block), parameters).tobytes() == at_once.tobytes()


@EACH
def test_blocks_do_not_matter_for_many_values_with_all_their_bits(name: str) -> None:
    rng = np.random.default_rng(3)
    base = rng.standard_normal(70_001).astype(np.float32)
    sides = [base + rng.standard_normal(70_001).astype(np.float32) for _ in range(2)]
    versions = in_memory(base, *sides)
    at_once = merge(name, versions)
    for block in (1000, 4096, 40_000):
        assert merge(name, with_block(versions, block)).tobytes() == at_once.tobytes()


@EACH
def test_a_block_may_be_asked_for_again_and_alone(name: str) -> None:
    versions = draw(1, 100, block=16)
    blend = strategy_by_name(name).prepare(versions, Parameters())
    first = [blend(block).tobytes() for block in versions.blocks()]
    assert [blend(block).tobytes() for block in reversed(list(versions.blocks()))] == first[::-1]


@EACH
def test_not_a_number_and_infinity_stay_where_they_are(name: str) -> None:
    clean = draw(2, 1000)
    odd = [side.copy() for side in clean.values]
    odd[0][[5, 6]] = np.nan, np.inf
    odd[1][[5, 7]] = np.nan, -np.inf
    merged = merge(name, replace(clean, values=tuple(odd)))
    assert np.isnan(merged[5])
    assert np.isfinite(np.delete(merged, [5, 6, 7])).all()


@EACH
def test_nothing_but_odd_values(name: str) -> None:
    odd = np.array([np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-45], np.float32).repeat(6)
    assert len(merge(name, in_memory(odd[::-1], odd, odd.reshape(6, 6).T.ravel()))) == 36


@EACH
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_what_nobody_changed_stays_bit_for_bit(name: str, dtype: str) -> None:
    tiny = np.finfo(dtype).smallest_subnormal
    numbers = [0.0, -0.0, 1.1, -3.3, np.finfo(dtype).max / 4, tiny, -tiny]
    base = np.array(numbers * 9 + [np.nan, -np.nan, np.inf, -np.inf], dtype)
    for sides in range(2, most(name) + 1):
        merged = merge(name, InMemory(base, (base,) * sides), Parameters(alpha=0.3))
        assert merged.tobytes() == base.tobytes()


@EACH
def test_tensors_of_zeros(name: str) -> None:
    for sides in range(2, most(name) + 1):
        merged = merge(name, in_memory(*[np.zeros(50)] * (sides + 1)))
        assert merged.tobytes() == bytes(200)


@EACH
def test_one_value_and_none(name: str) -> None:
    assert len(merge(name, in_memory([], [], []))) == 0
    assert np.isfinite(merge(name, in_memory([1.0], [2.0], [3.0]))).all()


@EACH
def test_double_precision_is_kept(name: str) -> None:
    versions = draw(4, 200, dtype="f8")
    shifted = replace(
        versions,
        base=versions.base + 1e-12,
        values=tuple(side + (index + 2) * 1e-12 for index, side in enumerate(versions.values)),
    )
    merged = merge(name, shifted)
    assert (merged != merged.astype(np.float32)).all()


@pytest.mark.parametrize("name", NEEDS_BASE)
def test_differences_need_a_base(name: str) -> None:
    versions = replace(draw(1, 10), base=None)
    with pytest.raises(ValueError, match="no base"):
        merge(name, versions)


@pytest.mark.parametrize(
    ("parameter", "values"),
    {
        "alpha": [-0.1, 1.1, float("nan")],
        "density": [0.0, -1.0, 1.01, float("nan")],
        "gamma": [-0.01, 1.0, float("nan")],
        "scale": [float("inf"), float("nan")],
        "weights": [(1.0,), (1.0, 1.0, 1.0), (1.0, float("nan")), (1.0, float("inf"))],
    }.items(),
)
@EACH
def test_parameters_out_of_range(name: str, parameter: str, values: list[float]) -> None:
    for value in values:
        parameters = Parameters()._replace(**{parameter: value})
        if parameter in strategy_by_name(name).parameters:
            with pytest.raises(UsageError, match=f"^{parameter} (is|are) ") as caught:
                merge(name, draw(1, 10), parameters)
            assert caught.value.hint
        else:
            assert merge(name, draw(1, 10), parameters).tobytes() == merge(name, draw(1, 10)).tobytes()


@EACH
def test_parameters_that_it_takes_matter(name: str) -> None:
    others = {
        "alpha": 0.2,
        "density": 0.3,
        "gamma": 0.2,
        "scale": 2.0,
        "weights": (1.0, 3.0),
        "seed": 1,
        "normalize": name != "ties",
    }
    plain = merge(name, draw(1, 1000)).tobytes()
    for parameter, value in others.items():
        changed = merge(name, draw(1, 1000), Parameters()._replace(**{parameter: value})).tobytes()
        assert (changed != plain) == (parameter in strategy_by_name(name).parameters), parameter
