"""Storing parts: a delta is only built on bytes that are what the id of its base names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

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


def store_parts(store: Store, *parts: PartSource, store_all: bool = False) -> list[ObjectId]:
    with Workers(2) as workers, store.writer() as writer:
        ids = Encoder(store, workers, store_all=store_all).store_parts(parts, writer)
        writer.finish()
    return ids


def part(data: bytes, *bases: ObjectId) -> PartSource:
    return PartSource(lambda start, length: data[start : start + length], len(data), Element.F32, bases)


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
