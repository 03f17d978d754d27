"""Storing parts: a delta is only built on bytes that are what the id of its base names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from blake3 import blake3

from coral_git.codecs.base import EncodedObject
from coral_git.codecs.planes import PlanesCodec
from coral_git.errors import CoralError
from coral_git.limits import DEFAULT_LIMITS
from coral_git.pipeline.encode import Encoder
from coral_git.pipeline.parallel import Workers
from coral_git.pipeline.part_source import PartSource
from coral_git.pipeline.similar import SimilarObjects
from coral_git.store.store import Store
from coral_git.types import Element, ObjectId

LIMITS = DEFAULT_LIMITS._replace(block_elements=1 << 12)
WEIGHTS = np.random.default_rng(0).standard_normal(100_000).astype(np.float32)
BASE = WEIGHTS.tobytes()
TUNED = (WEIGHTS * np.float32(1.0001)).tobytes()


@pytest.fixture(params=["read twice", "kept in memory"])
def store(request, tmp_path: Path) -> Iterator[Store]:
    kept = 0 if request.param == "read twice" else 8 << 20
    with Store.create(str(tmp_path / "store"), LIMITS._replace(kept_part_bytes=kept)) as opened:
        yield opened


def store_parts(
    store: Store, *parts: PartSource, store_all: bool = False, search: SimilarObjects | None = None
) -> list[ObjectId]:
    with Workers(2) as workers, store.writer() as writer:
        ids = Encoder(store, workers, store_all=store_all, search=lambda: search).store_parts(parts, writer)
        writer.finish()
    return ids


def part(data: bytes, *bases: ObjectId, element: Element = Element.F32) -> PartSource:
    return PartSource(lambda start, length: data[start : start + length], len(data), element, bases)


def test_a_small_change_is_stored_as_a_delta(store: Store) -> None:
    (base,) = store_parts(store, part(BASE))
    (tuned,) = store_parts(store, part(TUNED, base))
    assert store.locate(tuned).base == base
    assert store.read(tuned, len(TUNED)) == TUNED


@pytest.mark.parametrize("extra", [4, 4 * 5000])
def test_a_base_of_another_length_serves_too(store: Store, extra: int) -> None:
    (base,) = store_parts(store, part(BASE))
    (longer,) = store_parts(store, part(TUNED + bytes(extra), base))
    (shorter,) = store_parts(store, part(TUNED[:-extra], base))
    for one, data in ((longer, TUNED + bytes(extra)), (shorter, TUNED[:-extra])):
        assert store.locate(one).base == base
        assert store.read(one, len(data)) == data


@pytest.mark.parametrize("place", [0.5, 0.93])
@pytest.mark.parametrize("cut", [0, 4, 4 * 5000])
def test_a_rotten_base_is_passed_over(store: Store, place: float, cut: int) -> None:
    (base,) = store_parts(store, part(BASE))
    location = store.locate(base)
    path = store.layout.pack_path(location.pack)
    os.chmod(path, 0o644)
    with open(path, "r+b") as file:
        file.seek(location.offset + int(location.entry_length * place))
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes((byte[0] ^ 0x40,)))
    data = TUNED[: len(TUNED) - cut]
    (tuned,) = store_parts(store, part(data, base))
    assert store.locate(tuned).base is None
    assert store.read(tuned, len(data)) == data


@pytest.mark.parametrize("cut", [0, 4, 4 * 5000])
def test_a_base_with_the_bytes_of_another_object_is_passed_over(store: Store, cut: int) -> None:
    """A pack that came while a base of it was missing may claim any id for its objects."""
    wrong = bytearray(BASE)
    wrong[-3] ^= 1
    base = ObjectId(blake3(BASE).digest())
    codec = PlanesCodec()
    size = codec.block_size(Element.F32, store.limits)
    blocks = [
        codec.encode_block(bytes(wrong[start : start + size]), b"", Element.F32)
        for start in range(0, len(wrong), size)
    ]
    with store.writer() as writer:
        writer.add(EncodedObject(base, len(BASE), 3, Element.F32, None, Element.BYTES, 0, size, blocks))
        writer.finish()
    data = TUNED[: len(TUNED) - cut]
    (tuned,) = store_parts(store, part(data, base))
    assert store.locate(tuned).base is None
    assert store.read(tuned, len(data)) == data


def test_a_part_that_changes_between_its_readings_is_refused(tmp_path: Path) -> None:
    reads = []

    def read(start: int, length: int) -> bytes:
        reads.append(start)
        data = BASE if len(reads) <= 1 else TUNED
        return data[start : start + length]

    with Store.create(str(tmp_path / "store"), LIMITS._replace(kept_part_bytes=0)) as store:
        with pytest.raises(CoralError, match="changed while it was read"):
            store_parts(store, PartSource(read, len(BASE), Element.F32))
        assert store.packs() == []


# Bases of another element, and bases that the part does not name

HALF = WEIGHTS.astype(ml_dtypes.bfloat16).tobytes()


@pytest.mark.parametrize(
    ("base", "base_element", "raw", "element", "most"),
    [
        (BASE, Element.F32, HALF, Element.BF16, 0.01),
        (HALF, Element.BF16, BASE, Element.F32, 0.6),
        (BASE, Element.F32, WEIGHTS.astype(np.float16).tobytes(), Element.F16, 0.01),
        (WEIGHTS.astype(np.float16).tobytes(), Element.F16, BASE, Element.F32, 0.5),
    ],
)
def test_another_precision_of_a_model_is_a_base(
    store: Store, base: bytes, base_element: Element, raw: bytes, element: Element, most: float
) -> None:
    (first,) = store_parts(store, part(base, element=base_element))
    (second,) = store_parts(store, part(raw, first, element=element))
    assert store.locate(second).base == first
    assert store.locate(second).entry_length < most * len(raw)
    assert store.read(second, len(raw)) == raw


@pytest.mark.parametrize("extra", [2, 4, 4 * 5000])
def test_another_precision_of_another_length_is_a_base(store: Store, extra: int) -> None:
    (first,) = store_parts(store, part(BASE + bytes(extra)))
    for raw in (HALF, HALF[:-7], HALF + bytes(3 * extra + 1)):
        (second,) = store_parts(store, part(raw, first, element=Element.BF16))
        assert store.locate(second).base == first
        assert store.read(second, len(raw)) == raw


def test_a_chain_goes_through_other_precisions(store: Store) -> None:
    (first,) = store_parts(store, part(BASE))
    (second,) = store_parts(store, part(HALF, first, element=Element.BF16))
    (third,) = store_parts(store, part(TUNED, second))
    assert store.depth(third) == 2
    assert store.read(third, len(TUNED)) == TUNED


def similar(store: Store, threshold: float = 0.98) -> SimilarObjects:
    return SimilarObjects(store, threshold)


def test_a_similar_object_is_found_without_a_name(store: Store) -> None:
    (base,) = store_parts(store, part(BASE), search=similar(store))
    (tuned,) = store_parts(store, part(TUNED), search=similar(store))
    assert store.locate(tuned).base == base
    (again,) = store_parts(store, part(BASE[::-1]), search=similar(store))
    assert store.locate(again).base is None


def test_objects_without_a_sketch_are_sketched_when_they_are_wanted(store: Store) -> None:
    """In a clone, or after the cache was deleted."""
    (base,) = store_parts(store, part(BASE))
    (tuned,) = store_parts(store, part(TUNED), search=similar(store))
    assert store.locate(tuned).base == base


def test_the_nearer_of_two_similar_objects_is_taken(store: Store) -> None:
    rng = np.random.default_rng(1)
    noisy = [
        WEIGHTS + np.float32(scale) * rng.standard_normal(len(WEIGHTS), np.float32) for scale in (0.05, 1e-4)
    ]
    store_parts(store, *(part(one.tobytes()) for one in noisy), search=similar(store))
    (found,) = store_parts(store, part(BASE), search=similar(store))
    assert store.locate(found).base == ObjectId(blake3(noisy[1].tobytes()).digest())


def test_below_the_threshold_nothing_is_a_base(store: Store) -> None:
    noise = np.random.default_rng(2).standard_normal(len(WEIGHTS), np.float32)
    far = (WEIGHTS + np.float32(0.15) * noise).tobytes()
    store_parts(store, part(BASE), search=similar(store))
    (alone,) = store_parts(store, part(far), search=similar(store, 0.999))
    assert store.locate(alone).base is None


def test_namesakes_need_not_be_similar(store: Store) -> None:
    noise = np.random.default_rng(2).standard_normal(len(WEIGHTS), np.float32)
    far = (WEIGHTS + np.float32(0.05) * noise).tobytes()
    (base,) = store_parts(store, part(BASE), search=similar(store))
    named = part(far)._replace(namesakes=lambda: (base,))
    (found,) = store_parts(store, named, search=similar(store, 1.0))
    assert store.locate(found).base == base


def test_a_damaged_namesake_is_passed_over(store: Store) -> None:
    gone = ObjectId(bytes(range(32)))
    named = part(TUNED)._replace(namesakes=lambda: (gone,))
    (tuned,) = store_parts(store, named, search=similar(store))
    assert store.read(tuned, len(TUNED)) == TUNED
