"""NumPy's files and GGUF through real git: tensors are found, bytes come back, differences are small."""

from __future__ import annotations

import io

import numpy as np
import pytest

from coral_git.formats.base import TensorData
from coral_git.formats.writers import writer_by_name
from coral_git.types import DTYPES

NAMES = {"npy": ["array"], "npz": ["a", "b"], "gguf": ["a", "b"]}


def file_of(kind: str, seed: int = 0) -> bytes:
    """Two layers, the second of which depends on the seed."""
    same = np.random.default_rng(7).standard_normal((64, 64), np.float32)
    tuned = same + np.random.default_rng(seed).standard_normal((64, 64)).astype(np.float32) * 1e-4
    file = io.BytesIO()
    if kind == "npy":
        np.save(file, tuned)
    elif kind == "npz":
        np.savez(file, a=same, b=tuned)
    else:
        tensors = [
            TensorData(
                name, DTYPES["F32"], (64, 64), lambda start, length, raw=raw: raw[start : start + length]
            )
            for name, raw in (("a", same.tobytes()), ("b", tuned.tobytes()))
        ]
        writer_by_name(kind).write(file, tensors, {"general.name": "test"})
    return file.getvalue()


@pytest.mark.parametrize("kind", NAMES)
def test_a_file_through_add_commit_and_clone(repo, at, kind, assert_healthy):
    name = f"m.{kind}"
    repo.write(".gitattributes", f"*.{kind} filter=coral diff=coral merge=coral -text\n".encode())
    data = [file_of(kind, seed) for seed in (1, 2)]
    for version in data:
        repo.commit("more", **{f"m__{kind}": version})
    assert f"format {kind}/1\n".encode() in repo.blob(f"HEAD:{name}")
    old, new = (repo.manifest(f"{commit}:{name}").tensors for commit in ("HEAD~", "HEAD"))
    assert [tensor.name for tensor in new] == NAMES[kind]
    assert (old[0] == new[0]) == (kind != "npy")
    assert old[-1] != new[-1]
    repo.git("checkout", "--quiet", "HEAD~")
    assert repo.read(name) == data[0]
    assert_healthy(repo)
    repo.git("coral", "clone", "--quiet", str(repo.path), str(repo.path.parent / "copy"))
    copy = at(repo.path.parent / "copy")
    copy.git("checkout", "--quiet", "main")
    assert copy.read(name) == data[1]
    assert not copy.status()
    assert_healthy(copy)
    (repo.path / name).unlink()
    repo.git("checkout", "--quiet", "main")
    assert repo.read(name) == data[1]


def test_damaged_files_are_kept_in_chunks(repo, assert_healthy):
    data = file_of("npz", 1)
    repo.commit("damaged", cut__bin=data[:-1], fine__bin=data)
    assert b"format chunks/1\n" in repo.blob("HEAD:cut.bin")
    assert b"format npz/1\n" in repo.blob("HEAD:fine.bin")
    (repo.path / "cut.bin").unlink()
    repo.git("checkout", "--quiet", "--", "cut.bin")
    assert repo.read("cut.bin") == data[:-1]
    assert_healthy(repo)
