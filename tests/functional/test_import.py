"""``git coral import``: files, folders and checkpoints from elsewhere become files that git has."""

from __future__ import annotations

import json
import os
import shutil
import socket
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

RNG = np.random.default_rng(9)
MODEL = {
    "encoder.weight": RNG.standard_normal((70, 50)).astype(np.float32),
    "encoder.bias": RNG.standard_normal(50).astype(np.float32),
    "ids": np.arange(9, dtype=np.int64),
}
SHARDED = Path(__file__).parents[1] / "golden" / "formats" / "sharded.dcp"


@pytest.fixture
def source(tmp_path, write_safetensors):
    """A file of weights outside of the repository, and its bytes."""
    path = tmp_path / "downloads" / "model.safetensors"
    return path, write_safetensors(path, MODEL, {"format": "pt"})


@pytest.fixture
def assert_kept(tmp_path, at, assert_healthy):
    """Commits what is in the index, clones, and compares files with what is expected of them."""

    def check(repo, **files):
        repo.git("commit", "-q", "-m", "import")
        assert repo.status() == ""
        assert repo.git("ls-files").splitlines() == sorted([".gitattributes", *files])
        repo.git("clone", "-q", repo.path, tmp_path / "clone")
        clone = at(tmp_path / "clone")
        for name, data in files.items():
            assert repo.read(name) == clone.read(name) == data
        assert "no problems" in repo.coral("fsck")
        assert_healthy(repo)
        assert_healthy(clone)

    return check


@pytest.fixture
def new(make_repo):
    """A repository that tracks nothing."""
    return make_repo(track=False)


def content(repo) -> list[object]:
    """What is in the index and in the work tree."""
    paths = [path for path in repo.path.rglob("*") if ".git" not in path.parts]
    return [repo.git("ls-files", "-s"), {path: path.is_file() and path.read_bytes() for path in paths}]


def refusal(repo, *words, **options) -> str:
    """What an import that fails says, after a look that it has left nothing."""
    before = content(repo)
    done = repo.run("coral", "import", *words, code=2, **options)
    assert content(repo) == before
    assert not done.stdout
    return os.fsdecode(done.stderr)


# Files


def test_a_file_is_copied_tracked_and_added(new, source, assert_kept):
    path, data = source
    assert new.coral("import", path).splitlines() == [
        "tracking '*.safetensors'",
        f"wrote 'model.safetensors': safetensors/1, 3 tensors, {len(data) / 1000:.1f} KB",
    ]
    assert new.status() == "A  .gitattributes\nA  model.safetensors"
    assert len(new.manifest(":model.safetensors").tensors) == 3
    assert_kept(new, **{"model.safetensors": data})


def test_a_file_goes_where_it_is_told(new, source, assert_kept):
    path, data = source
    (new.path / "sub").mkdir()
    new.coral("import", path, "deep/down/a.safetensors")
    new.coral("import", path, "sub")
    new.coral("import", path, "also/")
    new.coral("import", path, "up.safetensors", cwd=new.path / "sub")
    places = ("also/model", "deep/down/a", "sub/model", "sub/up")
    assert_kept(new, **{f"{place}.safetensors": data for place in places})


def test_a_file_in_another_format(new, source, assert_kept):
    path, _ = source
    said = json.loads(new.coral("import", "--format", "npz", path, "--json"))
    assert said["patterns"] == ["*.npz"]
    assert said["commits"] == 0
    assert said["tags"] == said["left_out"] == []
    (file,) = said["files"]
    data = new.read("model.npz")
    assert file == {"path": "model.npz", "format": "npz", "tensors": 3, "cast": 0, "size": len(data)}
    new.coral("import", "-q", path, "by-its-name.npz")
    assert new.read("by-its-name.npz") == data
    with np.load(new.path / "model.npz") as found:
        assert {name: found[name].tobytes() for name in found} == {n: v.tobytes() for n, v in MODEL.items()}
    assert_kept(new, **{"model.npz": data, "by-its-name.npz": data})


def test_a_file_in_another_precision(new, source, safetensors, assert_kept):
    path, _ = source
    said = new.coral("import", path, "--dtype", "bf16")
    assert "3 tensors, 2 of them cast" in said
    halves = {n: v if v.dtype.kind == "i" else v.astype(ml_dtypes.bfloat16) for n, v in MODEL.items()}
    new.coral("import", new.write("../halves.safetensors", safetensors(halves)))
    cast, expected = (
        {t.name: t for t in new.manifest(f":{n}.safetensors").tensors} for n in ("model", "halves")
    )
    assert {name: (t.dtype, t.shape, t.objects) for name, t in cast.items()} == {
        name: (t.dtype, t.shape, t.objects) for name, t in expected.items()
    }
    assert_kept(new, **{f"{n}.safetensors": new.read(f"{n}.safetensors") for n in ("model", "halves")})


def test_what_nobody_understands_is_kept_byte_for_byte(new, tmp_path, assert_kept):
    data = RNG.bytes(50_000)
    (tmp_path / "strange.bin").write_bytes(data)
    (tmp_path / "notes.md").write_bytes(b"notes\r\n")
    new.coral("import", tmp_path / "strange.bin")
    new.coral("import", tmp_path / "notes.md")
    assert new.read(".gitattributes").startswith(b"*.bin ")
    assert new.manifest(":strange.bin").format == "chunks/1"
    assert new.blob(":notes.md") == b"notes\r\n"
    assert_kept(new, **{"strange.bin": data, "notes.md": b"notes\r\n"})


def test_no_add_only_writes(new, source):
    path, data = source
    new.coral("import", "--no-add", path)
    assert new.status() == "?? model.safetensors"
    assert new.read("model.safetensors") == data
    assert not (new.path / ".gitattributes").exists()


def test_a_file_that_exists_is_replaced_when_told(new, source):
    path, data = source
    new.write("model.safetensors", b"mine")
    (new.path / "link.safetensors").symlink_to("model.safetensors")
    assert "'model.safetensors' exists" in refusal(new, path)
    assert "'link.safetensors' exists" in refusal(new, path, "link.safetensors")
    assert new.read("model.safetensors") == b"mine"
    new.coral("import", "--force", path, "link.safetensors")
    assert new.read("model.safetensors") == b"mine"
    assert not (new.path / "link.safetensors").is_symlink()
    new.coral("import", "--force", path)
    assert new.read("model.safetensors") == new.read("link.safetensors") == data


def test_what_cannot_be_imported_is_said(new, source, tmp_path):
    path, _ = source
    empty = tmp_path / "empty"
    empty.mkdir()
    outside = tmp_path / "outside"
    outside.mkdir()
    (new.path / "away").symlink_to(outside)
    (empty / ".hidden").write_bytes(b"x")
    (tmp_path / "text.bin").write_bytes(b"no tensors")
    (tmp_path / "lfs.bin").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    for words, message in (
        (["nothing.bin"], "there is no file or folder 'nothing.bin'"),
        ([empty], "there are no files in"),
        ([tmp_path / "text.bin", "a.npz"], "no tensors were found"),
        ([tmp_path / "text.bin", "--dtype", "bf16"], "no tensors were found"),
        ([tmp_path / "lfs.bin"], "hint: git lfs pull"),
        ([path, "--format", "onnx"], "it needs a graph"),
        ([path, "--format", "zip"], "cannot write the format 'zip'"),
        ([path, "--dtype", "int3"], "int3"),
        ([path, "m.npz", "--dtype", "bf16"], "which numpy does not have"),
        ([path.parent, "--dtype", "bf16"], "hint: import them one by one"),
        ([path, "../m.safetensors"], "is outside of the work tree"),
        ([path, "away/m.safetensors"], "is outside of the work tree"),
        ([path, ".git/m.safetensors"], "is outside of the work tree"),
        ([path, "--history"], "is no repository of the original Coral"),
        ([path, "--ref", "main"], "is no repository of the original Coral"),
    ):
        assert message in refusal(new, *words)
    assert not list(outside.iterdir())


def test_a_manifest_is_not_what_it_stands_for(new, source, tmp_path):
    new.coral("import", source[0], "a.safetensors")
    (tmp_path / "b.safetensors").write_bytes(new.blob(":a.safetensors"))
    assert "is a manifest, not the file" in refusal(new, tmp_path / "b.safetensors")


def test_nothing_is_written_that_git_ignores(new, source):
    path, data = source
    new.write(".gitignore", b"*.log\n*.npz\n")
    (path.parent / "train.log").write_bytes(b"log")
    assert "git ignores 'downloads/train.log'" in refusal(new, path.parent)
    assert "git ignores 'model.npz'" in refusal(new, path, "--format", "npz")
    new.coral("import", "--no-add", path.parent)
    assert new.read("downloads/model.safetensors") == data


def test_without_the_filter_nothing_is_written(new, source, home):
    (home / ".gitconfig").write_text("")
    assert "hint: git coral install" in refusal(new, source[0])
    new.coral("import", "--no-add", source[0])
    assert new.read("model.safetensors") == source[1]


# Folders


@pytest.fixture
def snapshot(tmp_path, safetensors):
    """A model in the cache of Hugging Face, whose files are links."""
    model = tmp_path / "hub" / "models--org--tiny-net"
    files = {
        "config.json": b'{"a": 1}\n',
        "model.safetensors": safetensors(MODEL),
        "onnx/weights.onnx_data": RNG.bytes(3000),
        "pytorch_model.bin": RNG.bytes(9000),
        ".gitattributes": b"*.bin filter=lfs diff=lfs merge=lfs -text\n",
    }
    place = model / "snapshots" / "0a1b"
    for number, (name, data) in enumerate(files.items()):
        (model / "blobs").mkdir(parents=True, exist_ok=True)
        (model / "blobs" / f"{number}").write_bytes(data)
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).symlink_to(os.path.relpath(model / "blobs" / f"{number}", (place / name).parent))
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text("0a1b")
    return place, {name: data for name, data in files.items() if not name.startswith(".")}


def test_a_snapshot_of_hugging_face(new, snapshot, assert_kept):
    place, files = snapshot
    said = new.coral("import", place)
    assert "tracking '*.safetensors'" in said
    assert "tracking '*.bin'" in said
    assert not any(path.is_symlink() for path in new.path.glob("tiny-net/**/*"))
    assert new.blob(":tiny-net/config.json") == files["config.json"]
    assert_kept(new, **{f"tiny-net/{name}": data for name, data in files.items()})


def test_the_folder_of_a_model_is_its_snapshot(new, snapshot, assert_kept):
    place, files = snapshot
    model = place.parents[1]
    (model / "snapshots" / "ffff").mkdir()
    new.coral("import", model, "here")
    (model / "refs" / "main").unlink()
    assert "has 2 snapshots" in refusal(new, model)
    assert_kept(new, **{f"here/{name}": data for name, data in files.items()})


def test_nothing_of_a_folder_is_written_where_a_file_exists(new, snapshot):
    place, files = snapshot
    mine = new.write("tiny-net/pytorch_model.bin", b"mine")
    assert "'tiny-net/pytorch_model.bin' exists" in refusal(new, place)
    assert mine.read_bytes() == b"mine"
    new.coral("import", "--force", place)
    assert mine.read_bytes() == files["pytorch_model.bin"]


def test_odd_things_in_a_folder(new, tmp_path, source):
    path, data = source
    folder = path.parent
    (folder / "to-a-folder").symlink_to(tmp_path)
    (folder / "with space").mkdir()
    (folder / "with space" / "*.txt").write_bytes(b"a")
    (folder / "no-ending[1]").write_bytes(data)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(folder / "socket"))
    done = new.run("coral", "import", folder, ".")
    assert b"left out" in done.stderr
    assert b"to-a-folder" in done.stderr
    assert b"socket" in done.stderr
    assert new.git("diff", "--cached", "--name-only", "-z").split("\0") == [
        ".gitattributes",
        "model.safetensors",
        "no-ending[1]",
        "with space/*.txt",
        "",
    ]
    assert len(new.manifest(":no-ending[1]").tensors) == 3
    (folder / "broken").symlink_to("nowhere")
    assert "leads nowhere" in refusal(new, folder, "again")


# Distributed checkpoints


def test_a_checkpoint_that_torch_saved(new, tmp_path, assert_kept):
    torch = pytest.importorskip("torch")
    dcp = pytest.importorskip("torch.distributed.checkpoint")
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(200, 300, generator=generator).to(torch.bfloat16)
    state = {
        "model": {
            "weight": weight,
            "turned": weight[:20].float().t(),
            "bias": torch.tensor([-0.0, torch.nan]),
        },
        "optimizer": [{"exp_avg": torch.zeros(0, 3)}],
        "step": 7,
    }
    with pytest.warns(UserWarning, match="single process"):
        dcp.save(state, checkpoint_id=tmp_path / "step-7", no_dist=True)
    (tmp_path / "step-7" / "config.json").write_text("{}")
    done = new.run("coral", "import", tmp_path / "step-7")
    assert b"4 tensors" in done.stdout
    assert b"left out: 'step'" in done.stderr
    assert b"config.json" in done.stderr
    data = new.read("step-7.safetensors")
    found = pytest.importorskip("safetensors.torch").load(data)
    expected = {
        "model.weight": weight,
        "model.turned": state["model"]["turned"],
        "model.bias": state["model"]["bias"],
        "optimizer.0.exp_avg": state["optimizer"][0]["exp_avg"],
    }
    assert set(found) == set(expected)
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        assert found[name].shape == tensor.shape
        raw = tensor.contiguous().view(torch.uint8)
        assert torch.equal(found[name].view(torch.uint8), raw), name
    assert_kept(new, **{"step-7.safetensors": data})


def test_a_checkpoint_of_several_processes(new, tmp_path, assert_kept):
    shutil.copytree(SHARDED, tmp_path / "sharded")
    new.coral("import", tmp_path / "sharded", "a.npz", "--dtype", "float32")
    with np.load(new.path / "a.npz") as found:
        assert found["rows"].tobytes() == np.arange(35, dtype=np.float32).tobytes()
        assert found["columns"].tobytes() == np.arange(30, dtype=np.float32).tobytes()
        assert found["columns"].shape == (3, 5, 2)
    assert_kept(new, **{"a.npz": new.read("a.npz")})


def test_a_checkpoint_that_is_damaged(new, tmp_path):
    shutil.copytree(SHARDED, tmp_path / "sharded")
    part = tmp_path / "sharded" / "__1_0.distcp"
    data = part.read_bytes()
    part.write_bytes(data[:-1])
    assert "is cut short" in refusal(new, tmp_path / "sharded")
    part.unlink()
    assert "cannot read" in refusal(new, tmp_path / "sharded")
    part.symlink_to(tmp_path)
    assert "cannot read" in refusal(new, tmp_path / "sharded")
    (tmp_path / "sharded" / ".metadata").write_bytes(b"\x80\x02no pickle")
    assert "cannot read the checkpoint" in refusal(new, tmp_path / "sharded")
