"""Files of torch that nobody should write: refused or read within bounds, and never in another way."""

from __future__ import annotations

import io
import pickle
import struct
import subprocess
import sys
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from coral_git.formats.torch_legacy import TorchLegacyReader  # noqa: E402
from coral_git.formats.torch_zip import TorchZipReader  # noqa: E402
from coral_git.limits import DEFAULT_LIMITS  # noqa: E402

from .hostile import ask, damaged  # noqa: E402
from .torch_cases import WAYS, layout_of, old, random_tensor, saved  # noqa: E402

BASE = random_tensor((12,))
VALUE = {"a": BASE[:3], "n": {"b": [BASE[6:].reshape(2, 3)], "q": random_tensor((2,), torch.float8_e5m2)}}
FILES = [(TorchZipReader(), saved(VALUE)), (TorchLegacyReader(), old(VALUE))]
EACH = pytest.mark.parametrize(("reader", "data"), FILES, ids=WAYS)
HEAD = b"".join(pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {}))


def pickled(
    elements: bytes = b"K\2", offset: bytes = b"K\0", shape: bytes = b"K\2", stride: bytes = b"K\1"
) -> bytes:
    """The pickle of a tensor, its numbers given as opcodes."""
    storage = b"(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\x000X\3\0\0\0cpu" + elements + b"tQ"
    view = offset + b"(" + shape + b"t(" + stride + b"t"
    return b"\x80\2ctorch._utils\n_rebuild_tensor_v2\n(" + storage + view + b"\x89NtR."


def archive(pickle_bytes: bytes, size: int = 8) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as out:
        out.writestr("a/data.pkl", pickle_bytes)
        out.writestr("a/data/0", bytes(size))
    return file.getvalue()


def legacy(pickle_bytes: bytes, size: int = 8, keys: object = ("0",)) -> bytes:
    storage = struct.pack("<Q", size // 4) + bytes(size)
    return HEAD + pickle_bytes + pickle.dumps(list(keys) if isinstance(keys, tuple) else keys, 2) + storage


def found(data: bytes) -> list[tuple[str, tuple[int, ...], int]] | None:
    layout = layout_of(data)
    return None if layout is None else [(t.name, t.shape, t.length) for t in layout.tensors]


@EACH
def test_cut_short_anywhere(reader, data: bytes) -> None:
    assert ask(reader, data) is not None
    for length in range(len(data)):
        assert ask(reader, data[:length]) is None


@EACH
@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damage_anywhere(reader, data: bytes, draw: st.DataObject) -> None:
    ask(reader, damaged(draw, data))


@EACH
@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damage_in_the_pickle(reader, data: bytes, draw: st.DataObject) -> None:
    start = data.index(b"}q\x00(")
    end = data.index(b"u.", start)
    ask(reader, data[:start] + damaged(draw, data[start:end], b"(.)0aehjqrtuRQb}]\x85") + data[end:])


HUGE = b"\x8a\x10" + b"\xff" * 15 + b"\x7f"


@pytest.mark.parametrize("make", [archive, legacy])
@pytest.mark.parametrize(
    ("numbers", "shape"),
    [
        ({}, (2,)),
        ({"shape": HUGE + HUGE, "stride": b"K\1K\1"}, (2,)),
        ({"shape": HUGE}, (2,)),
        ({"offset": HUGE}, (2,)),
        ({"offset": b"K\1"}, (2,)),
        ({"stride": HUGE}, (2,)),
    ],
)
def test_tensors_that_do_not_fit_their_storage(make, numbers, shape: tuple[int, ...]) -> None:
    ((_, seen, length),) = found(make(pickled(**numbers)))
    assert (seen, length) == (shape, 8)


@pytest.mark.parametrize("make", [archive, legacy])
@pytest.mark.parametrize(
    "numbers",
    [
        {"offset": b"J\xff\xff\xff\xff"},
        {"shape": b"J\xff\xff\xff\xff"},
        {"shape": b"N"},
        {"shape": b"\x88"},
        {"shape": b"K\1K\2"},
        {"shape": b"K\1" * 65, "stride": b"K\1" * 65},
        {"stride": b"]"},
    ],
)
def test_tensors_that_make_no_sense(make, numbers) -> None:
    assert found(make(pickled(**numbers))) == [("data/0", (2,), 8)]


def test_shapes_that_no_manifest_takes() -> None:
    assert found(archive(pickled(shape=HUGE + b"K\0", stride=b"K\1K\1"))) is None


@pytest.mark.parametrize(
    "data",
    [
        legacy(pickled(HUGE)),
        legacy(pickled(b"K\3")),
        legacy(pickled(b"J\xff\xff\xff\xff")),
        legacy(pickled(), keys=("1",)),
        legacy(pickled(), keys=("0", "0")),
        legacy(pickled(), keys=(0,)),
        legacy(pickled(), keys={"0": 1}),
        legacy(b"\x80\2]" + b"]" * 3000 + b"a" * 3000 + b"."),
        HEAD + b"\x80\2X\xff\xff\xff\xff",
        HEAD.replace(pickle.dumps(1001, 2), pickle.dumps(1000, 2)) + pickled(),
    ],
)
def test_old_files_that_contradict_themselves(data: bytes) -> None:
    assert found(data) is None


def test_views_of_views_in_old_files() -> None:
    view = pickled(b"K\4", shape=b"K\1").replace(b"K\4tQ", b"K\4(X\1\0\0\x001K\2K\2ttQ")
    assert found(legacy(view, 16)) == [("data/0", (1,), 4)]
    layout = layout_of(legacy(view, 16))
    assert layout is not None
    assert layout.tensors[0].offset == len(legacy(view, 16)) - 8


def test_what_python_2_pickled() -> None:
    tensor = pickled()[2:-1]
    pair = b"(U\x06weightq\x01" + tensor + b"l"
    value = b"\x80\2}(U\5modelccollections\nOrderedDict\n(](" + pair + b"etRU\4iterK\7u."
    assert found(legacy(value)) == [("model.weight", (2,), 8)]
    state = b"\x80\2(cmine\nModel\no}(U\x0b_parameters}(U\1w" + tensor + b"uU\x04_oldNub."
    assert found(legacy(state)) == [("w", (2,), 8)]


def test_long_pickles_of_old_files_are_read_piece_by_piece() -> None:
    class Counting:
        def __init__(self, data: bytes) -> None:
            self.data, self.size, self.read = data, len(data), 0

        def read_at(self, offset: int, length: int) -> bytes:
            self.read += length
            return self.data[offset : offset + length]

    weights = {"w": torch.zeros(10 << 20, dtype=torch.uint8)}
    small = Counting(old(weights))
    assert len(TorchLegacyReader().layout(small, DEFAULT_LIMITS).tensors) == 1
    assert small.read < 1.1 * (1 << 20)
    large = Counting(old({"text": "x" * (3 << 20), **weights}))
    assert len(TorchLegacyReader().layout(large, DEFAULT_LIMITS).tensors) == 1
    assert large.read < 5.1 * (1 << 20)
    limits = DEFAULT_LIMITS._replace(header_bytes=2 << 20)
    assert ask(TorchLegacyReader(), large.data, limits) is None
    assert ask(TorchZipReader(), saved({"text": "x" * (3 << 20), **weights}), limits) is None


@pytest.mark.parametrize("way", WAYS)
def test_names_that_would_fill_the_memory(way: str) -> None:
    value: object = [random_tensor((1,), seed=seed) for seed in range(50)]
    for _ in range(9):
        value = {"x" * 100: value}
    data = WAYS[way](value)
    assert len(found(data)) == 50
    assert layout_of(data, DEFAULT_LIMITS._replace(header_bytes=40_000)) is None
    deep = WAYS[way]({"y" * 2000: random_tensor((1,)), "z" * (1 << 20): random_tensor((2,))})
    assert len(found(deep)) == 2
    assert all(len(name) <= 1024 for name, _, _ in found(deep))


def test_readers_import_nothing_that_executes() -> None:
    code = f"""
import sys
from coral_git.formats.registry import read_layout
from coral_git.limits import DEFAULT_LIMITS
from coral_git.types import BytesSource
assert read_layout(BytesSource({FILES[0][1]!r}), DEFAULT_LIMITS).format == "torch-zip/1"
assert read_layout(BytesSource({FILES[1][1]!r}), DEFAULT_LIMITS).format == "torch-legacy/1"
sys.exit(" ".join({{"torch", "pickle", "zipfile", "numpy"}} & set(sys.modules)) or 0)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
