"""Files of torch through real git: tensors are found, bytes come back, equal tensors are stored once."""

from __future__ import annotations

import io

import pytest

torch = pytest.importorskip("torch")

import safetensors.torch  # noqa: E402

KINDS = {"torch-zip": True, "torch-legacy": False}


def tensors_of(seed: int) -> dict[str, torch.Tensor]:
    """Two layers, the second of which depends on the seed."""
    same = torch.randn(64, 64, generator=torch.Generator().manual_seed(7))
    step = torch.randn(64, 64, generator=torch.Generator().manual_seed(seed)) * 1e-4
    return {"a.weight": same.to(torch.bfloat16), "b.weight": same + step}


def saved(value: object, kind: str) -> bytes:
    file = io.BytesIO()
    torch.save(value, file, _use_new_zipfile_serialization=KINDS[kind])
    return file.getvalue()


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_through_add_commit_and_clone(repo, at, kind, assert_healthy):
    data = [saved({"model": tensors_of(seed), "epoch": seed}, kind) for seed in (1, 2)]
    for version in data:
        repo.commit("more", m__bin=version)
    assert f"format {kind}/1\n".encode() in repo.blob("HEAD:m.bin")
    before, after = (
        {tensor.name: tensor for tensor in repo.manifest(f"{commit}:m.bin").tensors}
        for commit in ("HEAD~", "HEAD")
    )
    assert set(after) == {"model.a.weight", "model.b.weight"}
    assert before["model.a.weight"] == after["model.a.weight"]
    assert before["model.b.weight"] != after["model.b.weight"]
    repo.git("checkout", "--quiet", "HEAD~")
    assert repo.read("m.bin") == data[0]
    assert_healthy(repo)
    repo.git("coral", "clone", "--quiet", str(repo.path), str(repo.path.parent / "copy"))
    copy = at(repo.path.parent / "copy")
    copy.git("checkout", "--quiet", "main")
    assert copy.read("m.bin") == data[1]
    assert not copy.status()
    assert_healthy(copy)


def test_the_same_tensors_in_three_formats_are_stored_once(repo, assert_healthy):
    tensors = tensors_of(1)
    repo.commit(
        "three",
        one__safetensors=safetensors.torch.save(tensors),
        two__bin=saved(tensors, "torch-zip"),
        three__bin=saved(tensors, "torch-legacy"),
    )
    names = ("one.safetensors", "two.bin", "three.bin")
    entries = [{t.name: t for t in repo.manifest(f"HEAD:{name}").tensors} for name in names]
    assert entries[0] == entries[1] == entries[2]
    assert_healthy(repo)


def test_damaged_files_are_kept_in_chunks(repo, assert_healthy):
    data = {kind: saved(tensors_of(1), kind) for kind in KINDS}
    cut = {name: raw[:-1] for name, raw in zip(("zip__bin", "old__bin"), data.values(), strict=True)}
    repo.commit("damaged", **cut)
    for name, raw in cut.items():
        path = name.replace("__", ".")
        assert b"format chunks/1\n" in repo.blob(f"HEAD:{path}")
        (repo.path / path).unlink()
        repo.git("checkout", "--quiet", "--", path)
        assert repo.read(path) == raw
    assert_healthy(repo)
