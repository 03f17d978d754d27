"""Finding commits by what they brought in, and choosing among them."""

from __future__ import annotations

import numpy as np
import pytest

from coral_git.history.changes import weight_commits
from coral_git.history.commits import walk
from coral_git.history.expression import parse_condition
from coral_git.history.goals import Goal
from coral_git.history.search import Query, refs_with, search
from coral_git.history.selection import ALL_BRANCHES, select

FILE = "m.safetensors"


@pytest.fixture(scope="module")
def past(make_history, tensors):
    """A history that the tests of this module only read, and the ids of its commits by name."""
    history = make_history()
    files = {"a.bin": tensors(**{"enc.w": 1, "enc.b": 2}), "b.bin": tensors(x=1)}
    oids = {"first": history.commit("first", files)}
    wide = {**tensors(**{"enc.w": 3, "enc.b": 2}), "head": np.zeros((4, 2, 1), np.float32)}
    oids["wide"] = history.commit("wide\n\nCoral-Metric: loss=2\nCoral-Tag: x\n", {"a.bin": wide})
    oids["text"] = history.commit("text\n\nCoral-Metric: loss=1\n", {"text": b"x"})
    oids["back"] = history.commit("back\n\nCoral-Metric: loss=3\n", {"a.bin": files["a.bin"]})
    oids["side"] = history.commit(
        "side\n\nCoral-Metric: loss=nan\n", {"a.bin": None, "s": b"text"}, [oids["back"]], "side"
    )
    scalar = {"t": np.array(3, np.float32), "": np.zeros(0, np.float32)}
    oids["scalar"] = history.commit("scalar", {"s": scalar, "b.bin": None}, branch="side")
    history.git("tag", "v1", oids["wide"])
    for name in ("store/x", "runs/y"):
        history.git("update-ref", f"refs/coral/{name}", history.git("commit-tree", "HEAD^{tree}", "-m", name))
    return history, oids


@pytest.fixture
def find(past):
    """Gives ``{subject: {path: tensors}}`` of the hits of a query."""
    history, _ = past

    def run(**query):
        hits = list(search(commits(history), Query(**query)))
        assert all([file.touched.path for file in hit.files] == list(hit.tensors) for hit in hits)
        return {hit.found.commit.subject: hit.tensors for hit in hits}

    return run


def commits(history, *arguments):
    return weight_commits(history.workspace, walk(history.runner, arguments or ALL_BRANCHES))


def test_every_branch_without_our_own_refs(past, find):
    assert set(find()) == set(past[1])


def test_names(find):
    both = ("enc.b", "enc.w")
    assert find(names=("enc.*",)) == {"first": {b"a.bin": both[::-1]}, "side": {}} or find(
        names=("enc.*",)
    ) == {"first": {b"a.bin": both[::-1]}}
    assert find(names=("HEAD", "head")) == {"wide": {b"a.bin": ("head",)}}
    assert find(names=("",)) == {"scalar": {b"s": ("",)}}
    assert find(names=("none",)) == {}


def test_shapes_and_dtypes(find):
    assert find(shape=(4, 2, 1)) == {"wide": {b"a.bin": ("head",)}}
    assert find(shape=()) == {"scalar": {b"s": ("t",)}}
    assert find(shape=(0,), dtype="f32") == {"scalar": {b"s": ("",)}}
    assert find(dtype="BF16") == {}
    assert find(names=("enc.*",), shape=(4, 2, 1)) == {}
    assert find(shape=(2, 3)) == {"first": {b"a.bin": ("enc.w", "enc.b"), b"b.bin": ("x",)}}


def test_objects_and_files_that_came_back_are_found_twice(past, find):
    history, oids = past
    first, wide, *_ = list(commits(history, "--reverse", oids["back"]))
    new = first.changes[0].new
    object_id = new.tensors[0].objects[0].hex()
    assert find(object_id=object_id) == {
        "first": {b"a.bin": ("enc.w",), b"b.bin": ("x",)},
        "back": {b"a.bin": ("enc.w",)},
    }
    assert find(object_id=object_id[:8], names=("x",)) == {"first": {b"b.bin": ("x",)}}
    assert find(sha256=new.sha256.hex()) == {"first": {b"a.bin": ()}, "back": {b"a.bin": ()}}
    assert find(sha256=wide.changes[0].new.sha256.hex()[:10]) == {"wide": {b"a.bin": ()}}
    assert find(sha256=new.sha256.hex(), names=("x",)) == {}


def test_refs_that_contain_a_commit(past):
    history, oids = past
    assert refs_with(history.runner, oids["first"]) == ["main", "side", "v1"]
    assert refs_with(history.runner, oids["back"]) == ["main", "side"]
    assert refs_with(history.runner, oids["side"]) == ["side"]
    history.git("update-ref", "refs/heads/a\u2028b", oids["side"])
    assert refs_with(history.runner, oids["side"]) == ["a\u2028b", "side"]
    history.git("update-ref", "-d", "refs/heads/a\u2028b")


def test_selecting(past):
    history, _ = past

    def subjects(*arguments):
        return [one.commit.subject for one in select(commits(history), *arguments)]

    order = ["scalar", "side", "back", "text", "wide", "first"]
    assert subjects() == order
    assert subjects(None, None, 2) == order[:2]
    assert subjects(parse_condition("loss >= 2")) == ["back", "wide"]
    assert subjects(None, Goal.parse("loss")) == ["text", "wide", "back", "scalar", "side", "first"]
    assert subjects(None, Goal.parse("max:loss"), 1) == ["back"]
    assert subjects(parse_condition("label = x or loss = 1"), Goal.parse("max:loss")) == ["wide", "text"]


def test_nothing_waits_for_the_last_commit(past):
    history, _ = past
    waiting = commits(history)
    assert [one.commit.subject for one in select(waiting, None, None, 1)] == ["scalar"]
    assert len(list(waiting)) == 5


def test_what_a_commit_did_to_each_file(past):
    history, _ = past
    told = {
        one.commit.subject: {
            change.touched.path: change.change and tuple(change.change) for change in one.changes
        }
        for one in commits(history)
    }
    assert told == {
        "first": {b"a.bin": (2, 0, 0, 0), b"b.bin": (1, 0, 0, 0)},
        "wide": {b"a.bin": (1, 1, 1, 0)},
        "text": {},
        "back": {b"a.bin": (0, 1, 1, 1)},
        "side": {b"a.bin": (0, 0, 0, 2)},
        "scalar": {b"s": (2, 0, 0, 0), b"b.bin": (0, 0, 0, 1)},
    }
    sizes = {one.commit.subject: one.stored_bytes for one in commits(history)}
    assert sizes["text"] == sizes["side"] == 0
    assert all(sizes[name] > 0 for name in ("first", "wide", "scalar"))
