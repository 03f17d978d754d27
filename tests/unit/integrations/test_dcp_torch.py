"""Boxes of tensors are copied exactly, whatever lies between their rows; states are put together."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from coral_git.errors import IntegrityError, UsageError
from coral_git.integrations import dcp_torch
from coral_git.integrations.dcp_torch import copy_box, dtype_of, shard_data
from coral_git.types import DTYPES

SHAPES = st.lists(st.integers(1, 6), max_size=4).map(tuple)


@given(SHAPES, st.data())
def test_boxes_are_copied(shape, data):
    box = [data.draw(st.tuples(st.integers(0, size), st.integers(0, size)).map(sorted)) for size in shape]
    offsets, lengths = tuple(a for a, _ in box), tuple(b - a for a, b in box)
    most = data.draw(st.integers(1, 40))
    values = torch.arange(prod(shape), dtype=torch.int16).reshape(shape)
    content = values.numpy().tobytes()
    target = torch.full(lengths, -1, dtype=torch.int16)
    reads = []

    def read(start: int, length: int) -> bytes:
        reads.append((start, length))
        return content[start : start + length]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dcp_torch, "_PIECE_BYTES", 2 * most)
        copy_box(read, DTYPES["I16"], shape, offsets, lengths, target)
    assert torch.equal(target, values[tuple(slice(a, b) for a, b in box)])
    assert all(length <= 2 * most for _, length in reads)
    if lengths == shape:  # read in order and without gaps, so that it can be compared with its id
        assert [start for start, _ in reads] == list(np.cumsum([0, *(length for _, length in reads)])[:-1])


def test_a_stored_tensor_that_is_cut_short_is_an_error():
    with pytest.raises(IntegrityError, match="cut short"):
        copy_box(lambda _start, _length: b"1234", DTYPES["F32"], (2,), (0,), (2,), torch.zeros(2))


@pytest.mark.parametrize(
    "dtype", ["F32", "BF16", "F16", "F64", "F8_E4M3", "F8_E5M2", "F8_E8M0", "U16", "BOOL", "C64"]
)
def test_every_bit_of_every_dtype_survives(dtype):
    random = np.random.default_rng(0).integers(0, 2 if dtype == "BOOL" else 256, 24 * 8, np.uint8)
    width = DTYPES[dtype].bits // 8
    content = random.tobytes()[: 24 * width]
    target = torch.zeros(6, 4, dtype=dcp_torch.torch_dtype(DTYPES[dtype]))
    copy_box(
        lambda start, length: content[start : start + length], DTYPES[dtype], (6, 4), (0, 0), (6, 4), target
    )
    stored = shard_data("w", target)
    assert stored.dtype.name == dtype
    assert b"".join(map(bytes, stored.pieces())) == content
    assert b"".join(map(bytes, shard_data("w", target.t()).pieces())) != content or dtype == "BOOL"


def test_what_is_no_plain_tensor_is_refused():
    for value in (torch.zeros(2, 2).to_sparse(), torch.zeros(2, device="meta")):
        with pytest.raises(UsageError, match="tensor 'w' is no plain tensor"):
            shard_data("w", value)
    with pytest.raises(UsageError, match=r"tensor 'w' has the dtype torch.complex128"):
        dtype_of("w", torch.complex128)
    conjugated = torch.tensor([1 + 2j], dtype=torch.complex64).conj()
    (piece,) = shard_data("w", conjugated).pieces()
    assert bytes(piece) == np.array([1 - 2j], "<c8").tobytes()


def test_places_in_a_state():
    state: dict[str, object] = {}
    for path in (("a", "b"), ("list", 2, "x"), ("list", 0, "y"), ("list", 1), ("c",)):
        dcp_torch._put(state, path, "-".join(map(str, path)))
    assert state == {
        "a": {"b": "a-b"},
        "list": [{"y": "list-0-y"}, "list-1", {"x": "list-2-x"}],
        "c": "c",
    }
