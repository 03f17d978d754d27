"""HDF5 and Keras files through real git: tensors are found, bytes come back, differences are small."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest

h5py = pytest.importorskip("h5py")

NAMES = ["layers/a/vars/0", "layers/b/vars/0"]


def file_of(kind: str, seed: int) -> bytes:
    """Two layers, the second of which depends on the seed."""
    same = np.random.default_rng(7).standard_normal((128, 128), np.float32)
    tuned = same + np.random.default_rng(seed).standard_normal((128, 128)).astype(np.float32) * 1e-4
    weights = io.BytesIO()
    with h5py.File(weights, "w") as file:
        file["layers/a/vars/0"] = same
        file["layers/b/vars/0"] = tuned
    if kind == "h5":
        return weights.getvalue()
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr(zipfile.ZipInfo("config.json"), b"{}")
        file.writestr(zipfile.ZipInfo("model.weights.h5"), weights.getvalue())
    return archive.getvalue()


@pytest.mark.parametrize(("kind", "reader"), [("h5", "hdf5/1"), ("keras", "keras/1")])
def test_a_file_through_add_commit_and_clone(repo, at, kind, reader, assert_healthy):
    name = f"m.{kind}"
    repo.write(".gitattributes", f"*.{kind} filter=coral diff=coral merge=coral -text\n".encode())
    data = [file_of(kind, seed) for seed in (1, 2)]
    for version in data:
        repo.commit("more", **{f"m__{kind}": version})
    assert f"format {reader}\n".encode() in repo.blob(f"HEAD:{name}")
    old, new = (repo.manifest(f"{commit}:{name}").tensors for commit in ("HEAD~", "HEAD"))
    assert [tensor.name for tensor in new] == NAMES
    assert old[0] == new[0]
    assert old[1] != new[1]
    repo.git("coral", "clone", "--quiet", str(repo.path), str(repo.path.parent / "copy"))
    copy = at(repo.path.parent / "copy")
    assert copy.read(name) == data[1]
    assert not copy.status()
    assert_healthy(copy)
    repo.git("checkout", "--quiet", "HEAD~")
    assert repo.read(name) == data[0]
    assert_healthy(repo)
