"""Distributed checkpoints: what torch loads from one is what is found in it, and a lie is refused."""

from __future__ import annotations

import copy
import os
import pickle
import shutil
from collections.abc import Callable
from math import prod
from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coral_git.errors import CoralError, IntegrityError
from coral_git.formats.base import NotThisFormat
from coral_git.formats.dcp import METADATA, Checkpoint, read_checkpoint
from coral_git.limits import DEFAULT_LIMITS
from coral_git.types import BytesSource

from .hostile import damaged
from .torch_cases import DTYPES, content, random_tensor

GOLDEN = Path(__file__).parents[2] / "golden" / "formats" / "sharded.dcp"
ROWS = torch.arange(35, dtype=torch.float32).reshape(7, 5)
COLUMNS = torch.arange(30).reshape(3, 5, 2).to(torch.bfloat16)


def opened(files: dict[str, bytes]) -> Checkpoint:
    def open_file(name: str) -> BytesSource:
        if name not in files:
            raise CoralError(f"no {name}")
        return BytesSource(files[name])

    return read_checkpoint(files[METADATA], open_file, DEFAULT_LIMITS)


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def whole(checkpoint: Checkpoint) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    return {
        tensor.name: (tensor.dtype.name, tensor.shape, b"".join(tensor.pieces()))
        for tensor in checkpoint.tensors
    }


def as_expected(tensor: torch.Tensor) -> tuple[str, tuple[int, ...], bytes]:
    return DTYPES[tensor.dtype], tuple(tensor.shape), content(tensor)


@pytest.fixture(scope="module")
def save(tmp_path_factory) -> Callable[[dict], dict[str, bytes]]:
    def run(state: dict) -> dict[str, bytes]:
        folder = tmp_path_factory.mktemp("dcp")
        with pytest.warns(UserWarning, match="single process"):
            dcp.save(state, checkpoint_id=folder, no_dist=True)
        return files_of(folder)

    return run


@pytest.fixture(scope="module")
def plain(save) -> dict[str, bytes]:
    return save({"model": {"weight": ROWS, "bias": torch.ones(3)}, "step": 7})


def test_every_dtype_is_found(save):
    state = {str(dtype): random_tensor((3, 4), dtype, seed) for seed, dtype in enumerate(DTYPES)}
    assert whole(opened(save(state))) == {name: as_expected(tensor) for name, tensor in state.items()}


def test_shapes_views_and_objects(save):
    state = {
        "scalar": torch.tensor(-0.0),
        "empty": torch.zeros(0, 4),
        "view": torch.arange(20.0)[3:9],
        "transposed": torch.arange(6.0).reshape(2, 3).t(),
        "channels": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "long": torch.arange(700_000, dtype=torch.int64),
        "parameter": torch.nn.Parameter(torch.full((2,), torch.nan)),
    }
    found = opened(save({"list": [state["view"]], "step": 7, "text": "a", **state}))
    assert sorted(found.objects) == ["step", "text"]
    assert whole(found) == {name: as_expected(t) for name, t in {"list.0": state["view"], **state}.items()}


def test_any_range_can_be_read(save):
    tensor = torch.randn(3, 4, 5).permute(2, 0, 1)
    (found,) = opened(save({"a": tensor})).tensors
    data = content(tensor)
    for start in range(0, len(data) + 2, 3):
        for length in range(0, len(data) - start + 2, 7):
            assert found.read(start, length) == data[start : start + length]


def test_chunks_of_two_processes_are_put_together():
    found = opened(files_of(GOLDEN))
    assert found.objects == ["step"]
    assert whole(found) == {
        "rows": as_expected(ROWS),
        "columns": as_expected(COLUMNS),
        "both": as_expected(torch.arange(4.0)),
        "single": as_expected(torch.arange(4.0).reshape(1, 4)),
    }
    (columns,) = (tensor for tensor in found.tensors if tensor.name == "columns")
    data = content(COLUMNS)
    for start in range(len(data)):
        assert columns.read(start, 7) == data[start : start + 7]


def test_long_rows_are_read_piece_by_piece(save, tmp_path):
    """Column-wise chunks of rows that are longer than what is read at a time."""
    tensor = torch.arange(2 * 600_000, dtype=torch.int32).reshape(2, 600_000)
    state = {"left": tensor[:, :250_001].clone(), "right": tensor[:, 250_001:].clone()}
    files = save(state)
    metadata = pickle.loads(files[METADATA])
    left, right = (metadata.state_dict_metadata.pop(name) for name in state)
    left.size = tensor.shape
    right.chunks[0].offsets = torch.Size((0, 250_001))
    left.chunks.append(right.chunks[0])
    metadata.state_dict_metadata["whole"] = left
    metadata.storage_data = {
        type(index)("whole", (0, 0 if index.fqn == "left" else 250_001)): info
        for index, info in metadata.storage_data.items()
    }
    found = opened({**files, METADATA: pickle.dumps(metadata)})
    assert whole(found) == {"whole": as_expected(tensor)}


def test_conjugated_and_negated_views_are_refused(save):
    for tensor in (torch.randn(3, dtype=torch.complex64).conj(), torch._neg_view(torch.randn(3))):
        with pytest.raises(NotThisFormat, match="more than a plain tensor"):
            opened(save({"a": tensor}))


def lie(files: dict[str, bytes], change: Callable[..., object]) -> dict[str, bytes]:
    """The checkpoint with other metadata: ``change`` is given them, the tensor and the place of its bytes."""
    metadata = copy.deepcopy(pickle.loads(files[METADATA]))
    (info,) = (info for index, info in metadata.storage_data.items() if index.fqn == "model.weight")
    change(metadata, metadata.state_dict_metadata["model.weight"], info)
    return {**files, METADATA: pickle.dumps(metadata)}


def chunk(tensor, offsets, sizes):
    return type(tensor.chunks[0])(torch.Size(offsets), torch.Size(sizes))


LIES = {
    "above": lambda meta, tensor, info: setattr(info, "relative_path", "../x"),
    "below": lambda meta, tensor, info: setattr(info, "relative_path", "a/x"),
    "absolute": lambda meta, tensor, info: setattr(info, "relative_path", "/etc/passwd"),
    "windows": lambda meta, tensor, info: setattr(info, "relative_path", "c:x"),
    "folder": lambda meta, tensor, info: setattr(info, "relative_path", ".."),
    "behind the end": lambda meta, tensor, info: setattr(info, "offset", 1 << 40),
    "negative": lambda meta, tensor, info: setattr(info, "offset", -1),
    "too long": lambda meta, tensor, info: setattr(info, "length", info.length + 4000),
    "overlapping items": lambda meta, tensor, info: setattr(info, "offset", info.offset - 1),
    "compressed": lambda meta, tensor, info: setattr(info, "transform_descriptors", ("zstd",)),
    "nowhere": lambda meta, tensor, info: meta.storage_data.clear(),
    "hole": lambda meta, tensor, info: setattr(tensor, "size", torch.Size((8, 5))),
    "counts without end": lambda meta, tensor, info: setattr(tensor, "size", Sizes((1 << 60,) * 60)),
    "huge": lambda meta, tensor, info: setattr(tensor, "size", torch.Size((1 << 40, 1 << 10))),
    "huge chunk": lambda meta, tensor, info: (
        setattr(tensor, "size", torch.Size((1 << 40, 5))),
        setattr(tensor, "chunks", [chunk(tensor, (0, 0), (1 << 40, 5))]),
    ),
    "other shape": lambda meta, tensor, info: (
        setattr(tensor, "size", torch.Size((5, 7))),
        setattr(tensor, "chunks", [chunk(tensor, (0, 0), (5, 7))]),
    ),
    "twice": lambda meta, tensor, info: (
        setattr(tensor, "size", torch.Size((14, 5))),
        setattr(tensor, "chunks", tensor.chunks * 2),
    ),
    "no chunks": lambda meta, tensor, info: setattr(tensor, "chunks", []),
    "chunk beyond": lambda meta, tensor, info: setattr(tensor, "chunks", [chunk(tensor, (1, 0), (7, 5))]),
    "other dtype": lambda meta, tensor, info: setattr(tensor.properties, "dtype", torch.int32),
    "something else": lambda meta, tensor, info: meta.state_dict_metadata.update({"model.weight": 3}),
}


class Sizes(tuple):
    """A ``torch.Size`` of any integers, which torch itself does not make."""

    __slots__ = ()

    def __reduce__(self):
        return torch.Size, (tuple(self),)


@pytest.mark.parametrize("name", LIES)
def test_lies_are_refused(plain, name):
    assert whole(opened(lie(plain, lambda *_: None)))["model.weight"] == as_expected(ROWS)
    with pytest.raises((NotThisFormat, IntegrityError)):
        whole(opened(lie(plain, LIES[name])))


def test_overlapping_chunks_are_seen_when_they_are_read(save):
    files = save({"a": ROWS[:4].clone(), "b": ROWS[4:].clone(), "c": torch.ones(1, 5)})
    metadata = pickle.loads(files[METADATA])
    tensor = metadata.state_dict_metadata.pop("a")
    places = {"a": (0, 0), "b": (3, 0), "c": (6, 0)}
    tensor.chunks = [chunk(tensor, (0, 0), (4, 5)), chunk(tensor, (3, 0), (3, 5))]
    tensor.size = torch.Size((7, 5))
    for name in ("b", "c"):
        del metadata.state_dict_metadata[name]
    metadata.state_dict_metadata["whole"] = tensor
    metadata.storage_data = {
        type(index)("whole", places[index.fqn]): info for index, info in metadata.storage_data.items()
    }
    (found,) = opened({**files, METADATA: pickle.dumps(metadata)}).tensors
    assert found.length == prod(ROWS.shape) * 4
    with pytest.raises(IntegrityError, match="overlap"):
        list(found.pieces())


def test_nothing_is_executed(plain, tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    metadata = pickle.loads(plain[METADATA])
    metadata.planner_data = Evil()
    found = opened({**plain, METADATA: pickle.dumps(metadata)})
    assert len(found.tensors) == 2
    with pytest.raises(NotThisFormat):
        opened({**plain, METADATA: pickle.dumps(Evil())})
    assert not (tmp_path / "executed").exists()


def assert_refused_or_small(files: dict[str, bytes]) -> None:
    try:
        found = whole(opened(files))
    except (NotThisFormat, CoralError):
        return
    assert sum(len(content) for _, _, content in found.values()) <= sum(map(len, files.values()))


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_damage_is_an_error_or_stays_small(data):
    files = files_of(GOLDEN)
    name = data.draw(st.sampled_from([METADATA, *sorted(files)]))
    files[name] = damaged(data, files[name])
    assert_refused_or_small(files)


def test_metadata_that_are_cut_short_are_refused():
    files = files_of(GOLDEN)
    for length in range(len(files[METADATA])):
        with pytest.raises(NotThisFormat):
            opened({**files, METADATA: files[METADATA][:length]})


@pytest.mark.parametrize("name", ["__0_0.distcp", "__1_0.distcp"])
def test_files_that_are_cut_short_or_away_are_refused(name):
    files = files_of(GOLDEN)
    for length in (0, 1, len(files[name]) // 2, len(files[name]) - 1):
        with pytest.raises(NotThisFormat, match="cut short"):
            opened({**files, name: files[name][:length]})
    del files[name]
    with pytest.raises(CoralError):
        opened(files)


INTEGERS = st.integers(-(1 << 70), 1 << 70) | st.sampled_from((-1, 0, 1, 4, 1 << 31, 1 << 60, (1 << 63) - 1))


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_any_numbers_are_an_error_or_stay_small(data):
    """Sizes, offsets and lengths of any magnitude, in a pickle that is otherwise sound."""
    files = files_of(GOLDEN)
    metadata = pickle.loads(files[METADATA])
    infos = list(metadata.storage_data.values())
    tensors = [saved for saved in metadata.state_dict_metadata.values() if hasattr(saved, "chunks")]
    for _ in range(data.draw(st.integers(1, 2))):
        tensor, info = data.draw(st.sampled_from(tensors)), data.draw(st.sampled_from(infos))
        shape = data.draw(st.lists(INTEGERS, max_size=4).map(tuple))
        match data.draw(st.integers(0, 4)):
            case 0:
                tensor.size = Sizes(shape)
            case 1:
                data.draw(st.sampled_from(tensor.chunks)).sizes = Sizes(shape)
            case 2:
                data.draw(st.sampled_from(tensor.chunks)).offsets = Sizes(shape)
            case 3:
                info.offset = data.draw(INTEGERS)
            case _:
                info.length = data.draw(INTEGERS)
    assert_refused_or_small({**files, METADATA: pickle.dumps(metadata)})


def test_the_golden_checkpoint_is_what_torch_loads(tmp_path):
    shutil.copytree(GOLDEN, tmp_path / "checkpoint")
    state = {"rows": torch.zeros(7, 5), "columns": torch.zeros(3, 5, 2, dtype=torch.bfloat16)}
    with pytest.warns(UserWarning, match="single process"):
        dcp.load(state, checkpoint_id=tmp_path / "checkpoint", no_dist=True)
    assert torch.equal(state["rows"], ROWS)
    assert torch.equal(state["columns"], COLUMNS)
