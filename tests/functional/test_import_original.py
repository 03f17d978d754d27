"""``git coral import`` of repositories of the original Coral: the newest weights, or all of the history."""

from __future__ import annotations

import json
from typing import NamedTuple

import h5py
import numpy as np
import pytest
import xxhash

RNG = np.random.default_rng(10)
FIRST = {
    "layer.weight": RNG.standard_normal((64, 48)).astype(np.float32),
    "layer.bias": np.array([-0.0, np.nan, np.inf]),
    "ids": np.arange(12).reshape(3, 4),
    "half": RNG.standard_normal(7).astype(np.float16),
    "scalar": np.float32(3).reshape(()),
}
SECOND = {**FIRST, "layer.weight": FIRST["layer.weight"] + np.float32(0.25)}


class Delta(NamedTuple):
    """A delta that a commit has beside a weight."""

    weight: str
    reference: str


def digest(array: np.ndarray) -> str:
    """What coral-ml calls a weight."""
    hasher = xxhash.xxh3_64(f"{tuple(array.shape)}{array.dtype.name}".encode())
    hasher.update(array.tobytes())
    return hasher.hexdigest()


class Original:
    """A repository as coral-ml 1.0.0 lays it out."""

    def __init__(self, path) -> None:
        self.path = path
        self.coral = path / ".coral"
        for folder in ("objects/commits", "refs/heads", "versions", "staging"):
            (self.coral / folder).mkdir(parents=True)
        (self.coral / "HEAD").write_text("ref: refs/heads/main")
        self.move("main", "")
        with h5py.File(self.store, "w") as file:
            for group in ("weights", "metadata", "deltas"):
                file.create_group(group)

    @property
    def store(self):
        return self.coral / "objects" / "weights.h5"

    def move(self, branch: str, commit: str) -> None:
        value = {"name": branch, "commit_hash": commit, "parent_branch": None}
        (self.coral / "refs" / "heads" / branch).write_text(json.dumps(value))

    def version(self, name: str, commit: str, **more: object) -> None:
        value = {"version_id": "01", "commit_hash": commit, "name": name, "description": None, **more}
        (self.coral / "versions" / f"{len(list(self.coral.glob('versions/*')))}.json").write_text(
            json.dumps(value)
        )

    def commit(self, number: int, weights, *parents: str, deltas=(), store=True, **metadata: object) -> str:
        """Make weights a commit on main; with deltas beside them, and with full copies or without."""
        name = f"{number:016x}"
        with h5py.File(self.store, "a") as file:
            for array in weights.values() if store else ():
                if digest(array) not in file["weights"]:
                    packed = {"compression": "gzip", "compression_opts": 4} if array.shape else {}
                    file["weights"].create_dataset(digest(array), data=array, **packed)
            for delta in deltas:
                found = file["deltas"].require_dataset(f"{number:x}d", (3,), np.float32)
                found.attrs["reference_hash"] = delta.reference
        value = {
            "commit_hash": name,
            "parent_hashes": list(parents),
            "weight_hashes": {key: digest(array) for key, array in weights.items()},
            "metadata": {
                "author": "Ann <Lee>",
                "email": "ann@example.org",
                "message": f"commit {number}\n\n# kept\n",
                "timestamp": f"2024-05-06T07:08:{number:02}+02:00",
                "tags": [],
                **metadata,
            },
            "delta_weights": {delta.weight: f"{number:x}d" for delta in deltas},
        }
        (self.coral / "objects" / "commits" / f"{name}.json").write_text(json.dumps(value))
        self.move("main", name)
        return name


@pytest.fixture
def original(tmp_path) -> Original:
    """Two commits, of which the first one has a tag, and the second one a version."""
    made = Original(tmp_path / "zoo")
    first = made.commit(1, FIRST, tags=["start", "..bad"])
    compared = Delta("layer.weight", digest(FIRST["layer.weight"]))
    second = made.commit(2, SECOND, first, deltas=[compared])
    made.version("v1.0", second, description="the best", metrics={"accuracy": 0.5})
    return made


@pytest.fixture
def new(make_repo):
    return make_repo(track=False)


def assert_tensors(data: bytes, expected) -> None:
    found = pytest.importorskip("safetensors.numpy").load(data)
    assert set(found) == set(expected)
    for name, array in expected.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert found[name].tobytes() == array.tobytes()


def refusal(repo, *words) -> str:
    before = repo.status("-uall")
    done = repo.run("coral", "import", *words, code=None)
    assert done.returncode not in (0, 1)
    assert b"Traceback" not in done.stderr
    assert repo.status("-uall") == before
    return done.stderr.decode()


def test_the_newest_weights(new, original, assert_healthy):
    assert "wrote 'zoo.safetensors': safetensors, 5 tensors" in new.coral("import", original.path)
    assert_tensors(new.read("zoo.safetensors"), SECOND)
    assert new.status() == "A  .gitattributes\nA  zoo.safetensors"
    new.commit()
    assert_healthy(new)


def test_weights_of_any_commit(new, original):
    original.move("old", "1".zfill(16))
    for reference, expected in (("old", FIRST), ("1".zfill(16), FIRST), ("v1.0", SECOND), ("main", SECOND)):
        new.coral("import", "--force", "--no-add", original.path, "a.safetensors", "--ref", reference)
        assert_tensors(new.read("a.safetensors"), expected)
    (original.coral / "HEAD").write_text("1".zfill(16))
    new.coral("import", "--force", "--no-add", original.path, "a.safetensors")
    assert_tensors(new.read("a.safetensors"), FIRST)
    new.coral("import", original.path, "a.npz")
    with np.load(new.path / "a.npz") as found:
        assert found["layer.bias"].tobytes() == FIRST["layer.bias"].tobytes()


def test_history_becomes_commits_and_tags(new, original, tmp_path, at, assert_healthy):
    new.commit("mine", readme=b"mine")
    done = new.run("coral", "import", "--history", original.path, "m.safetensors")
    assert b"made 2 commits, tags: v1.0, start" in done.stdout
    assert b"left out: 'tag ..bad'" in done.stderr
    assert new.status() == ""
    new.git("clone", "-q", new.path, tmp_path / "clone")
    clone = at(tmp_path / "clone")
    for tag, expected in (("start", FIRST), ("v1.0", SECOND)):
        clone.git("checkout", "-q", tag)
        assert_tensors(clone.read("m.safetensors"), expected)
    shown = new.git("log", "--format=%an|%ae|%aI|%B", "-2", "--reverse").split("\n")
    assert shown[:3] == ["Ann Lee|ann@example.org|2024-05-06T07:08:01+02:00|commit 1", "", "# kept"]
    assert (
        new.git("for-each-ref", "--format=%(contents)", "refs/tags/v1.0").strip() == "the best\naccuracy: 0.5"
    )
    assert new.git("rev-list", "--count", "HEAD") == "3"
    assert_healthy(new)


def test_history_with_json_and_a_commit_that_changes_nothing(new, original):
    original.commit(3, SECOND, "2".zfill(16), message="")
    said = json.loads(new.coral("import", "--history", "--json", original.path, "-f"))
    assert said["commits"] == 3
    assert said["tags"] == ["v1.0", "start"]
    assert said["left_out"] == ["tag ..bad"]
    assert new.git("diff", "--stat", "HEAD~", "HEAD") == ""


def test_history_does_not_commit_what_somebody_has_added(new, original):
    new.write("mine", b"mine")
    new.git("add", "mine")
    assert "the index has changes that are not committed" in refusal(new, "--history", original.path)
    assert "--no-add" in refusal(new, "--history", "--no-add", original.path)
    new.git("commit", "-q", "-m", "mine")
    new.write("zoo.safetensors", b"mine")
    assert "exists" in refusal(new, "--history", original.path)
    assert new.git("rev-list", "--count", "HEAD") == "1"


def test_what_is_only_a_delta_is_refused(new, original):
    weight = SECOND["layer.weight"]
    alike = Delta("copy", digest(weight))
    original.commit(3, {**SECOND, "copy": weight}, "2".zfill(16), deltas=[alike])
    assert "'copy' of the commit '0000000000000003' is stored only as a delta" in refusal(new, original.path)
    assert "stored only as a delta" in refusal(new, "--history", original.path)
    assert not new.git("for-each-ref")
    original.commit(4, {"lost": np.ones(3)}, store=False)
    assert "'lost' of the commit '0000000000000004' is not in the store" in refusal(new, original.path)


def damage(original: Original) -> None:
    with h5py.File(original.store, "r+") as file:
        file["weights"][digest(FIRST["layer.bias"])][0] = 1.0


def link(original: Original) -> None:
    with h5py.File(original.store, "r+") as file:
        del file["weights"][digest(FIRST["layer.bias"])]
        file["weights"][digest(FIRST["layer.bias"])] = h5py.ExternalLink("/etc/passwd", "/a")


def virtual(original: Original) -> None:
    with h5py.File(original.store, "r+") as file:
        del file["weights"][digest(FIRST["layer.bias"])]
        layout = h5py.VirtualLayout((3,), np.float64)
        file["weights"].create_virtual_dataset(digest(FIRST["layer.bias"]), layout)


def long_chunks(original: Original) -> None:
    with h5py.File(original.store, "r+") as file:
        del file["weights"][digest(FIRST["layer.bias"])]
        file["weights"].create_dataset(
            digest(FIRST["layer.bias"]), (1 << 27,), np.float64, chunks=(1 << 27,), compression="gzip"
        )


def write(name: str, text: str):
    return lambda original: (original.coral / name).write_text(text)


def change(name: str, **fields: object):
    def run(original: Original) -> None:
        path = original.coral / name
        path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))

    return run


COMMIT = f"objects/commits/{2:016x}.json"
DAMAGES = {
    "values": (damage, "is damaged: its hash differs"),
    "a link": (link, "is not in the store"),
    "a virtual dataset": (virtual, "is stored in an unusual way"),
    "chunks of 1 GiB": (long_chunks, "is stored in an unusual way"),
    "no HDF5": (write("objects/weights.h5", "text"), "is no HDF5 file"),
    "a branch above": (write("HEAD", "ref: refs/heads/../../x"), "has no branch"),
    "an absolute branch": (write("HEAD", "ref: refs/heads//etc/passwd"), "has no branch"),
    "no commits": (lambda original: original.move("main", ""), "has no branch, version or commit 'main'"),
    "a commit above": (lambda original: original.move("main", "../../x"), "has no branch"),
    "no JSON": (write(COMMIT, "{" * 9), "is no valid JSON"),
    "nested JSON": (write(COMMIT, "[" * 100_000), "is no valid JSON"),
    "a list": (write(COMMIT, "[]"), "is no JSON object"),
    "no metadata": (change(COMMIT, metadata=None), "cannot be understood"),
    "an odd hash": (change(COMMIT, weight_hashes={"a": "../x"}), "cannot be understood"),
    "an odd date": (change(COMMIT, metadata={"timestamp": "0001-01-01"}), "cannot be understood"),
    "no weights": (change(COMMIT, weight_hashes={}), "there are no tensors"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_an_error_and_writes_nothing(new, original, name):
    run, message = DAMAGES[name]
    run(original)
    assert message in refusal(new, original.path)


def test_a_parent_that_is_away_is_an_error(new, original):
    change(COMMIT, parent_hashes=["f" * 16])(original)
    assert "cannot read" in refusal(new, "--history", original.path)
    change(COMMIT, parent_hashes=["../../HEAD"])(original)
    assert "names an odd commit" in refusal(new, "--history", original.path)
    change(COMMIT, parent_hashes=["2".zfill(16)])(original)
    assert "2 commits" in new.coral("import", "--history", original.path) or new.git(
        "rev-list", "--count", "HEAD"
    )
