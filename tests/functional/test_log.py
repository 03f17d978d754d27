"""``git coral log``, ``show`` and ``blame``: what became of weights, commit by commit."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from .conftest import Shelf, safetensors_bytes

ODD = "x\n\x1b[31m"
SHOWN = r"x\x0a\x1b[31m"


def build(repo):
    """Two branches, a merge, a rename, a text; metrics in commits, a tag, a note."""
    random = np.random.default_rng(0)
    first = {name: random.standard_normal((16, 16), np.float32) for name in ("a", "b", ODD)}
    side = {**first, ODD: first[ODD] + np.float32(1)}
    merged = {**side, "a": first["a"] * 2}
    versions = {
        "first": first,
        "second": {**first, "a": merged["a"]},
        "side": side,
        "merged": merged,
        "last": {**merged, "b": first["b"] * 3},
    }
    shelf = Shelf(repo, {name: safetensors_bytes(version) for name, version in versions.items()})
    old, new = "m.safetensors", "sub/n.safetensors"
    base = shelf.commit("first\n\nCoral-Metric: accuracy=0.5\nCoral-Metric: loss=2\n", {old: "first"})
    shelf.commit("second\n\nCoral-Metric: accuracy=0.9\n", {old: "second"})
    text = shelf.commit("text\x1b[31m", {"sub/text.txt": b"text"})
    said = "side\n\nCoral-Metric: loss=1\nCoral-Tag: best\n"
    branch = shelf.commit(said, {old: "side"}, [base], "side")
    shelf.commit("merge", {old: "merged"}, [text, branch])
    moved = shelf.commit("moved", {old: None, new: "merged"})
    shelf.commit("last", {new: "last"})
    repo.git("tag", "-a", "v1", "-m", "v1\n\nCoral-Metric: bleu=30", moved)
    repo.git("notes", "--ref=refs/notes/coral", "add", "-m", "Coral-Metric: accuracy=0.95", moved)
    repo.git("reset", "-q", "--hard")


@pytest.fixture(scope="module")
def past(make_shared):
    return make_shared(build)


@pytest.fixture
def log(ask, past):
    """Gives the subjects of ``git coral log --json ...``."""

    def subjects(*args, path=past.path):
        return [one["subject"] for one in json.loads(ask(path, "log", "--json", *args)[0])]

    return subjects


TOUCHING = ["last", "moved", "merge", "side", "second", "first"]


def test_commits_that_touched_weights(past, ask):
    out, _ = ask(past.path, "log", "--oneline")
    lines = out.splitlines()
    ids = past.git("log", "--format=%H").split()
    assert [line[:10] for line in lines] == [
        one[:10] for one in ids if one != past.git("rev-parse", ":/^text")
    ]
    assert "\x1b" not in out
    assert re.fullmatch(r"\w{10} \(HEAD -> main\) last \[1 tensor, \+.* stored\]", lines[0])
    assert re.fullmatch(r"\w{10} \(tag: v1\) moved \[.*\] bleu=30 accuracy=0\.95", lines[1])
    assert lines[3].endswith(" loss=1 #best")
    whole, _ = ask(past.path, "log", "-n", "1")
    assert "    sub/n.safetensors: 3 tensors (1 changed, 2 same), " in whole
    assert ask(past.path, "log", "--oneline", "-n", "1", "HEAD~1", "--metric", "bleu")[0].endswith(
        " bleu=30\n"
    )


def test_choosing_commits(past, log):
    assert log() == TOUCHING
    assert log("side") == ["side", "first"]
    assert log("side..main") == ["last", "moved", "merge", "second"]
    assert log("-n", "2") == TOUCHING[:2]
    assert log("--reverse") == TOUCHING[::-1]
    assert log("--first-parent") == ["last", "moved", "merge", "second", "first"]
    assert log("--author", "nobody") == []
    assert log("--grep", "^s") == ["side", "second"]
    assert log("--since", "2001-01-01", "--until", "2002-01-01") == []
    assert log("--filter", "accuracy >= 0.9") == ["moved", "second"]
    assert log("--filter", "label = best or bleu") == ["moved", "side"]
    assert log("--sort-by", "loss", "-n", "3") == ["side", "first", "last"]
    assert log("--sort-by", "min:accuracy")[:3] == ["first", "second", "moved"]
    assert log("--", "m.safetensors") == past.git("log", "--format=%s", "--", "m.safetensors").splitlines()
    assert log("sub/n.safetensors") == ["last", "moved"]
    assert log("--follow", "sub/n.safetensors")[:2] == ["last", "moved"]
    assert set(log("--follow", "sub/n.safetensors")) >= {"second", "first"}
    assert log("n.safetensors", path=past.path / "sub") == ["last", "moved"]
    assert log("--", ":/m.safetensors", path=past.path / "sub")[0] == "moved"


def test_every_branch_but_no_refs_of_our_own(past, log, ask):
    tree = past.git("rev-parse", "HEAD^{tree}")
    for ref in ("refs/coral/runs/x", "refs/stash"):
        past.git("update-ref", ref, past.git("commit-tree", tree, "-m", ref))
    assert log("--all") == TOUCHING
    assert log("--all", "^main") == []
    past.git("update-ref", "-d", "refs/stash")
    past.git("update-ref", "-d", "refs/coral/runs/x")


def drawing(text):
    """What is drawn beside the ids of commits."""
    return [re.sub(r"[0-9a-f]{10,}.*", "", line).rstrip() for line in text.splitlines()]


@pytest.mark.parametrize(
    "args", [(), ("--all",), ("side",), ("-n", "3"), ("--", "m.safetensors"), ("--first-parent",)]
)
def test_the_graph_is_the_one_of_git(past, ask, args):
    found, _ = ask(past.path, "log", "--graph", "--oneline", *args)
    expected = past.git("log", "--graph", "--format=%H", "--topo-order", "--exclude=refs/notes/*", *args)
    assert drawing(found) == drawing(expected)
    ids = re.findall(r"[0-9a-f]{40}", expected)
    assert re.findall(r"[* |\\/]* ([0-9a-f]{10}) ", found) == [one[:10] for one in ids]


def test_the_graph_with_more_lines(past, ask):
    found, _ = ask(past.path, "log", "--graph")
    stars = [line for line in found.splitlines() if "* commit " in line]
    git = past.git("log", "--graph", "--topo-order").splitlines()
    assert [line[:49] for line in stars] == [line[:49] for line in git if "* commit " in line]
    assert r"text\x1b[31m" in found
    assert "|/" in found
    assert "    sub/n.safetensors: 3 tensors (1 changed, 2 same), " in found
    followed, _ = ask(past.path, "log", "--graph", "--oneline", "--follow", "sub/n.safetensors")
    assert {"last", "moved", "first"} <= {word for line in followed.splitlines() for word in line.split()}


def test_json_has_what_is_needed(past, ask):
    (one,) = json.loads(ask(past.path, "log", "--json", "-n", "1", "HEAD~1")[0])
    assert one["commit"] == past.git("rev-parse", "HEAD~1")
    assert one["metrics"] == {"bleu": 30, "accuracy": 0.95}
    assert (one["parents"], one["author"]) == ([past.git("rev-parse", "HEAD~2")], "T")
    assert one["refs"] == ["tag: v1"]
    assert [file["path"] for file in one["files"]] == ["m.safetensors", "sub/n.safetensors"]
    new = one["files"][1]
    assert (new["new"], new["tensors"], new["format"]) == (3, 3, "safetensors/1")
    assert new["sha256"] == past.manifest("HEAD~1:sub/n.safetensors").sha256.hex()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("log", "nowhere"), "'nowhere' is neither a revision nor a path"),
        (("log", "nowhere", "--"), "nowhere"),
        (("log", "--follow"), "--follow needs exactly one path"),
        (("log", "--filter", "loss <"), "bad condition 'loss <'"),
        (("log", "--filter", "\x1b"), r"bad condition '\x1b'"),
        (("log", "--sort-by", "a b"), "'a b' is no name of a metric"),
        (("log", "--graph", "--json"), "--graph goes with none of"),
        (("log", "--graph", "nowhere", "--"), "nowhere"),
        (("show", "nowhere", "--"), "nowhere"),
        (("show", "main", "side"), "at most 1 revision, not 2"),
        (("blame", "nowhere", "m.safetensors"), "'nowhere' is no commit"),
        (("blame", "m.safetensors"), "is no file of weights"),
        (("blame", "sub/text.txt"), "is no file of weights"),
        (("blame", "../m.safetensors"), "names no file of this repository"),
        (("branch", "--sort-by", "a b"), "'a b' is no name of a metric"),
    ],
)
def test_bad_input(past, ask, args, message):
    out, err = ask(past.path, *args, code=2)
    assert out == ""
    first, *others = err.splitlines()
    assert first.startswith("error: ")
    assert message in first
    assert "Traceback" not in err
    assert all(line.startswith(("hint: ", " ")) or line.isprintable() for line in others)


def test_outside_of_a_repository(tmp_path, ask):
    for name in (("log",), ("show",), ("blame", "x"), ("find",), ("tags",), ("branch",), ("metrics", "show")):
        out, err = ask(tmp_path, *name, code=10)
        assert (out, err.startswith("error: "), "Traceback" in err) == ("", True, False)


def test_no_commit_yet(repo, ask):
    _, err = ask(repo.path, "log", code=2)
    assert err.startswith("error: ")
    assert ask(repo.path, "log", "--all", "--json")[0].strip() == "[]"
    assert ask(repo.path, "branch")[0] == ""


# --- show


def test_one_commit_whole(past, ask):
    out, _ = ask(past.path, "show", "HEAD~2^2")
    assert "Says:   loss=1 #best" in out
    assert SHOWN in out
    assert "\x1b" not in out
    assert "m.safetensors: low-rank update, LoRA-like (rank ≤ 1)" in out
    found = json.loads(ask(past.path, "show", "side", "--json")[0])
    assert [one["name"] for one in found["diff"][0]["tensors"]] == [ODD]
    assert found["diff"][0]["tensors"][0]["max_delta"] == pytest.approx(1, rel=1e-5)
    assert found["subject"] == "side"
    assert "m.safetensors" not in ask(past.path, "show", "side", "--", "sub")[0]
    root, _ = ask(past.path, "show", "--stat", ":/^first", "--")
    assert " m.safetensors | 3 added, 0 same; " in root


def test_a_merge_is_compared_with_its_first_parent(past, ask):
    found = json.loads(ask(past.path, "show", "HEAD~2", "--json")[0])
    assert len(found["parents"]) == 2
    assert [one["name"] for one in found["diff"][0]["tensors"]] == [ODD]


# --- blame


def test_who_changed_which_tensor(past, ask):
    found = {
        one["tensor"]: one for one in json.loads(ask(past.path, "blame", "--json", "sub/n.safetensors")[0])
    }
    assert {name: one["subject"] for name, one in found.items()} == {"a": "second", "b": "last", ODD: "side"}
    assert {name: one["is_new"] for name, one in found.items()} == dict.fromkeys(found, False)
    assert found["a"]["relative"] == pytest.approx(1)
    assert found["b"]["relative"] == pytest.approx(2)
    assert (found["a"]["path"], found["b"]["path"]) == ("m.safetensors", "sub/n.safetensors")
    out, _ = ask(past.path / "sub", "blame", "n.safetensors")
    assert [line.split()[-1] for line in out.splitlines()] == [one.replace(ODD, SHOWN) for one in found]
    (line,) = ask(past.path, "blame", "--fast", "--tensor", "a*", "HEAD~1", "sub/n.safetensors")[
        0
    ].splitlines()
    assert line.split()[0] == past.git("rev-parse", ":/^second")[:10]
    assert line.split()[-2:] == ["-", "a"]
    first = json.loads(ask(past.path, "blame", "--json", "side", "m.safetensors")[0])
    assert [one["is_new"] for one in first] == [True, True, False]


def test_blame_has_no_nan_in_json(repo, safetensors, ask, assert_healthy):
    old = np.array([1e300, 1.0])
    repo.commit("one", m__safetensors=safetensors({"a": old, "b": old}))
    repo.commit("two", m__safetensors=safetensors({"a": -old, "b": np.array([np.nan, np.inf])}))
    repo.commit("text", other__txt=b"x")
    for command in (("blame", "m.safetensors"), ("show", "HEAD~1"), ("diff", "HEAD~2", "HEAD")):
        out, _ = ask(repo.path, *command, "--json")
        assert json.loads(out, parse_constant=pytest.fail)
    assert_healthy(repo)


# --- other kinds of repositories


def test_a_bare_repository_and_a_linked_work_tree(past, ask, at, tmp_path):
    common = past.common_dir()
    past.git("worktree", "add", "-q", "--detach", tmp_path / "linked", "HEAD")
    for command in (
        ("log", "--json", "side"),
        ("log", "--graph", "side"),
        ("show", "side"),
        ("find", "side"),
    ):
        expected = ask(past.path, *command)
        assert ask(common, *command) == expected
        assert ask(tmp_path / "linked" / "sub", *command) == expected
    for place, path in ((common, "sub/n.safetensors"), (tmp_path / "linked" / "sub", "n.safetensors")):
        assert ask(place, "blame", "HEAD", path) == ask(past.path, "blame", "sub/n.safetensors")
    past.git("worktree", "remove", "--force", tmp_path / "linked")


def test_long_ids(make_shared, ask):
    past = make_shared(build, "sha256")
    found = json.loads(ask(past.path, "log", "--json")[0])
    assert [one["subject"] for one in found] == TOUCHING
    assert all(len(one["commit"]) == 64 for one in found)
    blamed = json.loads(ask(past.path, "blame", "--json", "sub/n.safetensors")[0])
    assert [one["subject"] for one in blamed] == ["second", "last", "side"]
    out, _ = ask(past.path, "show", "side")
    assert "1 changed, 2 same; " in out
    graph, _ = ask(past.path, "log", "--graph", "--oneline")
    assert drawing(graph) == drawing(past.git("log", "--graph", "--format=%H", "--topo-order"))


def test_the_installed_command(past, at):
    assert past.coral("log", "--oneline", "-n", "2").count("\n") == 1
    assert past.coral("blame", "sub/n.safetensors").count("\n") == 2
    done = past.run("coral", "log", "nowhere", code=2)
    assert done.stderr.startswith(b"error: 'nowhere'")
    assert b"hint: " in done.stderr
