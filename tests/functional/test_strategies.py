"""Strategies by name: from the configuration, an attribute and the command; lossy ones only from that."""

from __future__ import annotations

import errno
import json
import os

import numpy as np
import pytest

from coral_git import fsops
from coral_git.codecs.registry import codec_by_id
from coral_git.errors import CoralError, StorageFullError
from coral_git.pipeline.lossy import make_lossy
from coral_git.pipeline.workspace import Workspace
from coral_git.types import DeltaType

RNG = np.random.default_rng(5)
BASE = {
    "w": RNG.standard_normal((300, 64)).astype(np.float32) * np.float32(0.02),
    "norm": np.ones(64, np.float32),
    "ids": np.arange(5000, dtype=np.int64),
}
TUNED = {
    "w": BASE["w"] + RNG.standard_normal((300, 64)).astype(np.float32) * np.float32(1e-5),
    "norm": BASE["norm"] + np.float32(0.01),
    "ids": BASE["ids"] + 1,
}
CODECS = {
    "auto": "sub",
    "float32_raw": "raw",
    "compressed": "sub",
    "xor_float32": "xor",
    "xor_bfloat16": "xor",
    "exponent_mantissa": "bucket",
    "sparse": "sparse",
}


def codec_of(repo, spec, name="w"):
    with repo.store() as store:
        (tensor,) = [one for one in repo.manifest(spec).tensors if one.name == name]
        return codec_by_id(store.locate(tensor.objects[0]).codec).name


def values_of(repo, path):
    data = repo.read(path)
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    dtypes = {"F32": "<f4", "I64": "<i8"}
    return {
        name: np.frombuffer(
            data[start + one["data_offsets"][0] : start + one["data_offsets"][1]], dtypes[one["dtype"]]
        )
        for name, one in header.items()
        if name != "__metadata__"
    }


def test_every_exact_strategy_is_known():
    assert set(CODECS) == {str(one) for one in DeltaType if one.is_lossless}


@pytest.mark.parametrize(("name", "codec"), CODECS.items())
def test_a_setting_chooses(repo, safetensors, assert_healthy, name, codec):
    repo.commit(m__safetensors=safetensors(BASE))
    repo.coral("config", "delta-type", name)
    assert repo.coral("config", "coral.deltaType") == name
    data = safetensors(TUNED)
    repo.commit(m__safetensors=data)
    assert codec_of(repo, "HEAD:m.safetensors") == codec
    repo.git("checkout", "-q", "HEAD~1", "--", ".")
    repo.git("checkout", "-q", "HEAD", "--", ".")
    assert repo.read("m.safetensors") == data
    assert_healthy(repo)


def test_an_attribute_is_stronger_and_the_command_line_is_strongest(repo, safetensors, assert_healthy):
    repo.coral("config", "delta-type", "sparse")
    repo.write(".gitattributes", b"*.safetensors filter=coral -text\nx.safetensors coral-delta=xor_float32\n")
    names = ["m.safetensors", "x.safetensors", "c.safetensors"]
    for name in names:
        repo.write(name, safetensors(BASE))
    repo.git("add", ".")
    repo.commit("base")
    for number, name in enumerate(names):  # one by one: git looks at all files that are as young as its index
        repo.write(name, safetensors({**TUNED, "w": TUNED["w"] + np.float32(1e-6 * number)}))
        chosen = ["--delta-type", "exponent-mantissa"] if name == "c.safetensors" else []
        repo.git(*(["coral", "add", *chosen] if chosen else ["add"]), name)
    assert [codec_of(repo, f":{name}") for name in names] == ["sparse", "xor", "bucket"]
    repo.commit("tuned")
    assert_healthy(repo)


@pytest.mark.parametrize("name", ["int8_quantized", "int16_quantized"])
def test_nothing_that_is_set_can_lose_precision(repo, safetensors, assert_healthy, name):
    done = repo.run("coral", "config", "delta-type", name, code=2)
    assert b"changes weights" in done.stderr
    assert f"git coral add --delta-type {name}".encode() in done.stderr
    repo.write(".gitattributes", f"*.safetensors filter=coral -text coral-delta={name}\n".encode())
    data = safetensors(BASE)
    repo.write("m.safetensors", data)
    done = repo.run("add", ".")
    assert b"changes weights" in done.stderr
    assert b"ignored" in done.stderr
    repo.commit("base")
    repo.git("checkout", "-q", "HEAD", "--", ".")
    assert repo.read("m.safetensors") == data
    assert_healthy(repo)


def test_a_lossy_setting_made_by_hand_stops_add(repo, safetensors):
    repo.git("config", "coral.deltaType", "int8_quantized")
    repo.write("m.safetensors", safetensors(BASE))
    assert b"changes weights" in repo.run("add", ".", code=128).stderr


@pytest.mark.parametrize(("bits", "most"), [(8, 0.27), (16, 0.52)])
@pytest.mark.parametrize("has_base", [True, False])
def test_quantizing_changes_the_file_and_says_by_how_much(
    repo, safetensors, assert_healthy, tmp_path, at, bits, most, has_base
):
    rng = np.random.default_rng(1)
    base = {**BASE, "w": rng.standard_normal((600, 512)).astype(np.float32) * np.float32(0.02)}
    tuned = {**TUNED, "w": base["w"] + rng.standard_normal((600, 512)).astype(np.float32) * np.float32(1e-3)}
    if has_base:
        repo.commit("base", m__safetensors=safetensors(base))
    exact = safetensors(tuned)
    repo.write("m.safetensors", exact)
    words = ["add", "--delta-type", f"int{bits}_quantized", "--json", "m.safetensors"]
    would = json.loads(repo.coral(*words, "--dry-run"))
    assert repo.read("m.safetensors") == exact
    said = json.loads(repo.coral(*words, "--keep-original"))
    assert said == would
    (report,) = said
    assert report["exact"] == 2
    (loss,) = report["tensors"]
    assert loss["name"] == "w"
    assert loss["stored_bytes"] <= most * loss["raw_bytes"]
    assert repo.read("m.safetensors.orig") == exact
    after = values_of(repo, "m.safetensors")
    error = np.abs(after["w"].astype(np.float64) - tuned["w"].reshape(-1))
    assert loss["largest_error"] == error.max() > 0
    assert loss["mean_error"] == pytest.approx(error.mean())
    assert (after["ids"] == tuned["ids"]).all()
    assert (after["norm"] == tuned["norm"]).all()
    step = np.abs(tuned["w"] - base["w"] * has_base).max() / (2 ** (bits - 1) - 1)
    assert error.max() <= step * (1 + 2**-7) / 2 + np.spacing(np.float32(0.2)) / 2
    assert codec_of(repo, ":m.safetensors") == ("quantized-delta" if has_base else "quantized")
    lossy = repo.read("m.safetensors")
    (repo.path / "m.safetensors.orig").unlink()
    repo.git("add", ".gitattributes")
    repo.git("commit", "-qm", "lossy")
    assert repo.status() == ""
    repo.git("clone", "-q", repo.path, tmp_path / "clone")
    assert at(tmp_path / "clone").read("m.safetensors") == lossy
    assert "nothing" not in repo.coral("add", "--delta-type", f"int{bits}_quantized", "m.safetensors")
    assert repo.read("m.safetensors") == lossy
    assert repo.status() == ""
    assert_healthy(repo)


def test_a_committed_tensor_stays_exact(repo, safetensors, assert_healthy):
    repo.commit("base", m__safetensors=safetensors(BASE))
    repo.write("m.safetensors", safetensors({**BASE, "head": RNG.standard_normal(9000).astype(np.float32)}))
    said = json.loads(repo.coral("add", "--delta-type", "int8_quantized", "--json", "m.safetensors"))
    losses = {loss["name"]: loss for loss in said[0]["tensors"]}
    assert losses["w"]["largest_error"] == losses["w"]["stored_bytes"] == 0
    assert losses["head"]["largest_error"] > 0
    assert (values_of(repo, "m.safetensors")["w"] == BASE["w"].reshape(-1)).all()
    repo.commit("head")
    assert_healthy(repo)


def test_what_cannot_be_quantized_is_said(repo, safetensors, assert_healthy):
    repo.write("m.safetensors", safetensors({"ids": BASE["ids"]}))
    done = repo.run("coral", "add", "--delta-type", "int8_quantized", "m.safetensors")
    assert b"has no float32 tensor worth quantizing" in done.stderr
    repo.write("noise.safetensors", b"no tensors here")
    done = repo.run("coral", "add", "--delta-type", "int8_quantized", "noise.safetensors", code=2)
    assert b"'noise.safetensors' cannot be quantized" in done.stderr
    repo.write("text.txt", b"text")
    done = repo.run("coral", "add", "--delta-type", "int8_quantized", "text.txt", code=2)
    assert b"no file of weights matches" in done.stderr
    done = repo.run("coral", "add", "--delta-type", "int9", "m.safetensors", code=2)
    assert b"unknown strategy 'int9'" in done.stderr
    repo.write("w.safetensors", safetensors(BASE))
    repo.write("w.safetensors.orig", b"here already")
    exact = repo.read("w.safetensors")
    done = repo.run(
        "coral", "add", "--delta-type", "int8_quantized", "--keep-original", "w.safetensors", code=2
    )
    assert b"'w.safetensors.orig' exists" in done.stderr
    assert repo.read("w.safetensors") == exact
    assert_healthy(repo)


def test_settings_are_listed_set_and_unset(repo):
    listed = {one["name"]: one for one in json.loads(repo.coral("config", "--json"))}
    assert listed["coral.profile"]["value"] == "fast"
    assert not listed["coral.profile"]["is_set"]
    repo.coral("config", "profile", "best")
    assert repo.git("config", "coral.profile") == "best"
    assert "coral.profile" in repo.coral("config")
    assert repo.run("coral", "config", "profile", "slow", code=2).stderr.startswith(b"error: ")
    repo.coral("config", "--unset", "profile")
    assert repo.coral("config", "profile") == "fast"
    assert b"there is no setting 'colour'" in repo.run("coral", "config", "colour", code=2).stderr


class _Failing:
    """Fails the n-th operation that changes the disk."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.count = 0

    def __call__(self, name: str, path: str) -> None:
        self.count += 1
        if self.count == self.number:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_failing_operation_leaves_the_exact_file_or_the_whole_result(
    repo, safetensors, assert_healthy, monkeypatch
):
    repo.commit("base", m__safetensors=safetensors(BASE))
    exact = safetensors(TUNED)
    monkeypatch.chdir(repo.path)
    results = set()
    for number in range(1, 200):
        repo.write("m.safetensors", exact)
        failing = _Failing(number)
        workspace = Workspace.open()
        fsops.set_fault_hook(failing)
        try:
            make_lossy(workspace, b"m.safetensors", DeltaType.INT8_QUANTIZED)
        except StorageFullError:
            assert repo.read("m.safetensors") == exact
        finally:
            fsops.set_fault_hook(None)
            workspace.close()
        assert not list(repo.path.glob(".coral-tmp*"))
        results.add(repo.read("m.safetensors"))
        if failing.count < number:
            break
    assert 5 < number < 199
    assert len(results - {exact}) == 1
    repo.git("commit", "-qam", "lossy")
    assert repo.blob("HEAD:m.safetensors").startswith(b"# coral")
    assert_healthy(repo)


def test_a_file_that_changes_meanwhile_is_left_alone(repo, safetensors, assert_healthy, monkeypatch):
    repo.write("m.safetensors", safetensors(BASE))
    monkeypatch.chdir(repo.path)
    newer = safetensors(TUNED)

    def write_it(done, total):
        repo.write("m.safetensors", newer)

    workspace = Workspace.open()
    with pytest.raises(CoralError, match=r"'m\.safetensors' changed"):
        make_lossy(workspace, b"m.safetensors", DeltaType.INT8_QUANTIZED, progress=write_it)
    workspace.close()
    assert repo.read("m.safetensors") == newer
    assert_healthy(repo)


@pytest.mark.parametrize("suffix", ["pt", "npz", "gguf"])
def test_files_of_other_formats_are_quantized_and_stay_whole(
    repo, safetensors, assert_healthy, tmp_path, suffix
):
    repo.commit(m__safetensors=safetensors({"w": BASE["w"]}))
    path = f"m.{suffix}"
    repo.coral("export", "HEAD", repo.path / path)
    repo.coral("track", f"*.{suffix}")
    exact = repo.read(path)
    repo.git("rm", "-q", "--cached", "m.safetensors")
    said = json.loads(repo.coral("add", "--delta-type", "int8_quantized", "--json", path))
    assert said[0]["tensors"][0]["largest_error"] > 0
    lossy = repo.read(path)
    assert len(lossy) == len(exact)
    assert lossy != exact
    values = {"pt": _from_torch, "npz": _from_npz, "gguf": _from_gguf}[suffix](repo.path / path)
    assert 0 < np.abs(values - BASE["w"]).max() <= said[0]["tensors"][0]["largest_error"]
    repo.commit("lossy")
    repo.git("clone", "-q", repo.path, tmp_path / "clone")
    assert (tmp_path / "clone" / path).read_bytes() == lossy
    assert_healthy(repo)


def _from_torch(path):
    return pytest.importorskip("torch").load(path, weights_only=True)["w"].numpy()


def _from_npz(path):
    return np.load(path)["w"]


def _from_gguf(path):
    return pytest.importorskip("gguf").GGUFReader(path).tensors[0].data
