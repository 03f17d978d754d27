"""Differences in memory: exact for every dtype and every bit, and lossy only as far as they say."""

from __future__ import annotations

import doctest

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import coral_git
from coral_git import Delta, DeltaConfig, DeltaEncoder, DeltaType, WeightTensor
from coral_git.api import delta as module
from coral_git.errors import IntegrityError, UsageError

LOSSLESS = [one for one in DeltaType if one.is_lossless]
DTYPES = [
    "f2",
    "f4",
    "f8",
    "c8",
    "c16",
    "?",
    "i1",
    "u1",
    "i2",
    "i4",
    "u8",
    ">f4",
    ">i2",
    ml_dtypes.bfloat16,
    ml_dtypes.float8_e4m3fn,
    ml_dtypes.float8_e5m2,
    ml_dtypes.int4,
]
RNG = np.random.default_rng(3)


@st.composite
def pairs(draw):
    """A tensor of any bits and a reference like it, mostly equal to it."""
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    shape = draw(st.sampled_from([(), (0,), (1,), (7,), (3, 5), (2, 0, 4), (4096,), (70, 71)]))
    count = int(np.prod(shape))
    seed = draw(st.integers(0, 1 << 32))
    rng = np.random.default_rng(seed)
    reference = rng.integers(0, 256, count * dtype.itemsize, np.uint8)
    weight = reference.copy()
    changed = draw(st.sampled_from([0.0, 0.001, 0.2, 1.0]))
    mask = rng.random(len(weight)) < changed
    weight[mask] = rng.integers(0, 256, int(mask.sum()), np.uint8)
    return weight.view(dtype).reshape(shape), reference.view(dtype).reshape(shape)


@pytest.mark.parametrize("delta_type", LOSSLESS)
@given(pair=pairs())
def test_every_bit_comes_back(delta_type, pair):
    weight, reference = pair
    encoder = DeltaEncoder(DeltaConfig(delta_type=delta_type))
    delta = encoder.encode_delta(weight, reference)
    back = encoder.decode_delta(delta, reference)
    assert (back.shape, back.dtype) == (weight.shape, weight.dtype)
    assert back.tobytes() == weight.tobytes()


@pytest.mark.parametrize("delta_type", DeltaType)
def test_special_values_survive(delta_type):
    bits = np.array([0x7FC00001, 0xFFC12345, 0x7F800001, 0x80000000, 0, 1, 0x007FFFFF, 0x7F800000], "<u4")
    weight = np.tile(bits, 600).view("<f4")
    reference = np.roll(weight, 1).copy()
    encoder = DeltaEncoder(DeltaConfig(delta_type=delta_type))
    back = encoder.decode_delta(encoder.encode_delta(weight, reference), reference)
    if delta_type.is_lossless:
        assert back.tobytes() == weight.tobytes()
    assert (np.isnan(back) == np.isnan(weight)).all()


@pytest.mark.parametrize(("delta_type", "most"), [("int8_quantized", 0.27), ("int16_quantized", 0.52)])
def test_quantized_differences_are_small_and_near(delta_type, most):
    reference = (RNG.standard_normal(1 << 18) * 0.05).astype(np.float32)
    weight = reference + (RNG.standard_normal(1 << 18) * 0.001).astype(np.float32)
    encoder = DeltaEncoder(DeltaConfig(delta_type=DeltaType(delta_type)))
    delta = encoder.encode_delta(weight, reference)
    assert delta.nbytes <= most * weight.nbytes
    back = encoder.decode_delta(delta, reference)
    levels = 2.0 ** (DeltaType(delta_type).bits - 1) - 1
    bound = np.abs(weight - reference).max() / levels * 1.01 + np.spacing(np.abs(weight).max())
    assert 0 < np.abs(back - weight).max() <= bound
    assert encoder.encode_delta(back, reference).nbytes <= most * weight.nbytes


def test_sparse_is_small_where_little_changes():
    reference = RNG.standard_normal(100_000).astype(np.float32)
    weight = reference.copy()
    weight[::1000] += 1
    sizes = {
        one: DeltaEncoder(DeltaConfig(delta_type=one)).estimate_delta_size(weight, reference)
        for one in (DeltaType.SPARSE, DeltaType.COMPRESSED, DeltaType.FLOAT32_RAW)
    }
    assert sizes[DeltaType.SPARSE] < sizes[DeltaType.COMPRESSED] < sizes[DeltaType.FLOAT32_RAW]
    assert sizes[DeltaType.FLOAT32_RAW] >= weight.nbytes


def test_what_is_worth_a_difference():
    weight = RNG.standard_normal(4096).astype(np.float32)
    encoder = DeltaEncoder()
    assert encoder.can_encode_as_delta(weight, weight + np.float32(1e-6))
    assert not encoder.can_encode_as_delta(weight, weight[:-1])
    assert not encoder.can_encode_as_delta(weight, weight.astype(np.float64))
    assert not encoder.can_encode_as_delta(weight[:100], weight[:100])
    strict = DeltaEncoder(DeltaConfig(max_delta_ratio=0.1))
    assert not strict.can_encode_as_delta(weight, RNG.standard_normal(4096).astype(np.float32))


def test_another_reference_and_damage_are_found():
    weight = RNG.standard_normal(4096).astype(np.float32)
    encoder = DeltaEncoder()
    delta = encoder.encode_delta(weight, weight + np.float32(1e-6))
    with pytest.raises(IntegrityError, match="another reference"):
        encoder.decode_delta(delta, weight)
    block = delta.blocks[0]
    bad = Delta(**{**vars(delta), "blocks": (block[:-1] + bytes([block[-1] ^ 1]),)})
    with pytest.raises(IntegrityError):
        encoder.decode_delta(bad, weight + np.float32(1e-6))
    with pytest.raises(UsageError, match="no difference"):
        encoder.encode_delta(weight, weight[:-1])


def test_a_config_comes_back_and_refuses_what_it_does_not_know():
    config = DeltaConfig(delta_type=DeltaType.SPARSE, similarity_threshold=0.9)
    assert DeltaConfig.from_dict(config.to_dict()) == config
    assert (
        DeltaConfig.from_dict({"delta_type": "float32_raw", "compression_level": 6}).delta_type
        == "float32_raw"
    )
    for bad in ({"delta_type": "zip"}, {"profile": "slow"}, {"similarity_threshold": 2}, {"colour": 1}):
        with pytest.raises(UsageError):
            DeltaConfig.from_dict(bad)


def test_the_examples_run():
    assert doctest.testmod(module).failed == 0
    assert doctest.testmod(module).attempted > 3


def test_the_package_gives_its_names_lazily():
    assert set(coral_git.__all__) <= set(dir(coral_git))
    assert all(getattr(coral_git, name) is not None for name in coral_git.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = coral_git.Nothing


def test_weight_tensors_are_taken_and_given():
    random = np.random.default_rng(0)
    base = WeightTensor(random.standard_normal((64, 64), np.float32), "base")
    tuned = WeightTensor(base.data + np.float32(1e-4), "tuned")
    encoder = DeltaEncoder()
    assert encoder.can_encode_as_delta(tuned, base)
    delta = encoder.encode_delta(tuned, base)
    assert delta.reference_hash == base.compute_hash()
    assert delta.compression_ratio == delta.nbytes / tuned.nbytes < 1
    back = encoder.decode_delta(delta, base)
    assert isinstance(back, WeightTensor)
    assert back.compute_hash() == tuned.compute_hash()
    assert encoder.decode_delta(delta, base.data).tobytes() == tuned.data.tobytes()
    assert encoder.encode_delta(tuned.data, base) == delta
