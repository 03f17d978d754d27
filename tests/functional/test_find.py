"""Commands that find versions (find, verify, ls-tree, cat, branch, tags), and those that name them."""

from __future__ import annotations

import io
import json
import re

import numpy as np
import pytest

from .conftest import Shelf, safetensors_bytes

ODD = "x\n\x1b[31m"
SHOWN = r"x\x0a\x1b[31m"
FILE = "sub/m.safetensors"
RANDOM = np.random.default_rng(0)
FIRST = {name: RANDOM.standard_normal((6, 4)).astype(np.float32) for name in ("a", "b", ODD)}
SECOND = {
    **FIRST,
    "a": FIRST["a"] * 2,
    "ids": np.array([2**53 + 1, -(2**62) - 1, 0]),
    "half": np.ones((2, 3), np.float16),
}
VERSIONS = {name: safetensors_bytes(tensors) for name, tensors in (("first", FIRST), ("second", SECOND))}


def build(repo):
    """Two commits on main, one on a side branch; metrics, labels, tags; a file without format."""
    shelf = Shelf(repo, VERSIONS | {"side": safetensors_bytes({"t": FIRST["a"]}), "chunks": b"no format"})
    said = "first\n\nCoral-Metric: accuracy=0.5\nCoral-Metric: loss=2\nCoral-Tag: base\n"
    base = shelf.commit(said, {FILE: "first", "text.txt": b"x"})
    side = shelf.commit(
        "side\x1b\n\nCoral-Metric: loss=nan\n", {"t.bin": "side", "c.bin": "chunks"}, [base], "side"
    )
    shelf.commit("second\n\nCoral-Metric: accuracy=0.9\nCoral-Tag: best one\n", {FILE: "second"})
    repo.git("tag", "-a", "v2", "-m", "good\x1b\n\nCoral-Metric: bleu=30", "main")
    repo.git("tag", "v10", side)
    repo.git("reset", "-q", "--hard")


@pytest.fixture(scope="module")
def past(make_shared):
    return make_shared(build)


@pytest.fixture
def find(ask, past):
    """Gives ``{subject: {path: tensors}}``."""

    def hits(*args, code=0):
        found = json.loads(ask(past.path, "find", "--json", *args, code=code)[0])
        return {one["subject"]: one["matches"] for one in found}

    return hits


def test_find(past, find, ask):
    every = ["second", "side\x1b", "first"]
    assert list(find()) == every
    assert list(find("--metric", "accuracy > 0.4")) == ["second", "first"]
    assert list(find("--filter", "accuracy > 0.4", "--label", "best one")) == ["second"]
    assert list(find("--tag", "v2")) == ["second"]
    assert list(find("--tag", "base")) == ["first"]
    assert list(find("--sort-by", "loss", "-n", "1")) == ["first"]
    assert list(find("side")) == every[1:]
    assert list(find("--", "t.bin")) == every[1:2]
    assert find("--tensor", "x*") == {"first": {FILE: [ODD]}}
    assert find("--tensor", "i*", "--dtype", "i64") == {"second": {FILE: ["ids"]}}
    assert find("--shape", "2x3") == {"second": {FILE: ["half"]}}
    assert find("--shape", "[6, 4]", "--tensor", "t") == {"side\x1b": {"t.bin": ["t"]}}
    (object_id,) = past.manifest(f"main~1:{FILE}").tensors[0].objects
    assert find("--object", object_id.hex()[:8]) == {"side\x1b": {"t.bin": ["t"]}, "first": {FILE: ["a"]}}
    digest = past.manifest(f"main:{FILE}").sha256.hex()
    assert find("--sha256", f"sha256:{digest}") == {"second": {FILE: []}}
    assert find("--tensor", "nothing", code=1) == {}
    out, _ = ask(past.path, "find", "--tensor", "*")
    assert f"    {FILE}: a, b, {SHOWN}" in out.splitlines()
    assert r" side\x1b [" in out
    assert out.replace("\n", "").isprintable()


def test_verify(past, ask, tmp_path):
    (tmp_path / "deployed").write_bytes(VERSIONS["first"])
    near = safetensors_bytes({**SECOND, "b": FIRST["b"] * 5})
    (tmp_path / "near\x1b").write_bytes(near)
    (tmp_path / "else").write_bytes(b"else")
    out, _ = ask(past.path, "verify", str(tmp_path / "deployed"))
    first = past.git("rev-parse", "main~1")
    assert f"  is {FILE} of {first[:10]} first [" in out
    assert "    in main, side, v10, v2" in out
    out, _ = ask(past.path / "sub", "verify", str(tmp_path / "near\x1b"), "m.safetensors", code=1)
    assert r"near\x1b: sha256 " in out
    assert f"  nearest, 4 of 5 pieces the same: {FILE} of {past.git('rev-parse', 'main')[:10]} " in out
    assert out.replace("\n", "").isprintable()
    found = json.loads(
        ask(past.common_dir(), "verify", "--json", *map(str, tmp_path.glob("[de]*")), code=1)[0]
    )
    by_name = {one["file"].rpartition("/")[2]: one for one in found}
    assert [one["commit"] for one in by_name["deployed"]["matches"]] == [first]
    assert (by_name["else"]["matches"], by_name["else"]["nearest"], by_name["else"]["size"]) == ([], None, 4)


def test_ls_tree(past, ask):
    out, _ = ask(past.path, "ls-tree", "main", "-t")
    lines = out.splitlines()
    assert re.fullmatch(rf"\w{{10}} +\d.* 5 tensors {FILE}", lines[0])
    assert [line.split()[-1] for line in lines[1:]] == ["a", "b", SHOWN, "ids", "half"]
    assert lines[-1].split()[:2] == ["F16", "[2,3]"]
    assert ask(past.path / "sub", "ls-tree", "main")[0].splitlines() == lines[:1]
    assert ask(past.common_dir(), "ls-tree", "main", "-t")[0] == out
    assert ask(past.path, "ls-tree", "side", "t.bin", "--name-only")[0] == "t.bin\n"
    assert ask(past.path, "ls-tree", "main", "--name-only", "--tensor", "[ab]")[0] == "a\nb\n"
    found = {one["path"]: one for one in json.loads(ask(past.path, "ls-tree", "--json", "-t", "side")[0])}
    assert list(found) == ["c.bin", FILE, "t.bin"]
    assert (found["c.bin"]["tensor_count"], found["c.bin"]["tensors"]) == (None, [])
    assert [one["name"] for one in found[FILE]["tensors"]] == ["a", "b", ODD]
    assert found[FILE]["blob"] == past.git("rev-parse", f"side:{FILE}")


def test_cat(past, ask, tmp_path, monkeypatch):
    def text(tensor, spec=f"main:{FILE}", path=past.path):
        return ask(path, "cat", spec, "--tensor", tensor, "--format", "text")[0].split()

    assert past.run("coral", "cat", f"main~1:{FILE}").stdout == VERSIONS["first"]
    data = past.run("coral", "cat", "main:./m.safetensors", "--tensor", "a", cwd=past.path / "sub").stdout
    assert np.array_equal(np.load(io.BytesIO(data)), SECOND["a"])
    assert np.array_equal(np.array(text("a"), np.float32).reshape(6, 4), SECOND["a"])
    assert text("half") == ["1.0"] * 6
    assert text("ids") == [str(one) for one in SECOND["ids"]]
    assert text(SHOWN) == text(ODD) == text(ODD, f":{FILE}") == text(ODD, f"main:{FILE}", past.common_dir())
    ask(past.path, "cat", f"main:{FILE}", "--tensor", "ids", "-o", str(tmp_path / "ids.raw"))
    assert (tmp_path / "ids.raw").read_bytes() == SECOND["ids"].tobytes()
    ask(past.path, "cat", "side:c.bin", "-o", str(tmp_path / "whole"))
    assert (tmp_path / "whole").read_bytes() == b"no format"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ids.raw", "whole"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("find", "--shape", "a"), "'a' is no shape"),
        (("find", "--object", "xyz"), "'xyz' is no id"),
        (("find", "--sha256", "abc"), "'abc' is no id"),
        (("find", "--metric", "accuracy >"), "bad condition"),
        (("find", "nowhere", "--"), "nowhere"),
        (("find", "--sort-by", "\x1b"), r"'\x1b' is no name of a metric"),
        (("ls-tree", "nowhere"), "'nowhere' is no revision"),
        (("cat", "nowhere:m.bin"), "'nowhere' is no commit"),
        (("cat", "main:text.txt"), "'main:text.txt' is no file of weights"),
        (("cat", "main:../../x"), "names no file of this repository"),
        (("cat", f"main:{FILE}", "--tensor", "hal"), "there is no tensor 'hal'"),
        (("cat", f"main:{FILE}", "--tensor", "\x1b"), r"there is no tensor '\x1b'"),
        (("cat", f"main:{FILE}", "--format", "raw"), "--format is for a tensor"),
        (("branch", "new", "--metric", "a"), "'new' makes this 'git branch'"),
        (("tag", "a b"), "'a b' is no name of a tag"),
        (("tag", "v2"), "tag 'v2' exists already"),
        (("tag", "v3", "nowhere"), "'nowhere' is no commit"),
        (("tag", "v3", "--metric", "a"), "'a' is no metric"),
        (("tag", "v3", "--label", "a\nb"), r"'a\x0ab' is no label"),
        (("tags", "--filter", "("), "bad condition"),
        (("metrics", "add", "accuracy"), "'accuracy' is no commit"),
        (("metrics", "add"), "nothing to say"),
        (("metrics", "add", "main", "a=b"), "'a=b' is no metric"),
        (("metrics", "add", "main", "\udcff=1"), "is no name of a metric"),
        (("metrics", "show", "nowhere"), "nowhere"),
        (("metrics", "diff", "nowhere"), "nowhere"),
        (("metrics", "plot", "nothing"), "no commit has the metric 'nothing'"),
        (("commit", "--metric", "a"), "'a' is no metric"),
        (("commit", "--label", ""), "'' is no label"),
    ],
)
def test_bad_input(past, ask, args, message):
    before = past.git("for-each-ref")
    out, err = ask(past.path, *args, code=2)
    assert out == ""
    assert err.startswith("error: ")
    assert message in err.splitlines()[0]
    assert "Traceback" not in err
    assert err.replace("\n", "").isprintable()
    assert past.git("for-each-ref") == before


def test_branches(past, ask):
    lines = ask(past.path, "branch")[0].splitlines()
    main, side = (past.git("rev-parse", name)[:7] for name in ("main", "side"))
    first = past.git("rev-parse", "main~1")[:7]
    assert lines[0].startswith("* main  ")
    assert f"accuracy=0.9 ({main}), bleu=30 ({main}), loss=2 ({first})" in lines[0]
    assert lines[1].startswith(f"  side  {side}")
    assert lines[1].endswith(r"side\x1b")
    found = json.loads(ask(past.path, "branch", "--json", "--metric", "min:accuracy")[0])
    assert [one["best"]["accuracy"]["value"] for one in found] == [0.5, 0.5]
    order = json.loads(ask(past.path, "branch", "--json", "--sort-by", "min:accuracy")[0])
    assert [(one["name"], one["best"]["accuracy"]["value"]) for one in order] == [
        ("main", 0.5),
        ("side", 0.5),
    ]
    order = json.loads(ask(past.path, "branch", "--json", "--metric", "loss", "--sort-by", "accuracy")[0])
    assert [(one["name"], list(one["best"])) for one in order] == [("main", ["loss"]), ("side", ["loss"])]
    ask(past.path, "branch", "topic", "side")
    assert past.git("rev-parse", "topic") == past.git("rev-parse", "side")
    ask(past.path, "branch", "-D", "topic")
    assert past.git("branch", "--list", "topic") == ""


def test_tags(past, ask):
    lines = ask(past.path, "tags")[0].splitlines()
    assert [line.split()[0] for line in lines] == ["v2", "v10"]
    assert lines[0].endswith(r"bleu=30  good\x1b")
    assert ask(past.path, "tags", "v1*")[0].startswith("v10 ")
    (one,) = json.loads(ask(past.path, "tags", "--json", "--filter", "bleu >= 30")[0])
    assert (one["name"], one["metrics"], one["commit"]) == ("v2", {"bleu": 30}, past.git("rev-parse", "main"))


def test_metrics_of_several_commits(past, ask):
    head, *rows = ask(past.path, "metrics", "show", "main", "main~1")[0].splitlines()
    assert head.split() == ["commit", "accuracy", "bleu", "loss", "subject"]
    assert [row.split()[1:] for row in rows] == [["0.9", "30", "-", "second"], ["0.5", "-", "2", "first"]]
    every = json.loads(ask(past.path, "metrics", "show", "--all", "--sort-by", "loss", "--json")[0])
    assert [one["subject"] for one in every] == ["first", "second", "side\x1b"]
    assert every[-1]["metrics"] == {"loss": "nan"}
    assert json.loads(ask(past.path, "metrics", "diff", "--json")[0])["accuracy"] == {"old": 0.5, "new": 0.9}
    lines = [line.split() for line in ask(past.path, "metrics", "diff")[0].splitlines()]
    assert ["accuracy", "0.5", "0.9", "+0.4", "better"] in lines
    out, _ = ask(past.path, "metrics", "plot", "accuracy", "--width", "20")
    assert out.startswith("accuracy: 0.5 first, 0.9 last, 0.5 least, 0.9 most\n")


# --- saying something


@pytest.mark.parametrize("object_format", ["sha1", "sha256"])
def test_a_version_is_measured(make_repo, ask, tmp_path, object_format, assert_healthy):
    repo = make_repo(object_format=object_format)
    (tmp_path / "eval.json").write_text('{"eval": {"loss": 1.5}, "accuracy": 0.1}')
    repo.write("m.safetensors", VERSIONS["first"])
    repo.git("add", ".")
    words = (
        "-qm",
        "first",
        "--metric",
        "accuracy=0.9",
        "--metrics-file",
        str(tmp_path / "eval.json"),
        "--tag",
        "a, b",
    )
    ask(repo.path, "commit", *words, "--environment")
    trailers = repo.git("log", "-1", "--format=%(trailers)").splitlines()
    assert trailers[:3] == ["Coral-Metric: eval.loss=1.5", "Coral-Metric: accuracy=0.9", "Coral-Tag: a, b"]
    assert any(re.fullmatch(r"Coral-Environment: python=3\..*", line) for line in trailers)
    out, _ = ask(repo.path, "metrics", "add", "accuracy=0.95", "--label", "ü\u2028x")
    assert out.startswith(f"noted for {repo.git('rev-parse', 'HEAD')[:10]}: accuracy=0.95 ")
    assert repo.git("notes", "--ref=coral", "show") == "Coral-Metric: accuracy=0.95\nCoral-Tag: ü\u2028x"
    ask(repo.path, "tag", "v1", "-d", "good", "--metric", "bleu=30", "--label", "release")
    (one,) = json.loads(ask(repo.path, "log", "--json")[0])
    assert one["metrics"] == {"eval.loss": 1.5, "accuracy": 0.95, "bleu": 30}
    assert one["labels"] == ["a, b", "release", "ü\u2028x"]
    assert repo.git("cat-file", "-t", "v1") == "tag"
    repo.write("m.safetensors", VERSIONS["second"])
    out, err = ask(repo.path, "commit", "-am", "second", "--json", "--", code=0)
    assert [file["changed"] for file in json.loads(out)["files"]] == [1]
    assert "second" in err
    ask(repo.path, "commit", "-q", "--amend", "--no-edit", "--metric", "accuracy=0.97")
    assert ask(repo.path, "log", "--oneline", "-n", "1")[0].endswith("accuracy=0.97\n")
    ask(repo.path, "commit", "-qm", "nothing", code=1)
    assert repo.git("rev-list", "--count", "HEAD") == "2"
    assert_healthy(repo)


def test_bytes_that_are_no_text(repo, ask):
    repo.commit("first", a__txt=b"x")
    odd = "a\udcff"
    ask(repo.path, "tag", "v1", "-d", odd, "--label", odd)
    ask(repo.path, "metrics", "add", "--label", odd)
    repo.write("a.txt", b"y")
    ask(repo.path, "commit", "-qam", odd, "--label", odd)
    assert repo.git("log", "-1", "--format=%b").startswith("Coral-Tag: a")
    assert b"Coral-Tag: a\xff\n" in repo.run("cat-file", "tag", "v1").stdout
    for command in (("log",), ("tags",), ("show",), ("metrics", "show", "--all")):
        assert "Traceback" not in ask(repo.path, *command)[1]
