"""HDF5: files that h5py writes, cut as h5py sees them."""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coral_git.formats.base import Layout, TensorSegment
from coral_git.formats.registry import read_layout
from coral_git.limits import DEFAULT_LIMITS
from coral_git.types import DTYPES, BytesSource, tensor_bytes

h5py = pytest.importorskip("h5py")

VERSIONS = [("earliest", "v108"), ("v108", "v108"), ("v110", "v110"), ("latest", "latest")]
BIG = np.random.default_rng(1).standard_normal((128, 64)).astype("f4")
Fill = Callable[[Any], object]


def file_of(fill: Fill, libver: tuple[str, str] = VERSIONS[0], **options: Any) -> bytes:
    """The bytes of a file that ``fill`` fills."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", libver=libver, **options) as file:
        fill(file)
    return buffer.getvalue()


def layout_of(data: bytes) -> Layout | None:
    return read_layout(BytesSource(data), DEFAULT_LIMITS)


def tensors_of(data: bytes) -> dict[str, TensorSegment]:
    layout = layout_of(data)
    assert layout is not None
    assert layout.format == "hdf5/1"
    return {tensor.name: tensor for tensor in layout.tensors}


def content(data: bytes, tensor: TensorSegment) -> bytes:
    return data[tensor.offset : tensor.offset + tensor.length]


def name_of(dtype: np.dtype[Any]) -> str:
    if dtype.kind == "b":
        return "BOOL"
    kind = {"f": "F", "i": "I", "u": "U"}[dtype.kind]
    return f"{kind}{8 * dtype.itemsize}{'_BE' if dtype.str.startswith('>') else ''}"


def datasets(data: bytes) -> dict[str, Any]:
    """Name → dtype, shape, bytes of every dataset that is not empty, by the library; each once."""
    found = {}
    with h5py.File(io.BytesIO(data), "r") as file:

        def visit(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset) and item.size:
                found[name] = (name_of(item.dtype), item.shape, np.asarray(item).tobytes())

        file.visititems(visit)
    return found


def check_against_library(data: bytes) -> None:
    """The same datasets, dtypes, shapes and bytes as the library sees."""
    ours = tensors_of(data)
    theirs = datasets(data)
    assert {n: (t.dtype.name, t.shape, content(data, t)) for n, t in ours.items()} == theirs


def nested(file: Any) -> None:
    for layer in range(3):
        group = file.create_group(f"layers/dense_{layer}/vars")
        group.attrs["name"] = "a name" * layer
        group["0"] = BIG + np.float32(layer)
        group["1"] = np.arange(64, dtype="f4")
    file.create_group("nothing/in/it")
    file.attrs["weight_names"] = np.array(["a" * 30] * 200, "S30")
    file["scalar"] = np.float64(2)
    file["späß 🙂"] = np.arange(5)
    file["empty"] = np.zeros((0, 3), "f4")
    file.create_dataset("never written", (40, 40), "f4")
    file["text"] = "nothing to see"


def many(file: Any) -> None:
    for number in range(1500):
        file[f"weights/the tensor with the number {number}"] = np.arange(number % 7 + 1, dtype="f4")


@pytest.mark.parametrize("libver", VERSIONS)
@pytest.mark.parametrize("track_order", [False, True])
@pytest.mark.parametrize("fill", [nested, many])
def test_what_the_library_writes(libver: tuple[str, str], track_order: bool, fill: Fill) -> None:
    data = file_of(fill, libver, track_order=track_order)
    theirs = datasets_but(data, "text", "never written") if fill is nested else datasets(data)
    ours = tensors_of(data)
    assert {n: (t.dtype.name, t.shape, content(data, t)) for n, t in ours.items()} == theirs


def datasets_but(data: bytes, *names: str) -> dict[str, Any]:
    """The datasets without some that have no bytes as numbers."""
    buffer = io.BytesIO(data)
    with h5py.File(buffer, "r+") as file:
        for name in names:
            del file[name]
    return datasets(buffer.getvalue())


def test_a_group_so_big_that_its_heap_has_tables_of_tables() -> None:
    def fill(file: Any) -> None:
        group = file.create_group("g")
        for number in range(4000):
            group[f"{number:0300}"] = group[f"{0:0300}"] if number else np.zeros(300_000)

    data = file_of(fill, ("v108", "v108"))
    assert data.count(b"FHIB") > 1
    assert data.count(b"BTIN") > 1
    assert set(tensors_of(data)) == {f"g/{0:0300}"}


@pytest.mark.parametrize("libver", VERSIONS)
@pytest.mark.parametrize("block", [512, 1024, 1 << 16])
def test_a_user_block_in_front(libver: tuple[str, str], block: int) -> None:
    data = file_of(lambda file: file.create_dataset("a/b", data=BIG), libver, userblock_size=block)
    data = os.urandom(block) + data[block:]
    check_against_library(data)


@pytest.mark.parametrize("libver", VERSIONS)
@pytest.mark.parametrize("order", "<>")
def test_numbers_of_every_kind(libver: tuple[str, str], order: str) -> None:
    def fill(file: Any) -> None:
        for code in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?"):
            file[code] = np.arange(30).reshape(5, 6).astype(order + code)

    check_against_library(file_of(fill, libver))


def small_float(size: int, *fields: int, bias: int) -> Any:
    """A datatype of the library with these places of sign, exponent and mantissa."""
    kind = (h5py.h5t.IEEE_F16LE if size == 2 else h5py.h5t.IEEE_F32LE).copy()
    kind.set_fields(*fields)
    kind.set_size(size)
    kind.set_ebias(bias)
    return kind


@pytest.mark.parametrize(
    ("name", "size", "fields", "bias"),
    [
        ("BF16", 2, (15, 7, 8, 0, 7), 127),
        ("F8_E4M3", 1, (7, 3, 4, 0, 3), 7),
        ("F8_E5M2", 1, (7, 2, 5, 0, 2), 15),
        (None, 2, (15, 7, 8, 0, 7), 126),
        (None, 2, (15, 9, 6, 0, 9), 31),
    ],
)
def test_other_floats(name: str | None, size: int, fields: tuple[int, ...], bias: int) -> None:
    def fill(file: Any) -> None:
        kind = small_float(size, *fields, bias=bias)
        kind.set_precision(8 * size)
        space = h5py.h5s.create_simple((20, 3))
        values = np.arange(60, dtype=f"u{size}").reshape(20, 3)
        dataset = h5py.h5d.create(file.id, b"x", kind, space)
        dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, values, mtype=kind)
        file["other"] = BIG

    data = file_of(fill)
    found = tensors_of(data)
    assert set(found) == ({"other", "x"} if name else {"other"})
    if name:
        assert (found["x"].dtype.name, found["x"].shape) == (name, (20, 3))
        assert content(data, found["x"]) == np.arange(60, dtype=f"u{size}").tobytes()


def unusual(file: Any) -> Iterator[object]:
    yield file.create_dataset("compound", data=np.zeros(9, [("a", "f4"), ("b", "i8")]))
    yield file.create_dataset("text", data="some text")
    yield file.create_dataset("texts", data=[b"some", b"text"])
    yield file.create_dataset("lists", (3,), h5py.vlen_dtype(np.dtype("f4")))
    yield file.create_dataset("enum", data=np.ones(9, "u1"), dtype=h5py.enum_dtype({"A": 1, "B": 2}, "u1"))
    yield file.create_dataset(
        "names", data=np.ones(9, "i1"), dtype=h5py.enum_dtype({"NO": 0, "YES": 1}, "i1")
    )
    yield file.create_dataset("halves", data=np.ones(9, [("r", "f4"), ("i", "f8")]))
    yield file.create_dataset("references", data=[file["text"].ref], dtype=h5py.ref_dtype)
    yield file.create_dataset("subarrays", (3,), np.dtype(("f4", (5,))))
    yield file.create_dataset("opaque", data=np.ones(3, "V6"))
    yield file.create_dataset("null", data=h5py.Empty("f4"))
    yield file.create_dataset("gzip", data=BIG, compression="gzip")
    yield file.create_dataset("shuffle", data=BIG, shuffle=True)
    yield file.create_dataset("checksum", data=BIG, fletcher32=True)
    yield file.create_dataset("tiny chunks", data=BIG, chunks=(2, 3))
    file["type"] = np.dtype("f4")
    yield file.create_dataset("committed", data=BIG, dtype=file["type"])
    space = h5py.h5s.create_simple((4,))
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_layout(h5py.h5d.COMPACT)
    yield h5py.h5d.create(file.id, b"compact", h5py.h5t.IEEE_F32LE, space, properties)


@pytest.mark.parametrize("libver", VERSIONS)
@pytest.mark.parametrize("code", ["<c8", ">c8", "<c16", ">c16"])
def test_complex_numbers(libver: tuple[str, str], code: str) -> None:
    values = np.arange(600).astype(code) * (1 + 2j)

    def fill(file: Any) -> None:
        file["z"] = values.astype(code)

    (found,) = tensors_of(file_of(fill, libver)).items()
    assert found[0] == "z"
    assert values.astype(code).tobytes() in file_of(fill, libver)
    layout = read_layout(BytesSource(file_of(fill, libver)), DEFAULT_LIMITS)
    assert layout is not None
    assert layout.tensors[0].dtype.name == f"C{4 * int(code[2:]) * 2}{'_BE' if code[0] == '>' else ''}"


@pytest.mark.parametrize("libver", VERSIONS)
def test_what_is_not_numbers_as_they_are_stays_rest(libver: tuple[str, str]) -> None:
    def fill(file: Any) -> None:
        list(unusual(file))
        file["plain"] = np.zeros((700, 700))

    data = file_of(fill, libver)
    assert set(tensors_of(data)) == {"plain"}


@pytest.mark.parametrize("libver", VERSIONS)
def test_other_files_are_never_opened(libver: tuple[str, str], tmp_path: Any, monkeypatch: Any) -> None:
    (tmp_path / "secret").write_bytes(bytes(BIG.nbytes))
    h5py.File(tmp_path / "other.h5", "w").create_dataset("x", data=BIG)
    monkeypatch.chdir(tmp_path)
    with h5py.File("a.h5", "w", libver=libver) as file:
        file.create_dataset("external", BIG.shape, "f4", external=[("secret", 0, BIG.nbytes)])
        file["link"] = h5py.ExternalLink("other.h5", "/x")
        virtual = h5py.VirtualLayout(BIG.shape, "f4")
        virtual[:] = h5py.VirtualSource("other.h5", "x", BIG.shape)
        if libver[0] != "v108" and libver[1] != "v108":
            file.create_virtual_dataset("virtual", virtual)
        file["plain"] = BIG
    assert set(tensors_of((tmp_path / "a.h5").read_bytes())) == {"plain"}


@pytest.mark.parametrize("libver", VERSIONS)
def test_names_and_circles(libver: tuple[str, str]) -> None:
    def fill(file: Any) -> None:
        file["group/deeper/x"] = BIG
        file["group/zz"] = file["group/deeper/x"]
        file["group/aa"] = file["group/deeper/x"]
        file["group/deeper/up"] = file["group"]
        file["group/root"] = file["/"]
        file["soft"] = h5py.SoftLink("/group/deeper/x")
        file["dangling"] = h5py.SoftLink("/nowhere")

    data = file_of(fill, libver)
    assert {n: content(data, t) for n, t in tensors_of(data).items()} == {"group/aa": BIG.tobytes()}


def chunked_cases() -> Iterator[tuple[tuple[int, ...], tuple[int, ...], tuple[int | None, ...] | None]]:
    yield (100, 64), (20, 64), None
    yield (90, 64), (20, 64), None
    yield (100, 100), (40, 40), None
    yield (100, 100), (100, 100), None
    yield (100, 100), (100, 100), (None, 100)
    yield (30, 40, 50), (10, 40, 50), (None, None, 50)
    yield (30, 40, 50), (10, 20, 50), (None, None, 50)
    yield (4000, 64), (16, 64), None
    yield (4000, 64), (16, 64), (None, None)


@pytest.mark.parametrize("libver", VERSIONS)
@pytest.mark.parametrize(("shape", "chunk", "largest"), list(chunked_cases()))
def test_chunks(
    libver: tuple[str, str], shape: tuple[int, ...], chunk: tuple[int, ...], largest: tuple[int | None, ...]
) -> None:
    values = np.random.default_rng(1).standard_normal(shape).astype("f4")
    data = file_of(lambda file: file.create_dataset("x", data=values, chunks=chunk, maxshape=largest), libver)
    single_growth = largest is not None and sum(size is None for size in largest) == 1
    if libver[0] in ("v110", "latest") and single_growth:
        assert layout_of(data) is None  # an extensible array
        return
    found = tensors_of(data)
    if set(found) == {"x"}:
        assert (found["x"].shape, content(data, found["x"])) == (shape, values.tobytes())
        return
    check_pieces(data, found, values, chunk)


def check_pieces(
    data: bytes, found: dict[str, TensorSegment], values: np.ndarray, chunk: tuple[int, ...]
) -> None:
    """Every chunk is there once, and has the values of its place."""
    counts = [-(-whole // part) for whole, part in zip(values.shape, chunk, strict=True)]
    assert set(found) == {f"x#{number}" for number in range(int(np.prod(counts)))}
    for name, tensor in found.items():
        place = np.unravel_index(int(name[2:]), counts)
        window = tuple(slice(at * size, (at + 1) * size) for at, size in zip(place, chunk, strict=True))
        expected = values[window]
        piece = np.frombuffer(content(data, tensor), "f4").reshape(chunk)
        assert tensor.shape == chunk
        assert piece[tuple(map(slice, expected.shape))].tobytes() == expected.tobytes()


@pytest.mark.parametrize("libver", VERSIONS)
@pytest.mark.parametrize("count", [70, 5000])
def test_chunks_that_were_never_written(libver: tuple[str, str], count: int) -> None:
    written = [3, 4, count - 1]

    def fill(file: Any) -> None:
        dataset = file.create_dataset("x", (count, 1024), "f4", chunks=(1, 1024), fillvalue=1)
        for row in written:
            dataset[row] = np.arange(1024) + row
        file["y"] = BIG

    data = file_of(fill, libver)
    found = tensors_of(data)
    assert set(found) == {"y", *(f"x#{row}" for row in written)}
    for row in written:
        assert content(data, found[f"x#{row}"]) == (np.arange(1024, dtype="f4") + row).tobytes()


def test_chunks_that_exist_before_they_are_written() -> None:
    def fill(file: Any) -> None:
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk((50, 30))
        properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        space = h5py.h5s.create_simple((100, 60))
        dataset = h5py.h5d.create(file.id, b"x", h5py.h5t.IEEE_F32LE, space, properties)
        dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, values)

    values = np.random.default_rng(1).standard_normal((100, 60)).astype("f4")
    for libver in VERSIONS:
        data = file_of(fill, libver)
        check_pieces(data, tensors_of(data), values, (50, 30))


def old_layout(data: bytes, version: int) -> bytes:
    """The file with its layout message, of version 3 and for one dimension, replaced by an old one."""
    start = data.index(struct.pack("<HHBxxx", 8, 24, 0) + b"\x03") + 8
    storage = data[start + 1]
    if storage == 1:
        place, _ = struct.unpack_from("<QQ", data, start + 2)
        sizes = (BIG.size, 0)  # a second number fills the space
        rank = 1
    else:
        rank, place, *sizes = struct.unpack_from("<BQII", data, start + 2)
    message = struct.pack("<BBB5xQII", version, rank, storage, place, *sizes)
    assert len(message) == 24
    return data[:start] + message + data[start + 24 :]


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("chunks", [None, (BIG.size,), (BIG.size // 4,), (BIG.size // 4 - 1,)])
def test_layouts_of_old_libraries(version: int, chunks: tuple[int] | None) -> None:
    data = file_of(lambda file: file.create_dataset("x", data=BIG.ravel(), chunks=chunks))
    check_against_library(data)
    assert layout_of(old_layout(data, version)) == layout_of(data)
    check_against_library(old_layout(data, version))


def test_a_file_that_is_mostly_compressed_is_cut_into_chunks() -> None:
    noise = np.random.default_rng(1).integers(0, 1 << 32, 500_000, np.uint32)

    def fill(file: Any) -> None:
        file.create_dataset("weights", data=noise, compression="gzip")
        file["bias"] = np.ones(1000)

    assert layout_of(file_of(fill)) is None
    assert layout_of(file_of(lambda file: file.create_group("empty"))) is None


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(
        st.text(
            st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=9
        ).filter(lambda name: name != "."),
        st.tuples(st.sampled_from(["<f4", ">f4", "<f2", "i8", "?"]), st.lists(st.integers(1, 4), max_size=4)),
        min_size=1,
        max_size=12,
    ),
    st.sampled_from(VERSIONS),
    st.booleans(),
)
def test_any_names_and_shapes(
    entries: dict[str, tuple[str, list[int]]], libver: tuple[str, str], track_order: bool
) -> None:
    def fill(file: Any) -> None:
        for number, (name, (code, shape)) in enumerate(entries.items()):
            file[f"{number % 3}/{name}"] = np.full(shape, number % 2, code)

    check_against_library(file_of(fill, libver, track_order=track_order))


def test_lengths_are_those_of_the_dtypes() -> None:
    for tensor in tensors_of(file_of(nested)).values():
        assert tensor.dtype is DTYPES[tensor.dtype.name]
        assert tensor.length == tensor_bytes(tensor.dtype, tensor.shape)
