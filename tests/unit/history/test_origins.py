"""Which commit made each tensor what it is."""

from __future__ import annotations

import numpy as np
import pytest

from coral_git.history.changes import ManifestReader
from coral_git.history.origins import find_origins

FILE = "m.safetensors"


@pytest.fixture
def origins(history):
    """Gives ``{name: (commit, path, name there, whether there was an old one)}`` of a revision."""

    def find(revision="HEAD", path=FILE, names=None):
        oid = history.git("rev-parse", revision)
        blob = history.git("rev-parse", f"{oid}:{path}")
        manifest = ManifestReader(history.workspace).read(blob)
        tensors = [one for one in manifest.tensors if names is None or one.name in names]
        found = find_origins(history.workspace, oid, path.encode(), tensors)
        assert [one.tensor for one in found] == tensors
        return {
            one.tensor.name: (one.commit, one.path.decode(), one.name, one.old is not None) for one in found
        }

    return find


def test_a_line_of_commits(history, tensors, origins):
    first = history.commit("first", {FILE: tensors(a=1, b=1, c=1)})
    second = history.commit("second", {FILE: tensors(a=1, b=2, c=1)})
    history.commit("else", {"other.txt": b"x"})
    third = history.commit("third", {FILE: tensors(a=1, b=2, c=3, d=3)})
    history.commit("else", {"other.txt": b"y"})
    expected = {
        "a": (first, FILE, "a", False),
        "b": (second, FILE, "b", True),
        "c": (third, FILE, "c", True),
        "d": (third, FILE, "d", False),
    }
    assert origins() == expected
    assert origins(names="bd") == {name: expected[name] for name in "bd"}
    assert origins("HEAD~2") == {**{name: expected[name] for name in "ab"}, "c": (first, FILE, "c", False)}


def test_what_came_back_is_of_who_brought_it_back(history, tensors, origins):
    history.commit("first", {FILE: tensors(a=1, b=1)})
    history.commit("second", {FILE: tensors(a=2, b=1)})
    back = history.commit("back", {FILE: tensors(a=1, b=1)})
    assert origins()["a"] == (back, FILE, "a", True)
    history.commit("gone", {FILE: None})
    again = history.commit("again", {FILE: tensors(a=1, b=1)})
    assert {commit for commit, *_ in origins().values()} == {again}


def test_a_merge_of_other_tensors(history, tensors, origins):
    base = history.commit("base", {FILE: tensors(a=1, b=1, c=1, d=1)})
    side = history.commit("side", {FILE: tensors(a=1, b=2, c=1, d=2)}, [base], "side")
    main = history.commit("main", {FILE: tensors(a=1, b=1, c=3, d=3)})
    merge = history.commit("merge", {FILE: tensors(a=1, b=2, c=3, d=4)}, [main, side])
    expected = {
        "a": (base, FILE, "a", False),
        "b": (side, FILE, "b", True),
        "c": (main, FILE, "c", True),
        "d": (merge, FILE, "d", True),
    }
    assert origins() == expected
    history.commit("else", {"x": b"x"}, [main, side, base])
    history.git("update-ref", "refs/heads/main", merge)
    other = history.commit("other", {FILE: tensors(a=1, b=1, c=5, d=1)}, [base], "other")
    history.commit("octopus", {FILE: tensors(a=1, b=2, c=5, d=4)}, [merge, main, other])
    assert origins() == {**expected, "c": (other, FILE, "c", True)}


def test_a_merge_that_took_one_side_whole(history, tensors, origins):
    base = history.commit("base", {FILE: tensors(a=1)})
    side = history.commit("side", {FILE: tensors(a=2)}, [base], "side")
    main = history.commit("main", {"x": b"x"})
    history.commit("merge", {FILE: tensors(a=2)}, [main, side])
    assert origins() == {"a": (side, FILE, "a", True)}
    main = history.commit("mine", {FILE: tensors(a=3)})
    side = history.commit("theirs", {FILE: tensors(a=4)}, [side], "side")
    history.commit("ours", {FILE: tensors(a=3)}, [main, side])
    assert origins() == {"a": (main, FILE, "a", True)}


def test_a_file_that_was_renamed(history, tensors, origins):
    first = history.commit("first", {"old.safetensors": tensors(a=1, b=1, c=1, d=1)})
    history.commit("else", {"x": b"x"})
    history.commit("moved", {"old.safetensors": None, "sub/line\nfeed.bin": tensors(a=1, b=1, c=1, d=1)})
    history.commit("else", {"x": b"y"})
    second = history.commit("second", {"sub/line\nfeed.bin": tensors(a=1, b=2, c=1, d=1)})
    moved = history.commit(
        "moved and changed", {"sub/line\nfeed.bin": None, FILE: tensors(a=1, b=2, c=3, d=1)}
    )
    history.commit("else", {"x": b"z"})
    assert origins() == {
        "a": (first, "old.safetensors", "a", False),
        "b": (second, "sub/line\nfeed.bin", "b", True),
        "c": (moved, FILE, "c", True),
        "d": (first, "old.safetensors", "d", False),
    }


def test_a_tensor_that_was_renamed(history, tensors, origins):
    values = tensors(a=1, b=2, c=3)
    first = history.commit("first", {FILE: values})
    history.commit("renamed", {FILE: {"x": values["a"], "b": values["b"], "c": values["c"]}})
    assert origins()["x"] == (first, FILE, "a", False)
    third = history.commit("again", {FILE: {"y": values["a"], "x": values["b"], "c": values["c"]}})
    assert origins() == {
        "y": (third, FILE, "y", False),
        "x": (third, FILE, "x", True),
        "c": (first, FILE, "c", False),
    }


def test_values_that_another_tensor_has_too_are_no_rename(history, origins):
    zero, one, two = (np.full(4, value, np.float32) for value in (0, 1, 2))
    first = history.commit("first", {FILE: {"a.bias": zero, "b.bias": one}})
    second = history.commit("second", {FILE: {"a.bias": zero, "b.bias": zero, "c.bias": zero}})
    assert origins() == {
        "a.bias": (first, FILE, "a.bias", False),
        "b.bias": (second, FILE, "b.bias", True),
        "c.bias": (second, FILE, "c.bias", False),
    }
    third = history.commit(
        "third", {FILE: {"a.bias": two, "b.bias": zero, "c.bias": zero, "empty": zero[:0]}}
    )
    found = origins()
    assert (found["a.bias"][0], found["b.bias"][0], found["empty"][0]) == (third, second, third)


def test_what_has_the_same_bytes_and_another_shape_is_new(history, origins):
    values = np.arange(6, dtype=np.float32)
    history.commit("first", {FILE: {"a": values.reshape(2, 3)}})
    second = history.commit("second", {FILE: {"a": values.reshape(3, 2)}})
    assert origins() == {"a": (second, FILE, "a", True)}


def test_a_file_that_was_no_weights_before(history, tensors, origins):
    history.commit("text", {FILE: b"no manifest"})
    second = history.commit("weights", {FILE: tensors(a=1)})
    assert origins() == {"a": (second, FILE, "a", False)}


def test_odd_paths_and_long_ids(make_history, tensors):
    history = make_history("sha256")
    first = history.commit("first", {b"caf\xe9/*[a].bin": tensors(a=1), b"caf\xe9/xa.bin": tensors(a=5)})
    second = history.commit("second", {b"caf\xe9/*[a].bin": tensors(a=1, b=2)})
    third = history.commit("third", {b"caf\xe9/xa.bin": tensors(a=6)})
    manifest = ManifestReader(history.workspace).read(history.git("rev-parse", b"HEAD:caf\xe9/*[a].bin"))
    found = find_origins(history.workspace, third, b"caf\xe9/*[a].bin", manifest.tensors)
    assert [(one.tensor.name, one.commit, one.parent) for one in found] == [
        ("a", first, ""),
        ("b", second, first),
    ]
