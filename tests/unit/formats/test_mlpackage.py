"""Weights of Core ML: blobs as coremltools writes them, and odd ones."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coral_git.formats.base import Layout
from coral_git.formats.menders import mender_by_name
from coral_git.formats.mlpackage import DATA_TYPES, MlpackageReader
from coral_git.formats.registry import read_layout
from coral_git.limits import DEFAULT_LIMITS
from coral_git.types import DTYPES, BytesSource

from .hostile import ask, contents, damaged

READER = MlpackageReader()


def file_of(*blobs: tuple[int, bytes], version: int = 2, count: int | None = None) -> bytes:
    """Blobs of (number of the type, bytes), as StorageWriter.cpp of coremltools puts them."""
    file = struct.pack("<II56x", len(blobs) if count is None else count, version)
    for number, data in blobs:
        file += bytes(-len(file) % 64)
        file += struct.pack("<IIQQ40x", 0xDEADBEEF, number, len(data), len(file) + 64) + data
    return file


def layout_of(data: bytes) -> Layout:
    layout = read_layout(BytesSource(data), DEFAULT_LIMITS)
    assert layout is not None
    assert layout == ask(READER, data)
    assert layout.format == "mlpackage/1"
    return layout


SAMPLE = file_of((2, np.arange(5, dtype="<f4").tobytes()), (1, bytes(128)), (8, b"abc"))


def test_blobs_have_the_names_of_their_places() -> None:
    layout = layout_of(SAMPLE)
    assert [(t.name, t.dtype.name, t.shape) for t in layout.tensors] == [
        ("blob@64", "F32", (5,)),
        ("blob@192", "F16", (64,)),
        ("blob@384", "U8", (3,)),
    ]
    assert contents(SAMPLE, layout)["blob@64"] == np.arange(5, dtype="<f4").tobytes()
    assert mender_by_name(layout.format) is not None


@pytest.mark.parametrize("number", sorted(DATA_TYPES))
def test_every_dtype(number: int) -> None:
    dtype = DTYPES[DATA_TYPES[number]]
    (tensor,) = layout_of(file_of((number, bytes(6 * dtype.bits // 8)))).tensors
    assert (tensor.dtype, tensor.shape) == (dtype, (6,))


def test_an_odd_length_is_bytes() -> None:
    (tensor,) = layout_of(file_of((2, bytes(6)))).tensors
    assert (tensor.dtype.name, tensor.shape) == ("U8", (6,))


@pytest.mark.parametrize(
    "data",
    [
        SAMPLE[:64],
        file_of(),
        file_of((2, bytes(4)), version=1),
        file_of((2, bytes(4)), count=0),
        file_of((2, bytes(4)), count=2),
        file_of((2, bytes(4)), count=(1 << 32) - 1),
        SAMPLE.replace(b"\xef\xbe\xad\xde", b"\xef\xbe\xad\xdf"),
        file_of((2, bytes(4)))[:72] + struct.pack("<QQ", 4, 64) + bytes(108),
        file_of((2, bytes(4)))[:72] + struct.pack("<Q", (1 << 64) - 128) + file_of((2, bytes(4)))[80:],
    ],
)
def test_odd_files_are_refused(data: bytes) -> None:
    assert ask(READER, data) is None


def test_a_cut_anywhere_is_noticed() -> None:
    for length in range(len(SAMPLE)):
        assert ask(READER, SAMPLE[:length]) is None


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_damage_gives_a_sound_layout_or_none(data: st.DataObject) -> None:
    ask(READER, damaged(data, SAMPLE))
