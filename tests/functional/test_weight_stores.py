"""Tensors by key, in memory, in a repository, on a remote: the same promises everywhere."""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch

from coral_git import (
    LocalStore,
    MemoryStore,
    RemoteStore,
    Repository,
    WeightMetadata,
    WeightStore,
    WeightTensor,
)
from coral_git.api.weight_store import weight_key
from coral_git.errors import CoralError, IntegrityError, ObjectMissingError, UsageError
from coral_git.testing.faults import count_operations, fail_each

RANDOM = np.random.default_rng(0).standard_normal((64, 64), np.float32)


@pytest.fixture
def project(tmp_path, installed, at):
    at(tmp_path).git("init", "-q", "--bare", "-b", "main", tmp_path / "hub.git")
    with Repository(tmp_path / "models", init=True) as repository:
        repository.add_remote("origin", str(tmp_path / "hub.git"))
        yield repository


@pytest.fixture(params=["memory", "local", "remote"])
def store(request):
    if request.param == "memory":
        return MemoryStore()
    project = request.getfixturevalue("project")
    return LocalStore(project) if request.param == "local" else RemoteStore(project)


# What every store promises


def test_what_is_stored_comes_back(store):
    metadata = WeightMetadata("layer1", (64, 64), "F32", "Linear", "bert", {"method": "delta", "n": [1]})
    with store:
        assert isinstance(store, WeightStore)
        key = store.store(WeightTensor(RANDOM, metadata=metadata))
        found = store.load(key)
        assert (found.name, found.data.tobytes()) == ("layer1", RANDOM.tobytes())
        said = store.get_metadata(key)
        assert (said.name, said.shape, said.dtype) == ("layer1", (64, 64), "F32")
        assert (said.layer_type, said.model_name, said.compression_info) == (
            "Linear",
            "bert",
            {"method": "delta", "n": [1]},
        )
        assert store.exists(key)
        assert key in store
        assert store.list_weights() == [key]
        assert store.store(WeightTensor(RANDOM.copy(), "other")) == key
        assert len(store) == 1
        info = store.get_storage_info()
        assert (info["total_weights"], info["total_bytes"]) == (1, RANDOM.nbytes)
        assert 0 < info["compression_ratio"] <= 1
        assert store.delete(key)
        assert not store.delete(key)
        assert (store.load(key), store.get_metadata(key), store.list_weights()) == (None, None, [])
        assert store.get_storage_info()["compression_ratio"] == 1.0


def test_equal_bytes_of_another_dtype_or_shape_are_another_tensor(store):
    zeros = [
        np.zeros(8, np.float32),
        np.zeros((2, 4), np.float32),
        np.zeros(8, np.int32),
        np.zeros(4, np.float64),
    ]
    keys = {store.store(value) for value in zeros}
    assert len(keys) == 4
    for value in zeros:
        found = store.load(weight_key(WeightTensor(value)))
        assert (found.shape, found.dtype) == (value.shape, value.dtype)


def test_batches_of_every_kind(store):
    weights = {
        "half": torch.ones(5, dtype=torch.bfloat16),
        "float8": np.ones(4, ml_dtypes.float8_e4m3fn),
        "scalar": np.array(3, np.int64),
        "empty": np.zeros((0, 4), np.float32),
        "flags": np.array([True, False]),
        "again": np.array([True, False]),
        "complex": np.ones(2, np.complex64),
    }
    keys = store.store_batch(weights)
    assert list(keys) == list(weights)
    assert keys["flags"] == keys["again"]
    found = store.load_batch([*keys.values(), "nothing"])
    assert len(found) == 6
    assert found[keys["scalar"]].data == 3
    assert found[keys["empty"]].shape == (0, 4)
    assert found[keys["flags"]].name == "flags"
    assert torch.equal(found[keys["half"]].torch(), weights["half"])
    assert found[keys["float8"]].data.dtype == ml_dtypes.float8_e4m3fn


def test_a_key_that_is_given_is_replaced(store):
    assert store.store(RANDOM, "best") == "best"
    store.store(RANDOM + 1, "best")
    assert np.array_equal(store.load("best").data, RANDOM + 1)
    assert store.list_weights() == ["best"]


def test_what_is_changed_afterwards_is_not_what_was_stored(store):
    value = RANDOM.copy()
    key = store.store(value)
    value[:] = 0
    assert np.array_equal(store.load(key).data, RANDOM)


# In a repository


def test_bad_keys_and_dtypes(project):
    store = LocalStore(project)
    for key in ("", "a/b", "../x", ".git", "a" * 300, "a\n", "ä"):
        with pytest.raises(UsageError, match="bad key"):
            store.store(RANDOM, key)
    with pytest.raises(UsageError):
        store.store(np.zeros(2, np.complex128))
    assert store.list_weights() == []
    assert store.load("../x") is None


def test_the_ref_is_one_commit_without_parents_and_the_same_everywhere(project, at, tmp_path):
    store, repo = LocalStore(project), at(Path(project.path))
    keys = store.store_batch({"a": RANDOM, "b": RANDOM[0]})
    tip = repo.git("rev-parse", "refs/coral/weights")
    assert repo.git("rev-list", "--count", tip) == "1"
    assert sorted(repo.git("ls-tree", "--name-only", tip).splitlines()) == sorted(keys.values())
    assert repo.git("cat-file", "blob", f"{tip}:{keys['b']}").startswith("# ")
    store.store_batch({"a": RANDOM})
    assert repo.git("rev-parse", "refs/coral/weights") == tip
    store.store(RANDOM, "extra")
    store.delete("extra")
    assert repo.git("rev-parse", "refs/coral/weights") == tip
    for key in keys.values():
        store.delete(key)
    assert repo.git("for-each-ref", "refs/coral/") == ""


def test_gc_keeps_what_is_kept_and_frees_what_was_deleted(project, at, assert_healthy):
    store, repo = LocalStore(project), at(Path(project.path))
    keys = store.store_batch({"a": RANDOM, "b": np.flip(RANDOM).copy()})
    collect = (("gc", "--quiet", "--prune=now"), ("coral", "gc", "--prune", "now"))
    for command in collect:
        repo.git(*command)
    assert set(store.load_batch(keys.values())) == set(keys.values())
    store.delete(keys["b"])
    before = repo.objects(f"refs/coral/weights:{keys['a']}")
    for command in collect:
        repo.git(*command)
    store.close()
    assert np.array_equal(store.load(keys["a"]).data, RANDOM)
    with repo.store() as packs:
        assert not packs.find_missing(before)
        assert packs.find_missing([bytes.fromhex(WeightTensor(np.flip(RANDOM)).compute_hash())])
    assert_healthy(repo)


def test_similar_tensors_are_stored_as_differences(project, at):
    store = LocalStore(project)
    first = np.random.default_rng(1).standard_normal((256, 256), np.float32)
    project.stage_weights({"w": first})
    project.commit("one")
    store.store(WeightTensor(first + np.float32(1e-4) * first[::-1], "elsewhere"))
    assert store.get_storage_info()["compression_ratio"] < 0.6


def test_a_damaged_entry_is_an_error(project, at):
    repo, store = at(Path(project.path)), LocalStore(project)
    store.store(RANDOM, "good")
    blob = repo.git("hash-object", "-w", "--stdin", data=b"no manifest")
    tree = repo.git("mktree", data=f"100644 blob {blob}\tbad\n".encode())
    repo.git("update-ref", "refs/coral/weights", repo.git("commit-tree", tree, "-m", "x"))
    assert store.list_weights() == ["bad"]
    with pytest.raises(IntegrityError, match="'bad' is no tensor"):
        store.load("bad")


WRITER = """
import sys
import numpy as np
from coral_git import LocalStore, RemoteStore
kind, place, start, count = sys.argv[1:]
store = LocalStore(place) if kind == "local" else RemoteStore(place)
for number in range(int(count)):
    store.store(np.full(50, int(start) + number, np.int32), f"w{int(start) + number}")
"""


@pytest.mark.parametrize(("kind", "count"), [("local", 8), ("remote", 3)])
def test_two_writers_lose_nothing(project, python, kind, count, at, tmp_path, assert_healthy):
    places = [project.path, project.path]
    if kind == "remote":
        at(tmp_path).git("clone", "-q", tmp_path / "hub.git", tmp_path / "other")
        places[1] = str(tmp_path / "other")
    writers = [
        subprocess.Popen([python, "-c", WRITER, kind, place, str(start), str(count)])
        for place, start in zip(places, (0, 100), strict=True)
    ]
    assert [writer.wait() for writer in writers] == [0, 0]
    store = LocalStore(project) if kind == "local" else RemoteStore(project)
    numbers = [*range(count), *range(100, 100 + count)]
    assert store.list_weights() == sorted(f"w{number}" for number in numbers)
    assert [store.load(f"w{number}").data[0] for number in numbers] == numbers
    assert_healthy(at(Path(project.path)))


def test_threads_store_at_the_same_time(project):
    store, failures = LocalStore(project), []

    def write(number):
        try:
            for step in range(3):
                store.store(np.full(9, 10 * number + step), f"w{number}-{step}")
                assert store.load(f"w{number}-{step}").data[0] == 10 * number + step
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(store) == 9


@pytest.mark.parametrize("mode", ["error", "kill"])
def test_every_write_may_fail(project, at, mode, assert_healthy):
    LocalStore(project.path).store(RANDOM, "before")
    serial = iter(range(10_000))

    def prepare():
        return next(serial)

    def operation(number):
        with LocalStore(project.path) as store:
            store.store_batch({"a": RANDOM + np.float32(number + 1), "b": RANDOM - np.float32(number + 1)})

    def verify(number, completed):
        expected = [weight_key(WeightTensor(RANDOM + np.float32(sign * (number + 1)))) for sign in (1, -1)]
        with LocalStore(project.path) as store:
            assert [store.exists(key) for key in expected] == [completed] * 2
            assert np.array_equal(store.load("before").data, RANDOM)
            assert all(
                np.array_equal(one.data.shape, (64, 64)) for one in store.load_batch(expected).values()
            )

    assert count_operations(lambda: operation(next(serial))) > 3
    assert fail_each(operation, prepare, verify, mode=mode, step=2) > 2
    project.gc()
    with LocalStore(project.path) as store:
        for weight in store.load_batch(store.list_weights()).values():
            assert weight.data.shape == (64, 64)


def test_every_write_may_fail_on_the_way_to_a_remote(project):
    RemoteStore(project).store(RANDOM, "before")
    serial = iter(range(1, 10_000))

    def operation(number):
        with RemoteStore(project.path) as store:
            store.store(RANDOM + np.float32(number))

    def verify(number, completed):
        key = weight_key(WeightTensor(RANDOM + np.float32(number)))
        with RemoteStore(project.path) as store:
            assert store.exists(key) == completed
            assert set(store.load_batch([key, "before"])) == ({key, "before"} if completed else {"before"})

    assert fail_each(operation, lambda: next(serial), verify, step=9) > 1


# On a remote


def test_only_what_is_needed_is_fetched(project, at, tmp_path):
    with RemoteStore(project) as store:
        first, second = (store.store(RANDOM + n) for n in (0, 500))
    at(tmp_path).git("clone", "-q", tmp_path / "hub.git", tmp_path / "other")
    other = at(tmp_path / "other")
    with RemoteStore(other.path) as store:
        assert store.list_weights() == sorted([first, second])
        assert not (other.common_dir() / "coral").exists()
        assert np.array_equal(store.load(first).data, RANDOM)
        with other.store() as packs:
            assert packs.find_missing([bytes.fromhex(WeightTensor(RANDOM + 500).compute_hash())])
    assert LocalStore(other.path).list_weights() == []


def test_what_others_do_is_seen(project, at, tmp_path):
    at(tmp_path).git("clone", "-q", tmp_path / "hub.git", tmp_path / "other")
    with RemoteStore(project) as mine, RemoteStore(tmp_path / "other") as theirs:
        mine.store(RANDOM, "best")
        assert np.array_equal(theirs.load("best").data, RANDOM)
        theirs.store(RANDOM + 1, "best")
        assert np.array_equal(mine.load("best").data, RANDOM + 1)
        assert theirs.delete("best")
        assert mine.list_weights() == []
        assert at(tmp_path / "hub.git").git("for-each-ref", "refs/coral/weights") == ""
        mine.store(RANDOM, "new")
        assert theirs.exists("new")


def test_a_remote_that_lost_its_objects_and_one_that_is_gone(project, at, tmp_path):
    with RemoteStore(project) as store:
        store.store(RANDOM, "best")
    at(tmp_path).git("clone", "-q", tmp_path / "hub.git", tmp_path / "other")
    hub = at(tmp_path / "hub.git")
    for ref in hub.git("for-each-ref", "--format=%(refname)", "refs/coral/store").splitlines():
        hub.git("update-ref", "-d", ref)
    with RemoteStore(tmp_path / "other") as store:
        assert store.exists("best")
        with pytest.raises(ObjectMissingError, match="the tensor 'best' cannot be had"):
            store.load("best")
        store.store(RANDOM + 1, "other")  # what others have lost is no obstacle
        assert store.list_weights() == ["best", "other"]
    with pytest.raises(UsageError, match="no remote 'elsewhere'"):
        RemoteStore(project, "elsewhere")
    (tmp_path / "hub.git").rename(tmp_path / "moved")
    with pytest.raises(CoralError):
        RemoteStore(project).list_weights()
    (tmp_path / "moved").rename(tmp_path / "hub.git")
