"""State dicts that we write are what torch saves, and stay whole when tensors in them are overwritten."""

from __future__ import annotations

import io
import os
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from coral_git.errors import UsageError  # noqa: E402
from coral_git.formats import zip_writer  # noqa: E402
from coral_git.formats.base import Layout, TensorData  # noqa: E402
from coral_git.formats.menders import mender_by_name  # noqa: E402
from coral_git.formats.mending import covering, mend  # noqa: E402
from coral_git.formats.torch_zip_writer import TorchZipWriter  # noqa: E402
from coral_git.formats.zip_index import read_zip  # noqa: E402
from coral_git.limits import DEFAULT_LIMITS, MIB  # noqa: E402
from coral_git.types import DTYPES as ALL_DTYPES  # noqa: E402
from coral_git.types import BytesSource  # noqa: E402

from .torch_cases import DTYPES, content, expected_of, layout_of, random_tensor, saved, seen_in  # noqa: E402

NAMES = {name: dtype for dtype, name in DTYPES.items()}


def tensor_data(name: str, tensor: torch.Tensor) -> TensorData:
    raw = content(tensor)
    dtype = ALL_DTYPES[DTYPES[tensor.dtype]]
    return TensorData(name, dtype, tuple(tensor.shape), lambda start, length: raw[start : start + length])


def written(tensors: dict[str, torch.Tensor]) -> bytes:
    file = io.BytesIO()
    TorchZipWriter().write(file, [tensor_data(name, tensor) for name, tensor in tensors.items()], {})
    return file.getvalue()


def check(tensors: dict[str, torch.Tensor]) -> None:
    """Torch, Python and our reader agree about what was written."""
    data = written(tensors)
    assert seen_in(data, "torch-zip/1") == expected_of(tensors)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
    loaded = torch.load(io.BytesIO(data), weights_only=True)
    assert list(loaded) == list(tensors)
    for name, tensor in tensors.items():
        assert loaded[name].dtype == tensor.dtype
        assert loaded[name].shape == tensor.shape
        assert loaded[name].is_contiguous()
        assert content(loaded[name]) == content(tensor)


@pytest.mark.parametrize("wide", [zip_writer.LARGE, 40], ids=["32 bits", "64 bits"])
def test_torch_opens_what_we_write(wide: int, monkeypatch) -> None:
    monkeypatch.setattr(zip_writer, "LARGE", wide)
    tensors = {f"layer.{name}": random_tensor((3, 5), dtype) for dtype, name in DTYPES.items()}
    tensors |= {"späß 🙂": random_tensor(()), "empty": random_tensor((0, 4))}
    check(tensors | {"long": random_tensor((MIB // 2 + 3,))})
    check({})


@settings(max_examples=25, deadline=None)
@given(
    st.dictionaries(
        st.text(max_size=6).filter(lambda name: not name.startswith("data/")),
        st.builds(
            random_tensor, st.lists(st.integers(0, 4), max_size=4).map(tuple), st.sampled_from([*DTYPES])
        ),
        max_size=5,
    )
)
def test_any_state_dict(tensors: dict[str, torch.Tensor]) -> None:
    tensors = {name or "x": tensor for name, tensor in tensors.items()}
    check(tensors)


def test_mapped_loading(tmp_path) -> None:
    path = tmp_path / "m.pt"
    path.write_bytes(written({"w": random_tensor((7, 9))}))
    loaded = torch.load(path, weights_only=True, mmap=True)
    assert content(loaded["w"]) == content(random_tensor((7, 9)))


def test_pairs_of_four_bit_floats() -> None:
    raw = bytes(range(12))
    file = io.BytesIO()
    tensor = TensorData("w", ALL_DTYPES["F4"], (2, 12), lambda start, length: raw[start : start + length])
    TorchZipWriter().write(file, [tensor], {})
    assert seen_in(file.getvalue()) == {"w": ("F4", (2, 12), raw)}
    loaded = torch.load(io.BytesIO(file.getvalue()), weights_only=True)["w"]
    assert (loaded.dtype, loaded.shape) == (torch.float4_e2m1fn_x2, (2, 6))
    assert content(loaded.view(torch.uint8)) == raw


@pytest.mark.parametrize(
    ("dtype", "shape"), [("F32_BE", (2,)), ("Q4_0", (32,)), ("F6_E2M3", (4,)), ("F4", ()), ("F4", (2, 3))]
)
def test_what_torch_does_not_have(dtype: str, shape: tuple[int, ...]) -> None:
    file = io.BytesIO()
    tensor = TensorData("the.name", ALL_DTYPES[dtype], shape, lambda start, length: bytes(length))
    with pytest.raises(UsageError, match=r"the\.name") as raised:
        TorchZipWriter().write(file, [tensor], {})
    assert raised.value.hint
    assert not file.getvalue()


def test_golden_bytes() -> None:
    with zipfile.ZipFile(io.BytesIO(written({"w": torch.zeros(2, 3, dtype=torch.bfloat16)}))) as archive:
        names = ["data.pkl", "byteorder", "data/0", "version"]
        assert archive.namelist() == [f"archive/{name}" for name in names]
        assert archive.read("archive/data.pkl") == (
            b"\x80\x02ccollections\nOrderedDict\n)R(X\x01\0\0\0wctorch._utils\n_rebuild_tensor_v2\n("
            b"(X\x07\0\0\0storagectorch\nBFloat16Storage\nX\x01\0\0\x000X\x03\0\0\0cpuJ\x06\0\0\0tQ"
            b"J\0\0\0\0(J\x02\0\0\0J\x03\0\0\0t(J\x03\0\0\0J\x01\0\0\0t\x89ccollections\nOrderedDict\n)RtRu."
        )


def test_big_numbers() -> None:
    file = io.BytesIO()
    shape = (0, 1 << 40, 3)
    TorchZipWriter().write(file, [TensorData("w", ALL_DTYPES["I8"], shape, lambda start, length: b"")], {})
    assert torch.load(io.BytesIO(file.getvalue()), weights_only=True)["w"].shape == shape


def by_python(tensors: dict[str, torch.Tensor]) -> bytes:
    """The file that torch writes, rewritten with checksums before the data."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(saved(tensors))) as theirs, zipfile.ZipFile(file, "w") as ours:
        for name in theirs.namelist():
            ours.writestr(name, theirs.read(name))
    return file.getvalue()


def overwritten(data: bytes, path, names: set[str]) -> tuple[bytes, Layout]:
    """The file after new bytes were written over some tensors and it was mended."""
    layout = layout_of(data)
    assert layout is not None
    changed = [tensor for tensor in layout.tensors if tensor.name in names]
    path.write_bytes(data)
    with path.open("r+b") as file:
        for tensor in changed:
            os.pwrite(file.fileno(), b"\x41" * tensor.length, tensor.offset)
        mender = mender_by_name(layout.format)
        assert mender is not None
        mend(file.fileno(), covering(mender.checksums(BytesSource(data), layout), changed))
    return path.read_bytes(), layout


@pytest.mark.parametrize("make", [saved, written, by_python])
def test_checksums_after_tensors_were_overwritten(make, tmp_path) -> None:
    tensors = {name: random_tensor((9, 5), seed=seed) for seed, name in enumerate("abcd")}
    tensors["big"] = random_tensor((MIB // 3,))
    tensors["empty"] = random_tensor((0,))
    data = make(tensors)
    result, _ = overwritten(data, tmp_path / "m.pt", {"a", "c", "big", "empty"})
    with zipfile.ZipFile(io.BytesIO(result)) as archive:
        assert archive.testzip() is None
    seen = seen_in(result)
    assert {name for name, (_, _, raw) in seen.items() if raw and set(raw) == {0x41}} == {"a", "c", "big"}
    assert seen["b"] == seen_in(data)["b"]
    assert overwritten(data, tmp_path / "n.pt", set())[0] == data
    assert len(result) == len(data)
    for entry in read_zip(BytesSource(result), DEFAULT_LIMITS):  # those who read from the front see the same
        assert entry.crc == zipfile.crc32(result[entry.offset : entry.offset + entry.size])


def test_two_tensors_of_one_storage(tmp_path) -> None:
    base = random_tensor((8,))
    result, _ = overwritten(saved({"low": base[:3], "high": base[4:]}), tmp_path / "m.pt", {"low", "high"})
    assert zipfile.ZipFile(io.BytesIO(result)).testzip() is None
    loaded = torch.load(io.BytesIO(result), weights_only=True)
    assert content(loaded["low"]) == b"\x41" * 12


def test_data_is_aligned_as_torch_aligns_it() -> None:
    tensors = {"a": random_tensor((3,)), "b" * 70: random_tensor((2,))}
    for data in (written(tensors), saved(tensors)):
        assert all(tensor.offset % 64 == 0 for tensor in layout_of(data).tensors)
