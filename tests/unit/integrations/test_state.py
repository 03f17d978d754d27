"""States of trainings are taken apart and put together exactly."""

from __future__ import annotations

import enum
import math
import random
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from coral_git.api.arrays import tensor_data
from coral_git.errors import IntegrityError, UsageError
from coral_git.integrations.models import as_torch
from coral_git.integrations.rng import random_state, set_random_state
from coral_git.integrations.state import STATE, flatten, read_state

OF_TORCH = st.sampled_from(
    [
        torch.float32,
        torch.bfloat16,
        torch.int8,
        torch.device("cpu"),
        torch.device("cuda", 1),
        torch.Size([2, 0]),
    ]
)
PATHS = st.lists(st.text("ab.é/ \udc80", min_size=1)).map(lambda parts: Path(*parts))
KEYS = st.integers() | st.text() | st.tuples(st.integers(), st.text()) | PATHS | OF_TORCH
PLAIN = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.complex_numbers()
    | PATHS | OF_TORCH | st.sets(KEYS) | st.frozensets(KEYS)
)  # fmt: skip
STATES = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(KEYS, inner),
    max_leaves=20,
)


def unflatten(tensors):
    """The state of tensors by name, as it is read from a file."""
    return read_state([tensor_data(name, value) for name, value in tensors.items()], as_torch)


class Color(enum.IntEnum):
    RED = 1


def alike(one, other) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return (
            one != one
            if other != other
            else one == other and math.copysign(1, one) == math.copysign(1, other)
        )
    if isinstance(one, complex):
        return alike(one.real, other.real) and alike(one.imag, other.imag)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, dict):
        return list(one) == list(other) and all(alike(one[key], other[key]) for key in one)
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, np.ndarray | np.generic):
        return one.dtype == other.dtype and np.array_equal(one, other)
    return one == other


@given(STATES)
def test_states_come_back(state):
    back = unflatten(flatten(state))
    assert alike(back, state)
    assert flatten(back)[STATE].tobytes() == flatten(state)[STATE].tobytes()


def test_what_stays_a_dictionary():
    assert type(unflatten(flatten(OrderedDict(b=1, a=2)))) is dict


def test_tensors_and_arrays():
    state = {
        "state": {0: {"exp_avg": torch.ones(3, dtype=torch.bfloat16), "step": torch.tensor(4.0)}},
        "array": np.arange(3),
        "scalar": np.float32(0.1),
        "": torch.zeros(1),
        STATE: torch.zeros(2),
        "state.0": {"exp_avg": torch.zeros(1)},
    }
    tensors = flatten(state)
    assert "state.0.exp_avg" in tensors
    assert len(tensors) == 8
    assert alike(unflatten(tensors), state)


def test_the_form_on_disk():
    text = flatten({"lr": 0.1, "betas": (0.9, None), 1: [b"x", True]})[STATE].tobytes()
    assert text == (
        b'["d",[["lr",["f","0x1.999999999999ap-4"]],["betas",["t",[["f","0x1.ccccccccccccdp-1"],null]]],'
        b'[1,["l",[["y","eA=="],true]]]]]'
    )


def test_the_form_on_disk_of_what_came_later():
    state = [
        1j,
        Path("a/b"),
        {2, 1},
        frozenset("a"),
        torch.bfloat16,
        torch.device("cuda", 1),
        torch.Size([2, 3]),
    ]
    assert flatten(state)[STATE].tobytes() == (
        b'["l",[["c",["0x0.0p+0","0x1.0000000000000p+0"]],["p","a/b"],["s",[1,2]],["z",["a"]],'
        b'["D","bfloat16"],["V","cuda:1"],["S",[2,3]]]]'
    )


@pytest.mark.parametrize("value", [object(), {1: Color.RED}, lambda: 0, Color.RED, torch.nn.Linear])
def test_what_cannot_be_kept_is_refused_by_name(value):
    with pytest.raises(UsageError, match=r"'a\.b(\.1)?' of the state of the training is of the type"):
        flatten({"a": {"b": value}})


def test_what_is_nested_too_deep():
    state: list = []
    for _ in range(70):
        state = [state]
    with pytest.raises(UsageError, match="nested too deep"):
        flatten(state)
    deep = b"[" * 5000 + b"]" * 5000
    with pytest.raises((IntegrityError, RecursionError)):
        unflatten({STATE: np.frombuffer(deep, np.uint8)})


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b'["z",1]',
        b'["x","gone"]',
        b'["f","one"]',
        b'["d",[1]]',
        b"[1]",
        b'["s",[["l",[]]]]',
        b'["D","nn"]',
        b'["V","moon"]',
        b'["S",["x"]]',
        b'["c",["0x1p0","y"]]',
        b'["p",1]',
    ],
)
def test_what_is_no_state_is_refused(text):
    with pytest.raises(IntegrityError, match="no state of a training"):
        unflatten({STATE: np.frombuffer(text, np.uint8)})


def test_random_generators_go_on_where_they_were():
    state = unflatten(flatten(random_state()))
    first = torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random()
    set_random_state(state)
    assert (torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random()) == first
