"""Files put together anew: real libraries open them, and metadata merges by key."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coral_git.formats.assemblers import ASSEMBLERS, assembler_by_name
from coral_git.formats.base import CannotAssemble, NotThisFormat, TensorData
from coral_git.formats.three_way import merge_entries
from coral_git.types import DTYPES, BytesSource

ENTRIES = st.dictionaries(st.sampled_from("abcd"), st.integers(0, 2))


def tensor(name: str, array: np.ndarray) -> TensorData:
    data = np.ascontiguousarray(array).tobytes()
    dtype = DTYPES[f"{array.dtype.kind.upper()}{8 * array.itemsize}"]
    return TensorData(name, dtype, array.shape, lambda start, length: data[start : start + length])


def assembled(
    name: str, base: bytes | None, sides: list[bytes], arrays: dict, prefers: int | None = 0
) -> bytes:
    assembler = assembler_by_name(f"{name}/1")
    assert assembler is not None
    out = io.BytesIO()
    start = None if base is None else BytesSource(base)
    tensors = [tensor(key, array) for key, array in arrays.items()]
    assembler.assemble(out, start, [BytesSource(side) for side in sides], tensors, prefers)
    return out.getvalue()


@given(st.none() | ENTRIES, ENTRIES, ENTRIES, st.sampled_from([0, 1]))
def test_entries_merge_three_ways(base, ours, theirs, prefers):
    before = base or {}
    merged = merge_entries(base, [ours, theirs], prefers)
    for key in "abcd":
        o, a, b = (entries.get(key) for entries in (before, ours, theirs))
        expected = a if a == b or b == o else b if a == o else (a, b)[prefers]
        assert merged.get(key) == expected
    contested = any(
        len({ours.get(key), theirs.get(key), before.get(key)}) == 3
        or (ours.get(key) != theirs.get(key) and before.get(key) not in (ours.get(key), theirs.get(key)))
        for key in "abcd"
    )
    if contested:
        with pytest.raises(CannotAssemble, match="metadata"):
            merge_entries(base, [ours, theirs], None)
    else:
        assert merge_entries(base, [ours, theirs], None) == merged


ARRAYS = {
    "a": np.arange(12, dtype="<f4").reshape(3, 4),
    "b": np.arange(5, dtype="<i8"),
    "empty": np.zeros((0, 3), "<f4"),
}


def test_npz():
    def saved(**arrays):
        file = io.BytesIO()
        np.savez(file, **arrays)
        return file.getvalue()

    sides = [saved(a=ARRAYS["a"]), saved(b=ARRAYS["b"])]
    with np.load(io.BytesIO(assembled("npz", None, sides, ARRAYS))) as found:
        assert set(found) == set(ARRAYS)
        assert all(np.array_equal(found[name], array) for name, array in ARRAYS.items())
    packed = io.BytesIO()
    np.savez_compressed(packed, a=ARRAYS["a"])
    mixed = io.BytesIO(sides[0])
    for odd, message in (
        (saved(f=np.asfortranarray(ARRAYS["a"])), "Fortran"),
        (saved(s=np.zeros(3, "i4,f4")), "structured"),
    ):
        with pytest.raises(CannotAssemble, match=message):
            assembled("npz", None, [sides[0], odd], ARRAYS)
    with pytest.raises((CannotAssemble, NotThisFormat)):
        assembled("npz", None, [sides[0], packed.getvalue()], ARRAYS)
    assert mixed.getvalue() == sides[0]


def gguf_file(tmp_path, arrays, alignment=None, **metadata) -> bytes:
    gguf = pytest.importorskip("gguf")
    place = tmp_path / "made.gguf"
    writer = gguf.GGUFWriter(place, "test")
    if alignment:
        writer.add_custom_alignment(alignment)
    for key, value in metadata.items():
        if isinstance(value, list):
            writer.add_array(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        else:
            writer.add_string(key, value)
    for name, array in arrays.items():
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return place.read_bytes()


@pytest.mark.parametrize("alignment", [None, 64])
def test_gguf(tmp_path, alignment):
    gguf = pytest.importorskip("gguf")
    arrays = {"a": ARRAYS["a"], "b": ARRAYS["b"]}
    base = gguf_file(tmp_path, {"a": arrays["a"]}, alignment, n=1, words=["x", "y"], old="o")
    ours = gguf_file(tmp_path, {"a": arrays["a"]}, alignment, n=2, words=["x", "y"], old="o")
    theirs = gguf_file(tmp_path, {"b": arrays["b"]}, alignment, n=1, words=["x", "y", "z"], new="w")
    place = tmp_path / "merged.gguf"
    place.write_bytes(assembled("gguf", base, [ours, theirs], arrays))
    reader = gguf.GGUFReader(place)
    assert {one.name: one.data.shape for one in reader.tensors} == {"a": (3, 4), "b": (5,)}
    assert all(np.array_equal(one.data, arrays[one.name]) for one in reader.tensors)
    fields = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF")}
    assert (fields["n"], fields["words"], fields["new"]) == (2, ["x", "y", "z"], "w")
    assert "old" not in fields
    assert fields.get("general.alignment") == alignment
    contested = gguf_file(tmp_path, {"b": arrays["b"]}, alignment, n=3)
    with pytest.raises(CannotAssemble, match="'n'"):
        assembled("gguf", base, [ours, contested], arrays, None)


def test_safetensors():
    load = pytest.importorskip("safetensors").deserialize

    def header(**metadata):
        text = json.dumps({"__metadata__": metadata} if metadata else {}).encode()
        return len(text).to_bytes(8, "little") + text

    made = assembled("safetensors", header(a="1"), [header(a="2"), header(a="1", b="3")], ARRAYS)
    assert {name for name, _ in load(made)} == set(ARRAYS)
    length = int.from_bytes(made[:8], "little")
    assert json.loads(made[8 : 8 + length])["__metadata__"] == {"a": "2", "b": "3"}


@pytest.mark.parametrize("name", ASSEMBLERS)
def test_an_assembler_is_found_by_the_name_of_its_reader(name):
    assert assembler_by_name(f"{name}/1").name == name
    assert assembler_by_name("onnx/1") is None


@pytest.mark.parametrize("name", ASSEMBLERS)
@given(data=st.binary(max_size=200))
def test_hostile_versions_are_refused(name, data):
    starts = {"safetensors": b"", "npz": b"PK\3\4", "gguf": b"GGUF\3\0\0\0"}
    try:
        assembled(name, None, [starts[name] + data, starts[name] + data], {})
    except (CannotAssemble, NotThisFormat):
        return
