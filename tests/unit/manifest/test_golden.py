"""The bytes that go to git, for ever."""

from __future__ import annotations

from pathlib import Path

import pytest
from blake3 import blake3

from coral_git.formats import base, chunked
from coral_git.limits import DEFAULT_LIMITS
from coral_git.manifest import text
from coral_git.manifest.model import ChunkEntry, Manifest, TensorEntry, expand, object_ids
from coral_git.manifest.parse import parse
from coral_git.manifest.render import render, tabulate
from coral_git.types import DTYPES, FileDigest, ObjectId

from .strategies import SMALL


def made_id(number: int) -> ObjectId:
    return ObjectId(bytes([number]) * 32)


def tensors() -> Manifest:
    return Manifest(
        "safetensors/1",
        148,
        FileDigest(b"\x5a" * 32),
        26,
        (made_id(0xAA), made_id(0xAB)),
        (20, 0, 0, 6),
        3,
        (
            TensorEntry("a.weight", DTYPES["F32"], (5, 6), (made_id(1), made_id(2))),
            TensorEntry("käse \\", DTYPES["BF16"], (), (made_id(3),)),
            TensorEntry("", DTYPES["F4"], (0, 7), ()),
        ),
    )


def chunks(count: int) -> Manifest:
    entries = tuple(ChunkEntry(number + 1, made_id(number + 1)) for number in range(count))
    return Manifest(
        "chunks/1", sum(entry.length for entry in entries), FileDigest(b"\xc3" * 32), chunks=entries
    )


def many() -> Manifest:
    entries = tuple(TensorEntry(f"t{n}", DTYPES["I8"], (1, n + 1), (made_id(n + 1),)) for n in range(5))
    return Manifest("npz/2", 15, FileDigest(b"\x0f" * 32), tensor_count=5, tensors=entries)


@pytest.mark.parametrize(
    ("name", "manifest"),
    [
        ("tensors", tensors()),
        ("chunks", chunks(3)),
        ("empty", chunks(0)),
        ("chunk-tables", chunks(5)),
        ("tensor-tables", many()),
    ],
)
def test_manifests_look_like_this_for_ever(golden: Path, name: str, manifest: Manifest) -> None:
    stored, contents = tabulate(manifest, SMALL)
    written = render(stored)
    assert written == (golden / f"{name}.txt").read_bytes()
    for number, content in enumerate(contents, 1):
        assert content == (golden / f"{name}.table{number}.txt").read_bytes()
    read = parse(written, SMALL)
    assert read == stored
    named = [table.object_id for table in stored.tables] if contents else list(object_ids(manifest))
    assert list(object_ids(read)) == list(dict.fromkeys(named))
    by_id = {blake3(content).digest(): content for content in contents}
    assert expand(read, by_id.__getitem__, SMALL) == manifest


def test_readers_and_manifests_agree_on_names_and_caps() -> None:
    assert chunked.FORMAT == text.CHUNKS_FORMAT
    assert base.MAX_TENSORS == text.MAX_TENSORS


def test_lists_of_usual_length_stay_in_the_manifest() -> None:
    assert tabulate(many(), DEFAULT_LIMITS) == (many(), [])
    assert tabulate(chunks(16), DEFAULT_LIMITS) == (chunks(16), [])
    stored, contents = tabulate(chunks(17), DEFAULT_LIMITS)
    assert [table.lines for table in stored.tables] == [17]
    assert len(contents) == 1
