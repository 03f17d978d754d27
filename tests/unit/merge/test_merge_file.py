"""A file merged in this process: parts, damage, faults."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess

import numpy as np
import pytest

from coral_git.errors import IntegrityError
from coral_git.limits import DEFAULT_LIMITS
from coral_git.manifest.parse import parse
from coral_git.merge.choices import Choices, parse_choice
from coral_git.merge.merge_file import merge_file
from coral_git.merge.strategies.registry import STRATEGIES
from coral_git.pipeline.clean import clean_content
from coral_git.pipeline.decode import expanded, stream_file
from coral_git.pipeline.parallel import Workers
from coral_git.pipeline.workspace import Workspace
from coral_git.testing.faults import fail_each
from coral_git.testing.health import assert_store_healthy

SMALL = DEFAULT_LIMITS._replace(part_elements=96, part_bytes=400)
PATH = b"m.safetensors"


def safetensors(tensors: dict[str, np.ndarray], **metadata: str) -> bytes:
    header, body = {"__metadata__": metadata} if metadata else {}, b""
    for name, array in tensors.items():
        data = array.tobytes()
        header[name] = {
            "dtype": f"F{8 * array.itemsize}",
            "shape": list(array.shape),
            "data_offsets": [len(body), len(body) + len(data)],
        }
        body += data
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + body


class Repo:
    """A repository whose files are cleaned and merged in this process."""

    def __init__(self, path, limits=SMALL):
        self.path = path
        if not path.exists():
            path.mkdir()
            subprocess.run(["git", "init", "--quiet", "-b", "main", "--template="], cwd=path, check=True)
        self.workspace = Workspace.open(str(path), limits)

    def clean(self, data: bytes):
        return parse(clean_content(self.workspace, PATH, [data]), self.workspace.limits)

    def read(self, text: bytes) -> bytes:
        manifest = parse(text, self.workspace.limits)
        store = self.workspace.store
        with Workers(1) as workers:
            return b"".join(map(bytes, stream_file(expanded(manifest, store), store, workers)))


@pytest.fixture
def repo(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = Repo(tmp_path / "repo")
    yield made
    made.workspace.close()


def versions(
    count: int = 3, shape: tuple[int, ...] = (13, 41), dtype: str = "f4"
) -> list[dict[str, np.ndarray]]:
    """A base and some sides; all sides change ``a``, each another tensor beside it."""
    random, shape = np.random.default_rng(11), (13, 41)
    names = ["a", *(f"only.{number}" for number in range(1, count)), "same"]
    base = {name: random.standard_normal(shape).astype(dtype) for name in names}
    sides = [base]
    for number in range(1, count):
        changed = {
            name: base[name] + random.standard_normal(shape).astype(dtype) / 50
            for name in ("a", f"only.{number}")
        }
        sides.append({**base, **changed})
    return sides


def choices(text: str) -> Choices:
    return Choices(parse_choice(text, "here"))


@pytest.mark.parametrize("name", [*STRATEGIES, "weighted:alpha=0.3", "dare-ties:seed=4,density=0.9"])
@pytest.mark.parametrize("dtype", ["f4", "f8", "f2"])
def test_parts_do_not_change_the_result(tmp_path, name, dtype, monkeypatch):
    monkeypatch.chdir(tmp_path)
    results = []
    for folder, limits in (("whole", DEFAULT_LIMITS), ("parts", SMALL)):
        repo = Repo(tmp_path / folder, limits)
        base, *sides = (repo.clean(safetensors(version)) for version in versions(dtype=dtype))
        assert (len(base.tensors[0].objects) > 3) == (folder == "parts")
        merged = merge_file(repo.workspace, PATH, base, sides, choices(name))
        assert not merged.reason
        results.append(repo.read(merged.text))
        assert_store_healthy(str(repo.path), limits)
        repo.workspace.close()
    assert results[0] == results[1]


@pytest.mark.parametrize("count", [3, 4, 6])
def test_any_number_of_sides(repo, count):
    every = versions(count)
    base, *sides = (repo.clean(safetensors(version)) for version in every)
    merged = merge_file(repo.workspace, PATH, base, sides, choices("average"))
    total = sum(version["a"] * np.float32(1 / (count - 1)) for version in every[1:])
    found = repo.read(merged.text)
    expected = {**every[0], **{f"only.{n}": every[n][f"only.{n}"] for n in range(1, count)}}
    header = len(safetensors(expected)) - sum(array.nbytes for array in expected.values())
    got = np.frombuffer(found[header : header + total.nbytes], "<f4").reshape(total.shape)
    assert np.allclose(got, total, rtol=1e-6, atol=1e-7)
    assert found[header + total.nbytes :] == safetensors(expected)[header + total.nbytes :]


def test_metadata_of_three_sides(repo):
    base, *sides = versions(4)
    files = [
        safetensors(base, step="0"),
        *(safetensors(side, step=str(n)) for n, side in enumerate(sides, 1)),
    ]
    manifests = [repo.clean(data) for data in files]
    merged = merge_file(repo.workspace, PATH, manifests[0], manifests[1:], choices("average"))
    assert b'"step":"1"' in repo.read(merged.text)
    other = choices("average")._replace(rest="theirs")
    assert b'"step":"3"' in repo.read(
        merge_file(repo.workspace, PATH, manifests[0], manifests[1:], other).text
    )
    refused = merge_file(repo.workspace, PATH, manifests[0], manifests[1:], other._replace(rest="fail"))
    assert (refused.text, refused.reason) == (b"", "the sides changed the metadata 'step'")


def test_the_file_in_the_work_tree_may_be_another(repo):
    """Of the right length, but with other bytes: the store is asked."""
    data = [safetensors(version) for version in versions()]
    base, *sides = map(repo.clean, data)
    names = ("average", "ties")
    plain = [merge_file(repo.workspace, PATH, base, sides, choices(name)).text for name in names]
    place = repo.path / os.fsdecode(PATH)
    for content in (data[1], data[2], bytes(len(data[1])), data[1][:-1] + b"\xff", data[1][:-9]):
        place.write_bytes(content)
        again = [merge_file(repo.workspace, PATH, base, sides, choices(name)).text for name in names]
        assert again == plain


def test_chunks_are_taken_as_a_whole(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    repo = Repo(tmp_path / "chunks", DEFAULT_LIMITS)
    base, ours, theirs = (repo.clean(bytes([n]) * 70_000) for n in range(3))
    assert merge_file(repo.workspace, PATH, base, (ours, ours), Choices()).text
    assert merge_file(repo.workspace, PATH, base, (ours, base), Choices()).text
    refused = merge_file(repo.workspace, PATH, base, (ours, theirs), choices("average"))
    assert refused.reason == "both sides changed it, and no tensors were found in it"
    for name, result in (("ours", 1), ("theirs", 2), ("base", 0)):
        text = merge_file(repo.workspace, PATH, base, (ours, theirs), choices(name)).text
        assert repo.read(text) == bytes([result]) * 70_000


def test_a_damaged_version_is_an_error_that_names_the_tensor(repo):
    base, ours, theirs = (repo.clean(safetensors(version)) for version in versions())
    store = repo.workspace.store
    (place,) = store.locations([theirs.tensors[0].objects[2]])[theirs.tensors[0].objects[2]]
    pack = next((repo.path / ".git/coral/objects/packs").glob(f"{place.pack.hex()}.pack"))
    pack.chmod(0o644)
    with pack.open("r+b") as file:
        file.seek(place.offset + place.entry_length - 4)
        file.write(b"\0\0\0\0")
    with pytest.raises(IntegrityError, match="tensor 'a'"):
        merge_file(repo.workspace, PATH, base, (ours, theirs), choices("average"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault", [{"mode": "error", "code": errno.ENOSPC}, {"mode": "kill"}], ids=["full", "kill"]
)
def test_every_write_fails_once(tmp_path, monkeypatch, fault):
    """Whatever fails, nothing is named that is not stored, and the next try succeeds."""
    monkeypatch.chdir(tmp_path)
    data = [safetensors(version) for version in versions()]
    template = Repo(tmp_path / "template")
    base, *sides = (template.clean(one) for one in data)
    template.workspace.close()
    numbers = iter(range(10**6))

    def prepare():
        copy = shutil.copytree(template.path, tmp_path / f"run-{next(numbers)}", symlinks=True)
        return Repo(copy)

    def merge(made):
        workspace = Workspace.open(str(made.path), SMALL)
        try:
            return merge_file(workspace, PATH, base, sides, choices("average")).text
        finally:
            workspace.close()

    def verify(made, completed):
        assert_store_healthy(str(made.path), SMALL)
        text = merge(made)
        assert len(made.read(text)) == len(data[0])
        made.workspace.close()

    assert fail_each(merge, prepare, verify, **fault) > 3
