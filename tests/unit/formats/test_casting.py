"""Casts for export: as torch rounds, from every float to every float, in pieces of any size."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coral_git.errors import UsageError
from coral_git.formats.base import TensorData
from coral_git.formats.casting import as_dtype, parse_float
from coral_git.types import DTYPES

torch = pytest.importorskip("torch")
TORCH = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
SPECIAL = [
    0.0,
    -0.0,
    np.inf,
    -np.inf,
    np.nan,
    1e-45,
    6e-8,
    65504.0,
    65519.99,
    65520.0,
    3.4e38,
    1e308,
    1 + 2**-9,
]
SPECIAL += [1 + 2**-8 + 2**-40, 1 + 2**-11 + 2**-50, 2.0**-24 * (1 + 2**-30), 1.5 * 2.0**-25, 2.0**-150]


def tensor_of(values: np.ndarray, name: str) -> TensorData:
    data = torch.from_numpy(values).to(TORCH[name]).view(torch.uint8).numpy().tobytes()
    return TensorData("t", DTYPES[name], (len(values),), lambda start, length: data[start : start + length])


def cast_values(own: str, wanted: str) -> tuple[np.ndarray, np.ndarray]:
    """Many values as float64, and what they become."""
    rng = np.random.default_rng(1)
    values = np.concatenate([SPECIAL, rng.standard_normal(3000) * 10.0 ** rng.integers(-12, 6, 3000)])
    tensor = tensor_of(values, own)
    cast = as_dtype(tensor, DTYPES[wanted])
    before = torch.frombuffer(bytearray(tensor.read(0, tensor.length)), dtype=TORCH[own])
    after = torch.frombuffer(bytearray(cast.read(0, cast.length)), dtype=TORCH[wanted])
    return before.double().numpy(), after.double().numpy()


@pytest.mark.parametrize(
    ("own", "wanted"), [(a, b) for a in TORCH for b in TORCH if (a, b) != ("F64", "BF16")]
)
def test_values_are_rounded_as_others_do(own: str, wanted: str) -> None:
    before, after = cast_values(own, wanted)
    dtype = {"F64": "f8", "F32": "f4", "F16": "f2", "BF16": ml_dtypes.bfloat16}[wanted]
    with np.errstate(over="ignore"):
        expected = before.astype(dtype).astype(np.float64)
    assert np.array_equal(after, expected, equal_nan=True)
    assert (np.signbit(after) == np.signbit(before)).all()


def test_from_double_to_bfloat16_is_rounded_once() -> None:
    before, after = cast_values("F64", "BF16")
    assert (np.isnan(after) == np.isnan(before)).all()
    with np.errstate(over="ignore"):
        units = torch.from_numpy(after).to(torch.bfloat16).view(torch.int16).numpy().astype(np.int32)
    finite = np.isfinite(after) & (np.abs(before) < 3e38)
    before, after, units = before[finite], after[finite], units[finite]
    for step in (-1, 1):
        other = torch.from_numpy((units + step).astype(np.int16)).view(torch.bfloat16).double().numpy()
        nearer, as_near = (
            np.abs(other - before) < np.abs(after - before),
            np.abs(other - before) == np.abs(after - before),
        )
        assert not (nearer & np.isfinite(other)).any()
        assert not (as_near & (units % 2 != 0) & (other != after)).any()


@settings(max_examples=60)
@given(st.sampled_from(sorted(TORCH)), st.sampled_from(sorted(TORCH)), st.integers(0, 70), st.integers(0, 70))
def test_any_range_can_be_read(own: str, wanted: str, start: int, length: int) -> None:
    cast = as_dtype(tensor_of(np.linspace(-3, 3, 9), own), DTYPES[wanted])
    whole = bytes(cast.read(0, cast.length))
    assert bytes(cast.read(start, length)) == whole[start : start + length]


def test_what_is_no_plain_float_stays() -> None:
    for name in ("I64", "BOOL", "F8_E4M3", "C64", "F32_BE", "Q4_0"):
        tensor = TensorData("t", DTYPES[name], (64,), lambda start, length: bytes(length))
        assert as_dtype(tensor, DTYPES["BF16"]) is tensor


def test_names_of_dtypes() -> None:
    assert [parse_float(name).name for name in ("bf16", "BFLOAT16", "half", "fp32")] == [
        "BF16",
        "BF16",
        "F16",
        "F32",
    ]
    with pytest.raises(UsageError, match="cannot cast to 'int8'"):
        parse_float("int8")
