"""Cutting: nothing is lost, nothing is twice, and versions of a tensor in two dtypes face each other."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coral_git.formats.base import Layout, TensorSegment
from coral_git.limits import DEFAULT_LIMITS, Limits
from coral_git.manifest.build import build, build_chunked
from coral_git.manifest.model import placements
from coral_git.manifest.parts import chunk_parts, gaps_of, part_lengths, part_size, parts
from coral_git.types import DTYPES, Element, FileDigest, ObjectId

from .strategies import SMALL, CutFile, cut_files

SHA = FileDigest(bytes(32))


@given(cut_files())
def test_writing_every_placement_makes_the_file(file: CutFile) -> None:
    manifest = build(file.layout, len(file.data), SHA, file.ids(), SMALL)
    objects = dict(zip(file.ids(), map(file.part_bytes, (part.ranges for part in file.parts())), strict=True))
    out = bytearray(b"?" * len(file.data))
    written = 0
    for placement in placements(manifest, SMALL):
        content = objects[placement.object_id]
        assert len(content) == placement.length == sum(length for _, length in placement.ranges)
        start = 0
        for offset, length in placement.ranges:
            assert length > 0
            out[offset : offset + length] = content[start : start + length]
            start += length
            written += length
    assert bytes(out) == file.data
    assert written == len(file.data)


@given(cut_files())
def test_parts_and_placements_agree(file: CutFile) -> None:
    cut = file.parts()
    placed = list(placements(build(file.layout, len(file.data), SHA, file.ids(), SMALL), SMALL))
    assert [(part.length, part.element, part.ranges) for part in cut] == [
        (placement.length, placement.element, placement.ranges) for placement in placed
    ]
    assert all(part.length <= max(SMALL.part_bytes, 292) for part in cut)  # a block of ggml is not cut
    assert all(part.element is Element.BYTES for part in cut if part.tensor is None)


@given(st.lists(st.integers(1, 99), max_size=20))
def test_chunks_follow_each_other(lengths: list[int]) -> None:
    ids = [ObjectId(bytes([n]) * 32) for n in range(len(lengths))]
    manifest = build_chunked(zip(lengths, ids, strict=True), sum(lengths), SHA)
    offsets = [sum(lengths[:n]) for n in range(len(lengths))]
    cut = list(chunk_parts(zip(offsets, lengths, strict=True)))
    placed = list(placements(manifest, SMALL))
    assert [place.object_id for place in placed] == ids
    assert [place.ranges for place in placed] == [part.ranges for part in cut]
    assert [part.number for part in cut] == list(range(len(lengths)))


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        ("F32", 64 << 20),
        ("BF16", 32 << 20),
        ("F8_E4M3", 16 << 20),
        ("F64", 64 << 20),
        ("C64", 64 << 20),
        ("F4", 8 << 20),
        ("F6_E2M3", 12 << 20),
        ("F32_BE", 64 << 20),
        ("C128", 64 << 20),
        ("Q4_0", 9 << 20),
        ("Q6_K", (1 << 16) * 210),
    ],
)
def test_part_sizes_are_part_of_the_format(dtype: str, expected: int) -> None:
    assert part_size(DTYPES[dtype], DEFAULT_LIMITS) == expected


@given(st.sampled_from(sorted(DTYPES)), st.integers(1, 99), st.integers(8, 99), st.integers(0, 2000))
def test_parts_are_whole_elements(name: str, elements: int, size: int, length: int) -> None:
    limits = Limits(part_elements=elements, part_bytes=size)
    dtype = DTYPES[name]
    step = part_size(dtype, limits)
    assert step >= 1
    assert step * 8 % dtype.bits == 0
    lengths = part_lengths(dtype, length, limits)
    assert sum(lengths) == length
    assert all(part == step for part in lengths[:-1])
    assert all(0 < part <= step for part in lengths)


def test_an_fp32_and_a_bf16_version_face_each_other() -> None:
    count = (1 << 24) * 2 + 5
    fp32 = part_lengths(DTYPES["F32"], count * 4, DEFAULT_LIMITS)
    bf16 = part_lengths(DTYPES["BF16"], count * 2, DEFAULT_LIMITS)
    assert [length // 4 for length in fp32] == [length // 2 for length in bf16] == [1 << 24, 1 << 24, 5]


@pytest.mark.parametrize(("offset", "size"), [(0, 7), (-1, 20)])
def test_a_layout_that_does_not_fit_is_refused(offset: int, size: int) -> None:
    layout = Layout("x/1", (TensorSegment("a", DTYPES["F32"], (2,), offset, 8),))
    with pytest.raises(ValueError, match="one after the other"):
        gaps_of(layout, size)


def test_as_many_ids_as_parts() -> None:
    layout = Layout("x/1", (TensorSegment("a", DTYPES["F32"], (2,), 3, 8),))
    assert len(parts(layout, 11, SMALL)) == 2
    for count in (0, 1, 3):
        with pytest.raises(ValueError, match="for 2 parts"):
            build(layout, 11, SHA, [ObjectId(bytes(32))] * count, SMALL)


def test_a_manifest_with_tables_has_no_placements_yet() -> None:
    from coral_git.manifest.render import tabulate

    manifest = build_chunked([(1, ObjectId(bytes(32)))] * 5, 5, SHA)
    with pytest.raises(ValueError, match="not expanded"):
        list(placements(tabulate(manifest, SMALL)[0], SMALL))
