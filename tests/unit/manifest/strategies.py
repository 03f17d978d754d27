"""Arbitrary manifests and layouts for hypothesis."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from blake3 import blake3
from hypothesis import strategies as st

from coral_git.formats.base import Layout, TensorSegment
from coral_git.limits import Limits
from coral_git.manifest.build import build, build_chunked
from coral_git.manifest.model import Manifest
from coral_git.manifest.parts import parts
from coral_git.types import DTYPES, DType, FileDigest, ObjectId, tensor_bytes

SMALL = Limits(
    part_elements=24, part_bytes=64, inline_tensors=3, inline_chunks=3, table_lines=2, name_bytes=64, rank=4
)

NAMES = st.text("ab.0x\\ \n\r\0\x7fäß漢🙂\u202e\u2028é", max_size=12)
DIGESTS = st.binary(min_size=32, max_size=32)


def shapes(dtype: DType) -> st.SearchStrategy[tuple[int, ...]]:
    """Shapes whose tensors fill whole blocks and bytes."""
    shape = st.lists(st.integers(0, 6), max_size=4 if dtype.values == 1 else 1).map(tuple)
    if dtype.values > 1:
        return shape.map(lambda dims: (*dims, dtype.values))
    return shape.filter(lambda dims: prod(dims) * dtype.bits % 8 == 0)


@dataclass(frozen=True)
class CutFile:
    """Random bytes and a random layout of them."""

    data: bytes
    layout: Layout

    def ids(self, limits: Limits = SMALL) -> list[ObjectId]:
        """The ids of its parts."""
        return [ObjectId(blake3(self.part_bytes(part.ranges)).digest()) for part in self.parts(limits)]

    def parts(self, limits: Limits = SMALL):
        """Its parts."""
        return parts(self.layout, len(self.data), limits)

    def part_bytes(self, ranges) -> bytes:
        """The bytes of a part."""
        return b"".join(self.data[offset : offset + length] for offset, length in ranges)


@st.composite
def cut_files(draw: st.DrawFn) -> CutFile:
    names = draw(st.lists(NAMES, unique=True, max_size=8))
    offset = 0
    tensors = []
    for name in names:
        offset += draw(st.integers(0, 40) | st.just(0))
        dtype = DTYPES[draw(st.sampled_from(sorted(DTYPES)))]
        shape = draw(shapes(dtype))
        length = tensor_bytes(dtype, shape)
        tensors.append(TensorSegment(name, dtype, shape, offset, length))
        offset += length
    size = offset + draw(st.integers(0, 60) | st.just(0))
    seed = draw(st.binary(min_size=1, max_size=4))
    return CutFile(blake3(seed).digest(length=size), Layout(draw(formats()), tuple(tensors)))


@st.composite
def formats(draw: st.DrawFn) -> str:
    name = draw(st.text("az09-", max_size=31).map("c".__add__))
    return f"{name}/{draw(st.integers(1, 999))}"


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    """Expanded manifests, of tensors or of chunks."""
    sha256 = FileDigest(draw(DIGESTS))
    if draw(st.booleans()):
        file = draw(cut_files())
        return build(file.layout, len(file.data), sha256, file.ids(), SMALL)
    chunks = draw(st.lists(st.tuples(st.integers(1, 64), DIGESTS.map(ObjectId)), max_size=9))
    return build_chunked(chunks, sum(length for length, _ in chunks), sha256)
