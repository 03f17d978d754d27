"""``git coral export``: any revision, byte for byte or in another format, precision and selection."""

from __future__ import annotations

import json

import ml_dtypes
import numpy as np
import pytest

RNG = np.random.default_rng(8)
MODEL = {
    "encoder.weight": RNG.standard_normal((70, 50)).astype(np.float32),
    "encoder.bias": RNG.standard_normal(50).astype(np.float32),
    "ids": np.arange(9, dtype=np.int64),
}


def test_a_file_comes_out_byte_for_byte(repo, safetensors, tmp_path, assert_healthy):
    old, new = safetensors(MODEL, {"a": "b"}), safetensors({"ids": MODEL["ids"]})
    repo.commit("old", m__safetensors=old)
    repo.commit("new", m__safetensors=new)
    repo.write("m.safetensors", safetensors(MODEL))
    for spec, expected in (("HEAD~1", old), ("HEAD:m.safetensors", new), (":m.safetensors", new)):
        out = tmp_path / "out.safetensors"
        said = json.loads(repo.coral("export", "--force", "--json", spec, out))
        assert out.read_bytes() == expected
        assert said["size"] == len(expected)
        assert said["format"] == "safetensors/1"
    assert list(tmp_path.glob(".out*")) == []
    assert_healthy(repo)


@pytest.mark.parametrize("suffix", ["npz", "pt", "gguf", "safetensors"])
def test_other_formats_have_the_same_tensors(repo, safetensors, tmp_path, assert_healthy, suffix):
    repo.commit(m__safetensors=safetensors(MODEL))
    out = tmp_path / f"out.{suffix}"
    repo.coral("export", "HEAD", out, "--tensor", "encoder.*")
    wanted = {name: values for name, values in MODEL.items() if name.startswith("encoder.")}
    before = repo.packs()
    repo.write(f"again.{suffix}", out.read_bytes())
    repo.coral("track", f"*.{suffix}")
    repo.git("add", ".")
    repo.commit("again")
    found = repo.manifest(f"HEAD:again.{suffix}")
    assert {tensor.name for tensor in found.tensors} == set(wanted)
    first = {tensor.name: tensor.objects for tensor in repo.manifest("HEAD:m.safetensors").tensors}
    assert all(tensor.objects == first[tensor.name] for tensor in found.tensors)
    assert len(repo.packs()) <= len(before) + 1
    repo.git("rm", "-q", "--cached", f"again.{suffix}")
    repo.git("reset", "-q", "--hard")
    assert repo.read(f"again.{suffix}") == out.read_bytes()
    assert_healthy(repo)


def test_precision_changes_on_the_way(repo, safetensors, tmp_path, assert_healthy):
    repo.commit(m__safetensors=safetensors(MODEL))
    out = tmp_path / "half.safetensors"
    said = json.loads(repo.coral("export", "HEAD", out, "--dtype", "bf16", "--json"))
    assert (said["tensors"], said["cast"]) == (3, 2)
    repo.write("half.safetensors", out.read_bytes())
    repo.git("add", ".")
    repo.commit("half")
    assert {t.name: t.dtype.name for t in repo.manifest("HEAD:half.safetensors").tensors} == {
        "encoder.weight": "BF16",
        "encoder.bias": "BF16",
        "ids": "I64",
    }
    expected = safetensors(
        {n: v if v.dtype.kind == "i" else v.astype(ml_dtypes.bfloat16) for n, v in MODEL.items()}
    )
    halves = {t.name: t.objects for t in repo.manifest("HEAD:half.safetensors").tensors}
    repo.write("expected.safetensors", expected)
    repo.git("add", ".")
    assert {t.name: t.objects for t in repo.manifest(":expected.safetensors").tensors} == halves
    repo.commit("expected")
    assert_healthy(repo)


def test_what_is_missing_is_fetched(repo, safetensors, tmp_path, at, monkeypatch):
    repo.commit(m__safetensors=safetensors(MODEL))
    monkeypatch.setenv("CORAL_SKIP_SMUDGE", "1")
    repo.git("clone", "-q", repo.path, tmp_path / "clone")
    out = tmp_path / "out.npz"
    at(tmp_path / "clone").coral("export", "HEAD", out)
    with np.load(out) as found:
        assert all((found[name] == values).all() for name, values in MODEL.items())


def test_what_cannot_be_done_is_said(repo, safetensors, tmp_path):
    repo.commit(m__safetensors=safetensors(MODEL), n__safetensors=b"no tensors here")
    out = tmp_path / "out.npz"
    for words, message in (
        (["HEAD", out], b"2 files of weights: m.safetensors, n.safetensors"),
        (["HEAD:x.safetensors", out], b"is no file of weights"),
        (["HEAD:n.safetensors", out], b"no tensors were found"),
        (["HEAD:m.safetensors", out, "--dtype", "bf16"], b"hint:"),
        (["HEAD:m.safetensors", out, "--format", "zip"], b"cannot write the format 'zip'"),
        (["HEAD:m.safetensors", out, "--tensor", "q*"], b"no tensor matches"),
        (
            ["HEAD:m.safetensors", out, "--format", "onnx"],
            b"cannot write the format 'onnx': it needs a graph",
        ),
        (["HEAD:m.safetensors", tmp_path / "out.onnx"], b"cannot write the format 'onnx': it needs a graph"),
    ):
        done = repo.run("coral", "export", *words, code=2)
        assert message in done.stderr
        assert not out.exists()
        assert list(tmp_path.glob(".out*")) == []
    assert not list(tmp_path.glob("*.onnx"))
    out.write_bytes(b"mine")
    assert b"exists" in repo.run("coral", "export", "HEAD:m.safetensors", out, code=2).stderr
    assert out.read_bytes() == b"mine"


def test_damage_is_an_error_and_leaves_nothing(repo, safetensors, tmp_path):
    repo.commit(m__safetensors=safetensors(MODEL))
    (pack,) = (repo.common_dir() / "coral" / "objects" / "packs").glob("*.pack")
    data = bytearray(pack.read_bytes())
    data[len(data) // 2] ^= 1
    pack.chmod(0o644)
    pack.write_bytes(data)
    done = repo.run("coral", "export", "HEAD", tmp_path / "out.npz", code=None)
    assert done.returncode != 0
    assert b"Traceback" not in done.stderr
    assert list(tmp_path.glob("*out*")) == []
