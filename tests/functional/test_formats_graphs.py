"""ONNX, TensorFlow Lite, Flax and Core ML files through real git: tensors are found, bytes come back."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

CORPUS = Path(__file__).parents[1] / "fuzz" / "corpus"
SAME = np.random.default_rng(7).standard_normal((64, 64), np.float32)


def tuned(seed: int) -> np.ndarray:
    return SAME + np.random.default_rng(seed).standard_normal((64, 64)).astype(np.float32) * np.float32(1e-4)


def onnx_file(seed: int) -> bytes:
    onnx = pytest.importorskip("onnx")
    helper, from_array = onnx.helper, onnx.numpy_helper.from_array
    inner = helper.make_graph([], "g", [], [], initializer=[from_array(tuned(seed), "w")])
    empty = helper.make_graph([], "g", [], [])
    node = helper.make_node("If", ["c"], ["out"], then_branch=inner, else_branch=empty)
    graph = helper.make_graph([node], "g", [], [], initializer=[from_array(SAME, "same")])
    return helper.make_model(graph, producer_version=str(seed)).SerializeToString()


def msgpack_file(seed: int) -> bytes:
    msgpack = pytest.importorskip("msgpack")

    def extension(array: np.ndarray):
        return msgpack.ExtType(1, msgpack.packb((array.shape, array.dtype.name, array.tobytes())))

    return msgpack.packb({"step": seed, "params": {"same": SAME, "w": tuned(seed)}}, default=extension)


def mlpackage_file(seed: int) -> bytes:
    file = struct.pack("<II56x", 2, 2)
    for array in (SAME, tuned(seed)):
        file += struct.pack("<IIQQ40x", 0xDEADBEEF, 2, array.nbytes, len(file) + 64) + array.tobytes()
    return file


def tflite_file(seed: int) -> bytes:
    """A file of the corpus, whose first tensor counts from 0 to 11, with another one in its place."""
    data = (CORPUS / "tflite" / "good-two").read_bytes()
    values = np.arange(12, dtype="<f4")
    assert data.count(values.tobytes()) == 1
    return data.replace(values.tobytes(), (values + seed).tobytes())


KINDS: dict[str, tuple[Callable[[int], bytes], str, str]] = {
    "onnx": (onnx_file, "same", "out/then_branch/w"),
    "msgpack": (msgpack_file, "params.same", "params.w"),
    "tflite": (tflite_file, "b", "a"),
    "mlpackage": (mlpackage_file, "blob@64", "blob@16512"),
}
"""Format → what makes a file, and the names of its tensors: one that stays, and one that changes."""


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_through_add_commit_and_clone(repo, at, kind, assert_healthy):
    make, same, changed = KINDS[kind]
    data = [make(seed) for seed in (1, 2)]
    for version in data:
        repo.commit("more", m__bin=version)
    assert f"format {kind}/1\n".encode() in repo.blob("HEAD:m.bin")
    before, after = (
        {tensor.name: tensor for tensor in repo.manifest(f"{commit}:m.bin").tensors}
        for commit in ("HEAD~", "HEAD")
    )
    assert set(after) == {same, changed}
    assert before[same] == after[same]
    assert before[changed] != after[changed]
    repo.git("checkout", "--quiet", "HEAD~")
    assert repo.read("m.bin") == data[0]
    assert_healthy(repo)
    repo.git("coral", "clone", "--quiet", str(repo.path), str(repo.path.parent / "copy"))
    copy = at(repo.path.parent / "copy")
    copy.git("checkout", "--quiet", "main")
    assert copy.read("m.bin") == data[1]
    assert not copy.status()
    assert_healthy(copy)


def test_equal_tensors_of_three_formats_are_stored_once(repo, assert_healthy):
    kinds = ("onnx", "msgpack", "mlpackage")
    repo.commit("all", **{f"{kind}__bin": KINDS[kind][0](1) for kind in kinds})
    shared = set.intersection(*(repo.objects(f"HEAD:{kind}.bin") for kind in kinds))
    assert len(shared) == 2
    assert_healthy(repo)
