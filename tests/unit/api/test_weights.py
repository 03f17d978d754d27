"""Arrays of numpy and torch become tensors and come back, bit for bit."""

from __future__ import annotations

import json
from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest
import torch
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from coral_git import MergeStrategy, WeightMetadata, WeightTensor
from coral_git.api.arrays import array_of, is_torch, tensor_data, torch_of
from coral_git.errors import UsageError
from coral_git.merge.strategies.registry import STRATEGIES
from coral_git.types import DTYPES

NUMPY = [
    "?", "u1", "i1", "<u2", "<i2", "<u4", "<i4", "<u8", "<i8", "<f2", "<f4", "<f8", "<c8", "<c16",
    ">f4", ">i8",
]  # fmt: skip
TORCH = [
    torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.float16, torch.bfloat16,
    torch.float32, torch.float64, torch.complex64, torch.float8_e4m3fn, torch.float8_e5m2,
]  # fmt: skip


def content(source) -> bytes:
    return b"".join(bytes(piece) for piece in source.pieces())


@given(
    st.sampled_from(NUMPY).flatmap(lambda kind: hnp.arrays(kind, hnp.array_shapes(min_dims=0, min_side=0)))
)
def test_arrays_come_back(array):
    source = tensor_data("w", array)
    assert source.shape == array.shape
    back = array_of(content(source), source.dtype, source.shape)
    assert back.tobytes() == array.astype(array.dtype.newbyteorder("<")).tobytes()


def test_arrays_in_another_order_of_memory():
    array = np.arange(24, dtype=np.float32).reshape(4, 6)
    for view in (array.T, array[::2, 1::2], np.asfortranarray(array), array[::-1]):
        assert content(tensor_data("w", view)) == np.ascontiguousarray(view).tobytes()


@pytest.mark.parametrize("kind", ["bfloat16", "float8_e4m3fn", "float8_e5m2"])
def test_small_floats(kind):
    array = np.arange(16).astype(np.float32).astype(getattr(ml_dtypes, kind))
    source = tensor_data("w", array)
    assert array_of(content(source), source.dtype, source.shape).dtype == array.dtype
    assert content(source) == array.tobytes()


@pytest.mark.parametrize("dtype", TORCH, ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (3, 4)])
def test_tensors_of_torch_come_back(dtype, shape):
    value = torch.ones(shape).to(dtype)
    source = tensor_data("w", value)
    back = torch_of(bytearray(content(source)), source.dtype, source.shape)
    assert back.dtype == dtype
    assert back.shape == value.shape
    assert torch.equal(back.reshape(-1).view(torch.uint8), value.reshape(-1).view(torch.uint8))


def test_what_needs_a_gradient_or_is_transposed():
    parameter = torch.nn.Parameter(torch.arange(6.0).reshape(2, 3))
    assert is_torch(parameter)
    assert not is_torch(np.zeros(1))
    assert (
        content(tensor_data("w", parameter.t())) == np.arange(6, dtype=np.float32).reshape(2, 3).T.tobytes()
    )


def test_what_cannot_be_stored():
    with pytest.raises(UsageError, match="has the dtype object"):
        tensor_data("w", [object()])
    with pytest.raises(UsageError, match="either data or"):
        WeightTensor()
    with pytest.raises(UsageError, match="not about its values"):
        WeightTensor(np.zeros(2), metadata=WeightMetadata("w", (3,), "F64"))
    with pytest.raises(UsageError, match="numpy has no dtype for Q4_0"):
        array_of(b"", DTYPES["Q4_0"], (0,))


def test_a_weight_tensor():
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    weight = WeightTensor(array, "w")
    assert weight.data is array
    assert (weight.name, weight.shape, weight.size, weight.nbytes) == ("w", (2, 3), 6, 24)
    assert weight.compute_hash() == blake3(array.tobytes()).hexdigest()
    assert weight.torch().tolist() == array.tolist()
    assert np.asarray(weight).tolist() == array.tolist()
    assert weight.to_dict()["shape"] == [2, 3]
    assert repr(weight) == "WeightTensor('w', F32, (2, 3))"


def test_data_is_not_copied_where_it_is_in_memory():
    array = np.arange(6, dtype=np.float32)
    value = torch.arange(6, dtype=torch.bfloat16)
    assert np.shares_memory(WeightTensor(array, "w").numpy(), array)
    view = WeightTensor(value, "w").data
    value[0] = 7
    assert view.dtype == ml_dtypes.bfloat16
    assert view[0] == 7
    owned = WeightTensor(array, "w").torch()
    array[0] = 9
    assert owned[0] == 0


def test_the_hash_follows_what_is_in_memory_and_is_kept_of_what_is_stored():
    array = np.zeros(4, np.float32)
    weight = WeightTensor(array, "w")
    before = weight.compute_hash()
    array[0] = 1
    assert weight.compute_hash() != before
    reads = []

    def read(start, length):
        reads.append(start)
        return array.tobytes()[start : start + length]

    stored = WeightTensor(stored=weight.source._replace(read=read), name="w")
    assert stored.compute_hash() == stored.compute_hash() == weight.compute_hash()
    assert reads == [0]
    assert stored.compute_hash(force=True) == weight.compute_hash()
    assert reads == [0, 0]


def test_values_can_be_replaced():
    weight = WeightTensor(
        np.zeros(4, np.float32), metadata=WeightMetadata("w", (4,), "F32", "Linear", hash="x")
    )
    weight.data = np.ones((2, 3), np.int64)
    assert (weight.shape, weight.dtype, weight.nbytes) == ((2, 3), np.int64, 48)
    assert (weight.metadata.layer_type, weight.metadata.dtype, weight.metadata.hash) == (
        "Linear",
        "I64",
        None,
    )
    assert weight.data.tolist() == [[1, 1, 1]] * 2


@pytest.mark.parametrize(
    "dtype", ["F32", np.float32, np.dtype("<f4"), "float32", "torch.float32", torch.float32]
)
def test_metadata_takes_dtypes_of_every_library(dtype):
    metadata = WeightMetadata("w", [2, np.int64(3)], dtype)
    assert (metadata.dtype, metadata.shape) == ("F32", (2, 3))


def test_metadata_of_small_floats_and_of_nothing():
    assert WeightMetadata("w", (), ml_dtypes.bfloat16).dtype == "BF16"
    assert WeightMetadata("w", (), torch.float8_e4m3fn).dtype == "F8_E4M3"
    for dtype in ("float31", object, np.dtype("U3")):
        with pytest.raises(UsageError, match="no dtype of weights"):
            WeightMetadata("w", (), dtype)


def test_to_a_dictionary_and_back():
    metadata = WeightMetadata("w", (2, 3), "BF16", "Linear", "bert", {"method": "delta"})
    weight = WeightTensor(torch.ones(2, 3, dtype=torch.bfloat16), metadata=metadata)
    said = json.loads(json.dumps(weight.to_dict()))
    back = WeightTensor.from_dict(said, weight.data)
    assert back.metadata == replace(metadata, hash=weight.compute_hash())
    assert back.compute_hash() == weight.compute_hash()
    empty = WeightTensor.from_dict(said)
    assert (empty.shape, empty.nbytes, empty.size) == ((2, 3), 12, 6)
    assert empty.to_dict() == said
    with pytest.raises(UsageError, match="the values of tensor 'w' are not here"):
        empty.data  # noqa: B018
    with pytest.raises(UsageError, match="not about its values"):
        WeightTensor.from_dict(said, np.zeros((3, 2)))


def test_a_dictionary_of_the_original():
    said = {
        "metadata": {
            "name": "w",
            "shape": [4],
            "dtype": "float32",
            "layer_type": None,
            "hash": "0123456789abcdef",
        },
        "store_ref": None,
        "has_data": False,
    }
    weight = WeightTensor.from_dict(said, np.zeros(4, np.float32))
    assert (weight.name, weight.shape, weight.metadata.dtype) == ("w", (4,), "F32")
    assert weight.metadata.hash is None  # another hash than ours
    for bad in ({}, {"metadata": 3}, {"name": "w", "shape": [4]}, {"name": "w", "shape": 4, "dtype": "F32"}):
        with pytest.raises(UsageError, match="is no tensor"):
            WeightTensor.from_dict(bad)


@given(hnp.arrays(np.float32, 40, elements=st.floats(-4, 4, width=32)), st.floats(0.0625, 4, width=32))
def test_similarity_is_the_cosine(array, factor):
    weight = WeightTensor(array, "a")
    assert weight.is_similar_to(weight)
    scaled = array * np.float32(factor)
    if np.linalg.norm(scaled) > 1e-3:
        assert weight.is_similar_to(WeightTensor(scaled, "b"), 0.999)
        assert not weight.is_similar_to(WeightTensor(-scaled, "b"), 0.0)


def test_similarity_of_what_cannot_be_compared():
    weight = WeightTensor(np.ones(4, np.float32), "a")
    assert not weight.is_similar_to(WeightTensor(np.ones((2, 2), np.float32), "b"))
    assert weight.is_similar_to(WeightTensor(np.ones(4, np.float64), "b"))
    assert WeightTensor(np.zeros(4), "a").is_similar_to(WeightTensor(np.zeros(4), "b"))
    assert not WeightTensor(np.zeros(4), "a").is_similar_to(WeightTensor(np.ones(4), "b"))


def test_every_merge_strategy_has_a_name():
    assert {*STRATEGIES, "fail", "ours", "theirs", "base", "greedy-soup"} == set(MergeStrategy)
