"""Bases of another element: the casts are those of the format, on every machine and for every bit pattern."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coral_git.codecs.facing import base_window, can_face, face
from coral_git.codecs.registry import codec_by_id
from coral_git.types import Element

HALVES = (Element.BF16, Element.F16)
NUMPY = {Element.BF16: ml_dtypes.bfloat16, Element.F16: np.float16}
ALL = np.arange(1 << 16, dtype=np.uint16)


@pytest.fixture(scope="module")
def restore() -> ModuleType:
    path = Path(__file__).parents[3] / "docs/format/restore.py"
    spec = importlib.util.spec_from_file_location("restore", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("half", HALVES)
def test_every_half_becomes_its_float_and_comes_back(half: Element) -> None:
    wide = np.frombuffer(face(ALL.tobytes(), half, Element.F32), "<f4")
    expected = ALL.view(NUMPY[half]).astype(np.float32)
    numbers = ~np.isnan(expected)
    assert np.array_equal(wide.view(np.uint32)[numbers], expected.view(np.uint32)[numbers])
    assert np.isnan(wide[~numbers]).all()
    back = np.frombuffer(face(wide.tobytes(), Element.F32, half), "<u2")
    assert np.array_equal(back[numbers], ALL[numbers])


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("scale", [1e-9, 1e-6, 6e-5, 1, 1e5, 1e38])
def test_floats_are_rounded_to_even(half: Element, scale: float) -> None:
    drawn = np.random.default_rng(3).standard_normal(50_000) * scale
    with np.errstate(over="ignore"):
        floats = drawn.astype(np.float32)
        expected = floats.astype(NUMPY[half]).view(np.uint16)
    assert np.array_equal(np.frombuffer(face(floats.tobytes(), Element.F32, half), "<u2"), expected)


@given(st.lists(st.integers(0, (1 << 32) - 1), max_size=50), st.sampled_from(HALVES), st.binary(max_size=3))
def test_the_independent_reader_casts_alike(
    restore: ModuleType, units: list[int], half: Element, cut: bytes
) -> None:
    floats = np.array(units, "<u4").tobytes() + cut
    halves = np.array(units, "<u8").astype("<u2").tobytes() + cut[:1]
    assert bytes(face(floats, Element.F32, half)) == restore.cast(floats, Element.F32, half)
    assert bytes(face(halves, half, Element.F32)) == restore.cast(halves, half, Element.F32)


def test_the_independent_reader_casts_every_half_alike(restore: ModuleType) -> None:
    for half in HALVES:
        assert bytes(face(ALL.tobytes(), half, Element.F32)) == restore.cast(ALL.tobytes(), half, Element.F32)


def test_a_base_of_its_own_element_stays_as_it_is() -> None:
    base = memoryview(b"12345")
    for element in Element:
        assert can_face(element, element)
        assert face(base, element, element) is base


def test_no_other_pairs() -> None:
    pairs = {(a, b) for a in Element for b in Element if a != b and can_face(a, b)}
    assert pairs == {(a, b) for half in HALVES for a, b in ((half, Element.F32), (Element.F32, half))}
    with pytest.raises(ValueError, match="F64 cannot become F32"):
        face(b"", Element.F64, Element.F32)


def test_windows_count_in_units_of_the_base() -> None:
    sub = codec_by_id(4)
    assert base_window(sub, Element.F32, Element.F32, 8, 400, 40) == (408, 40)
    assert base_window(sub, Element.F32, Element.BF16, 8, 400, 43) == (208, 20)
    assert base_window(sub, Element.BF16, Element.F32, 8, 400, 41) == (808, 80)
