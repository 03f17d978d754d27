"""NumPy archives: those that numpy writes, and those that nobody should."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coral_git.formats.base import Layout
from coral_git.formats.npz import NpzReader
from coral_git.formats.registry import read_layout
from coral_git.limits import DEFAULT_LIMITS
from coral_git.types import BytesSource

from .hostile import ask, contents, damaged

READER = NpzReader()
ARRAYS = {
    "layer/weight": np.arange(12, dtype="<f4").reshape(3, 4),
    "späß": np.array(3, ">i2"),
    "empty": np.zeros((0, 5), "f8"),
    "": np.ones(3, "?"),
    "a.npy": np.full(2, 1j, "c16"),
}


def saved(arrays: dict[str, np.ndarray], save=np.savez) -> bytes:
    file = io.BytesIO()
    save(file, **arrays)
    return file.getvalue()


def layout_of(data: bytes) -> Layout:
    layout = read_layout(BytesSource(data), DEFAULT_LIMITS)
    assert layout is not None
    assert layout == ask(READER, data)
    assert layout.format == "npz/1"
    return layout


def zipped(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


def npy(array: np.ndarray, **options) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def test_what_numpy_writes() -> None:
    data = saved(ARRAYS)
    layout = layout_of(data)
    found = contents(data, layout)
    assert found == {name: array.tobytes() for name, array in ARRAYS.items()}
    assert [t.name for t in layout.tensors] == list(ARRAYS)
    assert [t.shape for t in layout.tensors] == [array.shape for array in ARRAYS.values()]
    assert [t.dtype.name for t in layout.tensors] == ["F32", "I16_BE", "F64", "BOOL", "C128"]
    with np.load(io.BytesIO(data)) as archive:
        assert len(archive.files) == len(layout.tensors)


def test_fortran_order() -> None:
    data = saved({"a": np.asfortranarray(ARRAYS["layer/weight"])})
    (tensor,) = layout_of(data).tensors
    assert (tensor.name, tensor.shape) == ("a.T", (4, 3))
    assert contents(data, layout_of(data)) == {"a.T": ARRAYS["layer/weight"].T.tobytes()}


def test_compressed_arrays_are_opaque() -> None:
    assert ask(READER, saved(ARRAYS, np.savez_compressed)) is None
    file = io.BytesIO(saved({"a": np.arange(3)}))
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("b.npy", npy(np.zeros(1000)))
    assert [t.name for t in layout_of(file.getvalue()).tensors] == ["a"]


def test_members_that_are_no_arrays_are_opaque() -> None:
    good = npy(np.arange(3))
    members = {
        "text.txt": b"hello",
        "object.npy": npy(np.array([{}], object), allow_pickle=True),
        "broken.npy": good[:-1],
        "empty.npy": b"",
        "good": good,
        "good.npy": good,
    }
    assert [t.name for t in layout_of(zipped(members)).tensors] == ["good"]
    del members["good.npy"]
    assert ask(READER, zipped(members)) is None


def test_two_arrays_of_one_name_are_refused() -> None:
    array = ARRAYS["layer/weight"]
    assert ask(READER, saved({"a.T": array, "a": np.asfortranarray(array)})) is None


def test_an_array_never_leaves_its_member() -> None:
    data = zipped({"a.npy": npy(np.zeros(2, "u1")).replace(b"(2,)", b"(9,)"), "b.npy": npy(np.zeros(20))})
    assert [t.name for t in layout_of(data).tensors] == ["b"]


def test_a_cut_anywhere_is_noticed() -> None:
    data = saved({"a": np.arange(3), "b": np.ones(2)})
    for length in range(len(data)):
        assert ask(READER, data[:length]) is None


SAMPLE = saved({"a": np.arange(3, dtype="f4"), "b": np.asfortranarray(np.ones((2, 2)))})


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_damage_gives_a_sound_layout_or_none(data: st.DataObject) -> None:
    ask(READER, damaged(data, SAMPLE))


def test_only_the_index_is_read() -> None:
    data = saved({f"{n}": np.zeros(100_000, "f4") for n in range(20)})

    class Counting:
        size = len(data)
        read = 0

        def read_at(self, offset: int, length: int) -> bytes:
            self.read += length
            return data[offset : offset + length]

    source = Counting()
    assert len(READER.layout(source, DEFAULT_LIMITS).tensors) == 20
    assert source.read < len(data) / 50


@pytest.mark.parametrize("head", [b"PK\3\4", b"PK\3\4" + bytes(100)])
def test_other_zip_files_are_chunked(head: bytes) -> None:
    assert ask(READER, head) is None
    assert ask(READER, zipped({"archive/data.pkl": b"\x80\x02."})) is None
