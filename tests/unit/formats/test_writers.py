"""Files that we write, as the libraries and our own readers see them."""

from __future__ import annotations

import io
import sys
import tracemalloc
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.numpy
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coral_git.errors import IntegrityError, UsageError
from coral_git.formats import zip_writer
from coral_git.formats.base import FormatWriter, Layout, NotThisFormat, TensorData, TensorSegment
from coral_git.formats.menders import MENDERS, NothingToMend, mender_by_name
from coral_git.formats.mending import covering, mend
from coral_git.formats.registry import READERS, read_layout
from coral_git.formats.writers import GRAPH_FORMATS, WRITERS, format_for_path, writer_by_name
from coral_git.formats.zip_mender import ZipMender
from coral_git.limits import DEFAULT_LIMITS, MIB
from coral_git.types import DTYPES, BytesSource

from .hostile import contents

GOLDEN = Path(__file__).parents[2] / "golden" / "formats"
_SAME = {f"{kind}{8 * size}": f"<{kind.lower()}{size}" for kind in "UIF" for size in (1, 2, 4, 8)}
_LITTLE = {**_SAME, "C64": "<c8", "C128": "<c16", "BOOL": "?"}
_LITTLE.pop("F8")
_BIG = {f"{name}_BE": f">{code[1:]}" for name, code in _LITTLE.items() if f"{name}_BE" in DTYPES}
NUMPY = _LITTLE | _BIG
Arrays = Mapping[str, np.ndarray]


def tensor(name: str, dtype: str, shape: tuple[int, ...], data: bytes | None = None) -> TensorData:
    """A tensor of given or of varied bytes."""
    empty = TensorData(name, DTYPES[dtype], shape, lambda start, length: b"")
    whole = bytes(n % 251 for n in range(empty.length)) if data is None else data
    return empty._replace(read=lambda start, length: whole[start : start + length])


def plain(name: str, array: np.ndarray, dtype: str) -> TensorData:
    return tensor(name, dtype, array.shape, array.tobytes())


def written(name: str, *tensors: TensorData, **metadata: str) -> bytes:
    out = io.BytesIO()
    writer_by_name(name).write(out, tensors, metadata)
    return out.getvalue()


def check_round_trip(name: str, data: bytes, *tensors: TensorData) -> Layout:
    """Our own reader sees the same."""
    layout = read_layout(BytesSource(data), DEFAULT_LIMITS)
    assert layout is not None
    assert layout.format == f"{name}/1"
    assert [(t.name, t.dtype, t.shape) for t in layout.tensors] == [
        (t.name, t.dtype, t.shape) for t in tensors
    ]
    assert contents(data, layout) == {t.name: bytes(t.read(0, t.length)) for t in tensors}
    return layout


SMALL = (
    tensor("blk.0.weight", "F32", (2, 3)),
    tensor("größe", "F16", (3,)),
    tensor("scalar", "F64", ()),
    tensor("empty", "I8", (0, 4)),
)


# --- npy


@pytest.mark.parametrize(("dtype", "code"), NUMPY.items())
@pytest.mark.parametrize("shape", [(), (3,), (2, 0), (123456, 2), (1, 2, 3)])
def test_npy_is_what_numpy_writes(dtype: str, code: str, shape: tuple[int, ...]) -> None:
    size = int(np.prod(shape)) * np.dtype(code).itemsize
    array = np.frombuffer((bytes(range(128)) * (size // 128 + 1))[:size], code).reshape(shape)
    theirs = io.BytesIO()
    np.save(theirs, array)
    one = tensor("array", dtype, shape, array.tobytes())
    data = written("npy", one)
    assert data == theirs.getvalue()
    check_round_trip("npy", data, one)


def test_npy_holds_one_tensor() -> None:
    for tensors in ((), SMALL[:2]):
        with pytest.raises(UsageError, match="holds one tensor") as caught:
            written("npy", *tensors)
        assert caught.value.hint


# --- npz


def test_npz_is_what_numpy_reads() -> None:
    tensors = [tensor(f"{dtype}/{n}", dtype, (2, n)) for dtype in NUMPY for n in (0, 5)]
    tensors += [tensor("", "F32", ()), tensor("späß", "U8", (2 * MIB + 1,))]
    data = written("npz", *tensors, ignored="text")
    check_round_trip("npz", data, *tensors)
    with np.load(io.BytesIO(data)) as archive:
        assert sorted(archive.files) == sorted(t.name for t in tensors)
        for t in tensors:
            array = archive[t.name]
            assert (array.dtype, array.shape) == (np.dtype(NUMPY[t.dtype.name]), t.shape)
            assert array.tobytes() == t.read(0, t.length)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None


def test_npz_of_large_files(monkeypatch: pytest.MonkeyPatch) -> None:
    small = written("npz", *SMALL)
    monkeypatch.setattr(zip_writer, "LARGE", 150)
    data = written("npz", *SMALL)
    assert len(data) > len(small) + 56 + 20
    check_round_trip("npz", data, *SMALL)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
    monkeypatch.setattr(zip_writer, "LARGE", 0xFFFFFFFF)
    monkeypatch.setattr(zip_writer, "MANY", 4)
    data = written("npz", *SMALL)
    assert len(data) == len(small) + 56 + 20
    check_round_trip("npz", data, *SMALL)
    assert len(zipfile.ZipFile(io.BytesIO(data)).namelist()) == len(SMALL)


@pytest.mark.parametrize("dtype", ["BF16", "F8_E4M3", "F8_E5M2", "F4", "Q4_0"])
@pytest.mark.parametrize("name", ["npy", "npz"])
def test_dtypes_that_numpy_lacks(name: str, dtype: str) -> None:
    out = io.BytesIO()
    with pytest.raises(UsageError, match="'a\\\\x1b' has the dtype " + dtype) as caught:
        writer_by_name(name).write(out, [tensor("a\x1b", dtype, (32,))], {})
    assert "--dtype" in caught.value.hint
    assert not out.getvalue()


@pytest.mark.parametrize("name", ["a\0b", "n" * 65532])
def test_names_that_no_member_can_have(name: str) -> None:
    with pytest.raises(UsageError, match="has a name that"):
        written("npz", tensor(name, "U8", (1,)))


# --- safetensors


def test_safetensors_is_what_the_library_writes() -> None:
    arrays = {
        "a": np.arange(6, dtype="f4").reshape(2, 3),
        "b": np.ones((), "f4"),
        "ä": np.zeros((0, 2), "f4"),
    }
    tensors = [plain(name, array, "F32") for name, array in arrays.items()]
    assert written("safetensors", *tensors) == safetensors.numpy.save(arrays)
    with_text = written("safetensors", *tensors, format="pt")
    assert with_text == safetensors.numpy.save(arrays, metadata={"format": "pt"})
    assert written("safetensors") == safetensors.numpy.save({})


def test_safetensors_keeps_the_order_where_it_can(tmp_path: Path) -> None:
    fine = (tensor("z", "F16", (4,)), tensor("a", "F64", (2,)), tensor("m", "BOOL", (3,)))
    check_round_trip("safetensors", written("safetensors", *fine), *fine)
    odd = (
        tensor("z", "U8", (3,)),
        tensor("a", "F16", (1,)),
        tensor("b", "F4", (2,)),
        tensor("m", "F64", (1,)),
    )
    data = written("safetensors", *odd)
    check_round_trip("safetensors", data, odd[3], odd[1], odd[0], odd[2])
    path = tmp_path / "m.safetensors"
    path.write_bytes(written("safetensors", *odd[:2], odd[3]))
    assert {name: tuple(t.shape) for name, t in safetensors.torch.load_file(path).items()} == {
        "z": (3,),
        "a": (1,),
        "m": (1,),
    }


def test_safetensors_reads_every_dtype() -> None:
    names = [name for name in DTYPES if name.split("_BE")[0] == name and DTYPES[name].values == 1]
    tensors = [tensor(name, name, (3, 8)) for name in names if name != "C128" and "FNUZ" not in name]
    theirs = dict(safetensors.deserialize(written("safetensors", *tensors)))
    for t in tensors:
        view = theirs[t.name]
        assert (view["dtype"], tuple(view["shape"])) == (t.dtype.name, t.shape)
        assert bytes(view["data"]) == t.read(0, t.length)


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(
        st.text(max_size=5).filter(lambda name: name != "__metadata__"),
        st.tuples(st.sampled_from(["F32", "BF16", "I64", "U8"]), st.lists(st.integers(0, 3), max_size=3)),
        max_size=5,
    ),
    st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
)
def test_safetensors_of_any_names(
    entries: dict[str, tuple[str, list[int]]], metadata: dict[str, str]
) -> None:
    tensors = [tensor(name, dtype, tuple(shape)) for name, (dtype, shape) in entries.items()]
    out = io.BytesIO()
    writer_by_name("safetensors").write(out, tensors, metadata)
    theirs = dict(safetensors.deserialize(out.getvalue()))
    assert {name: bytes(view["data"]) for name, view in theirs.items()} == {
        t.name: t.read(0, t.length) for t in tensors
    }
    layout = read_layout(BytesSource(out.getvalue()), DEFAULT_LIMITS)
    assert layout is not None
    assert len(layout.tensors) == len(tensors)


def test_safetensors_metadata_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    metadata = {"format": "pt", 'a"\\\n': "🙂"}
    out = io.BytesIO()
    writer_by_name("safetensors").write(out, SMALL, metadata)
    path.write_bytes(out.getvalue())
    with safetensors.safe_open(path, "np") as file:
        assert file.metadata() == metadata


def test_what_safetensors_cannot_hold() -> None:
    for dtype in ("C128", "F32_BE", "Q4_K"):
        with pytest.raises(UsageError, match=dtype):
            written("safetensors", tensor("a", dtype, (256,)))
    with pytest.raises(UsageError, match="__metadata__"):
        written("safetensors", tensor("__metadata__", "F32", (1,)))


# --- gguf


def test_gguf_is_what_the_library_reads(tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    kinds = [kind for kind in gguf.GGMLQuantizationType if kind.name in DTYPES and kind.name != "Q8_1"]
    tensors = [tensor(kind.name, kind.name, (3, 2 * gguf.GGML_QUANT_SIZES[kind][0])) for kind in kinds]
    tensors += SMALL
    data = written("gguf", *tensors, author="späß", **{"general.alignment": "64"})
    check_round_trip("gguf", data, *tensors)
    path = tmp_path / "m.gguf"
    path.write_bytes(data)
    reader = gguf.GGUFReader(path)
    assert [t.name for t in reader.tensors] == [t.name for t in tensors]
    for theirs, ours in zip(reader.tensors, tensors, strict=True):
        assert (theirs.tensor_type.name, theirs.data.tobytes()) == (
            ours.dtype.name,
            ours.read(0, ours.length),
        )
        assert tuple(theirs.shape.tolist()[::-1]) == ours.shape
    assert reader.get_field("author").contents() == "späß"
    assert reader.get_field("general.architecture").contents() == "unknown"
    assert reader.get_field("general.alignment") is None
    path.write_bytes(written("gguf", **{"general.architecture": "llama"}))
    assert gguf.GGUFReader(path).get_field("general.architecture").contents() == "llama"


def test_gguf_is_what_the_library_writes(tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    arrays = {"a": np.arange(6, dtype="f4").reshape(2, 3), "b": np.ones(5, "f2")}
    for name, array in arrays.items():
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    ours = written(
        "gguf",
        plain("a", arrays["a"], "F32"),
        plain("b", arrays["b"], "F16"),
        **{"general.architecture": "llama"},
    )
    assert ours == (tmp_path / "m.gguf").read_bytes()


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (tensor("a", "U8", (1,)), "dtype U8"),
        (tensor("a", "F32_BE", (1,)), "dtype F32_BE"),
        (tensor("a", "F32", (1, 1, 1, 1, 1)), "5 dimensions"),
        (tensor("a", "BF16", ()), "0 dimensions"),
        (tensor("a", "Q8_0", (2, 16)), "whole blocks"),
        (tensor("n" * 64, "F32", (1,)), "longer than 63"),
    ],
)
def test_what_gguf_cannot_hold(bad: TensorData, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        written("gguf", bad)


# --- hdf5


def test_hdf5_is_what_the_library_reads() -> None:
    h5py = pytest.importorskip("h5py")
    tensors = [tensor(f"{dtype}/{n}", dtype, (2, n)) for dtype in NUMPY for n in (0, 5)]
    tensors += [tensor("scalar", "F32", ()), tensor("späß.weight", "U8", (2 * MIB + 1,))]
    text = {"framework": "pt", "größe": "🙂" * 40_000, "": "no name", "nul": "\0"}
    out, again = io.BytesIO(), io.BytesIO()
    for file in (out, again):
        writer_by_name("hdf5").write(file, tensors, text)
    assert out.getvalue() == again.getvalue()
    check_round_trip("hdf5", out.getvalue(), *(t for t in tensors if t.length))  # others have no place
    with h5py.File(out) as file:
        assert dict(file.attrs) == {"framework": "pt", "größe": "🙂" * 40_000}
        for t in tensors:
            array = file[t.name]
            assert (array.dtype, array.shape) == (np.dtype(NUMPY[t.dtype.name]), t.shape)
            assert array[()].tobytes() == t.read(0, t.length)


def test_what_hdf5_cannot_hold() -> None:
    for dtype in ("BF16", "F8_E4M3", "F4", "Q4_0"):
        with pytest.raises(UsageError, match="'a\\\\x1b' has the dtype " + dtype) as caught:
            written("hdf5", tensor("a\x1b", dtype, (32,)))
        assert "--dtype" in caught.value.hint
    for name in ("", "/a", "a/", "a//b", "a/./b", ".", "a\0b"):
        with pytest.raises(UsageError, match="has a name that"):
            written("hdf5", tensor(name, "U8", (1,)))
    with pytest.raises(UsageError, match="'a/b' has the name of a group"):
        written("hdf5", tensor("a/b", "U8", (1,)), tensor("a/b/c/d", "U8", (1,)))
    with pytest.raises(UsageError, match="more dimensions"):
        written("hdf5", tensor("a", "U8", (1,) * 33))


def test_hdf5_needs_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(UsageError, match="h5py, which is not installed") as caught:
        written("hdf5", tensor("a", "U8", (1,)))
    assert caught.value.hint == "pip install 'coral-git[hdf5]'"


# --- all of them


def needs(writer: FormatWriter) -> None:
    """Skip the test where the library of a writer is not installed."""
    if writer.name == "hdf5":
        pytest.importorskip("h5py")


@pytest.mark.parametrize("name", ["npz", "gguf", "safetensors", "torch-zip"])
def test_golden_bytes(name: str) -> None:
    tensors = SMALL[2:3] + SMALL[:2] + SMALL[3:]
    assert written(name, *tensors, author="späß") == (GOLDEN / f"small.{name}").read_bytes()


@pytest.mark.parametrize("writer", WRITERS, ids=lambda writer: writer.name)
def test_memory_is_a_piece(tmp_path: Path, writer: FormatWriter) -> None:
    needs(writer)
    zeros = bytes(MIB)
    large = TensorData("a", DTYPES["F32"], (16, MIB // 4), lambda start, length: zeros[:length])
    assert sum(map(len, large.pieces())) == 16 * MIB
    with (tmp_path / "out").open("w+b") as out:
        tracemalloc.start()
        writer.write(out, [large], {})
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 2 * MIB


@pytest.mark.parametrize("writer", WRITERS, ids=lambda writer: writer.name)
def test_a_tensor_that_ends_early_is_an_error(writer: FormatWriter) -> None:
    needs(writer)
    short = tensor("a", "F32", (4,), bytes(12))
    with pytest.raises(IntegrityError, match="'a' is cut short"):
        writer.write(io.BytesIO(), [short], {})


def test_names_and_suffixes() -> None:
    readers = {reader.name for reader in READERS}
    suffixes = [suffix for writer in WRITERS for suffix in writer.suffixes]
    assert len(set(suffixes)) == len(suffixes)
    for writer in WRITERS:
        assert writer.name in readers
        assert writer_by_name(writer.name) is writer
        for suffix in writer.suffixes:
            assert format_for_path(f"some/model{suffix}") == writer.name
            assert format_for_path(f"MODEL{suffix.upper()}") == writer.name
    assert format_for_path("x\n.doc") is None
    with pytest.raises(UsageError, match=r"'x\\n.doc'") as caught:
        writer_by_name("x\n.doc")
    assert all(name in caught.value.hint for name in ("safetensors", "npz", "gguf"))


def test_graphs_cannot_be_written() -> None:
    for name, suffixes in GRAPH_FORMATS.items():
        assert name in {reader.name for reader in READERS}
        assert [format_for_path(f"model{suffix}") for suffix in suffixes] == [name]
        with pytest.raises(UsageError, match=f"cannot write the format '{name}': it needs a graph"):
            writer_by_name(name)


# --- menders


def test_menders() -> None:
    assert isinstance(mender_by_name("safetensors/1"), NothingToMend)
    assert isinstance(mender_by_name("gguf"), NothingToMend)
    assert isinstance(mender_by_name("npz/1"), ZipMender)
    assert isinstance(mender_by_name("keras/1"), ZipMender)
    assert isinstance(mender_by_name("hdf5/1"), NothingToMend)
    assert mender_by_name("chunks/1") is None
    assert {mender.name for mender in MENDERS} <= {reader.name for reader in READERS}
    assert not mender_by_name("npy").checksums(BytesSource(b""), Layout("npy/1", ()))


def streamed(arrays: Arrays) -> bytes:
    """An archive whose checksums are behind the data."""

    class Pipe(io.RawIOBase):
        data = b""

        def writable(self) -> bool:
            return True

        def write(self, data) -> int:
            self.data += bytes(data)
            return len(data)

    pipe = Pipe()
    np.savez(pipe, **arrays)
    return pipe.data


ARRAYS = {"a": np.arange(6, dtype="<f4"), "b": np.arange(300_000, dtype="<f8"), "empty": np.zeros(0)}


def savez(arrays: Arrays) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def ours(arrays: Arrays) -> bytes:
    return written("npz", *(plain(name, array, f"F{8 * array.itemsize}") for name, array in arrays.items()))


@pytest.mark.parametrize("make", [savez, streamed, ours])
def test_an_archive_is_mended(tmp_path: Path, make) -> None:
    path = tmp_path / "m.npz"
    path.write_bytes(make(ARRAYS))
    layout = read_layout(BytesSource(path.read_bytes()), DEFAULT_LIMITS)
    assert layout is not None
    changed = [t for t in layout.tensors if t.name != "a"]
    with path.open("r+b") as file:
        file.seek(changed[0].offset)
        file.write(ARRAYS["b"][::-1].tobytes())
    with pytest.raises(zipfile.BadZipFile, match="Bad CRC-32"), np.load(path) as archive:
        archive["b"]
    checksums = mender_by_name("npz").checksums(BytesSource(path.read_bytes()), layout)
    assert len(checksums) == 3
    with path.open("r+b") as file:
        mend(file.fileno(), covering(checksums, changed))
    with np.load(path) as archive:
        assert np.array_equal(archive["b"], ARRAYS["b"][::-1])
        assert np.array_equal(archive["a"], ARRAYS["a"])
    new = make({**ARRAYS, "b": ARRAYS["b"][::-1]})
    if make is not streamed:
        assert path.read_bytes() == new


def test_what_cannot_be_mended(tmp_path: Path) -> None:
    path = tmp_path / "m.npz"
    path.write_bytes(savez(ARRAYS))
    layout = read_layout(BytesSource(path.read_bytes()), DEFAULT_LIMITS)
    mender = ZipMender("npz")
    source = BytesSource(path.read_bytes())
    for place in (0, path.stat().st_size - 8, layout.tensors[0].offset + 20):
        odd = layout._replace(tensors=(TensorSegment("x", DTYPES["U8"], (8,), place, 8),))
        with pytest.raises(IntegrityError, match="no stored member"):
            mender.checksums(source, odd)
    with pytest.raises(NotThisFormat):
        mender.checksums(BytesSource(b""), layout)
    path.write_bytes(b"cut short")
    with path.open("r+b") as file, pytest.raises(IntegrityError, match="ends before"):
        mend(file.fileno(), mender.checksums(source, layout))


def test_values_keep_every_bit() -> None:
    """NaN payloads, negative zero and bfloat16 through a file and a library."""
    bits = np.array([0x7FC1, 0xFFFF, 0x8000, 0x0001], "<u2")
    values = tensor("a", "BF16", (4,), bits.tobytes())
    theirs = safetensors.torch.load(written("safetensors", values))["a"]
    assert theirs.dtype == torch.bfloat16
    assert theirs.view(torch.uint16).numpy().tobytes() == bits.tobytes()
