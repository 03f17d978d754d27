"""``git coral diff``: which versions are compared, what is read for it, and what is printed."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest

from coral_git.types import ObjectId

from .conftest import Shelf, safetensors_bytes

ODD = "x\n\x1b[31m|<b>\u202e"
SHOWN = r"x\x0a\x1b[31m|<b>\xe2\x80\xae"
FILE = "sub/m.safetensors"
RANDOM = np.random.default_rng(0)
FIRST = {name: RANDOM.standard_normal((24, 20)).astype(np.float32) for name in ("a", "b", "head.weight", ODD)}
SECOND = {
    **FIRST,
    "a": FIRST["a"] * 2,
    ODD: FIRST[ODD] + 3 * RANDOM.standard_normal((24, 20)).astype(np.float32),
}
THIRD = {**SECOND, "b": FIRST["b"] - 1}
SIDE = {**FIRST, "head.weight": -FIRST["head.weight"]}
VERSIONS = {"first": FIRST, "second": SECOND, "third": THIRD, "side": SIDE}
GROWN = {**FIRST, "head.weight": np.concatenate([FIRST["head.weight"]] * 2)}


def build(repo):
    """Two branches; the index and the work tree have one version more each."""
    shelf = Shelf(repo, {name: safetensors_bytes(tensors) for name, tensors in VERSIONS.items()})
    base = shelf.commit("first", {FILE: "first", "z.dat": b"no weights", "text.txt": b"x"})
    shelf.commit("side", {FILE: "side"}, [base], "side")
    shelf.commit("second", {FILE: "second", "text.txt": b"y"})
    repo.git("reset", "-q", "--hard")
    repo.write(FILE, safetensors_bytes(THIRD))
    repo.git("add", FILE)
    repo.write(FILE, safetensors_bytes(FIRST))
    repo.write("untracked.safetensors", safetensors_bytes(FIRST))


@pytest.fixture(scope="module")
def past(make_shared):
    return make_shared(build)


@pytest.fixture
def changed(ask, past):
    """Gives ``{tensor: ‖Δ‖}`` of the one file that differs; nothing where none does."""

    def norms(*args, path=past.path):
        report = json.loads(ask(path, "diff", "--json", *args)[0])
        assert report["total"]["files"] == len(report["files"]) <= 1
        return {one["name"]: one["delta_norm"] for file in report["files"] for one in file["tensors"]}

    return norms


def expected(old, new):
    """The same with numpy on whole arrays."""
    norms = {name: np.linalg.norm(new[name].astype(float) - old[name].astype(float)) for name in old}
    return {name: pytest.approx(norm, rel=1e-9) for name, norm in norms.items() if norm}


@pytest.mark.parametrize(
    ("args", "old", "new"),
    [
        ((), THIRD, FIRST),
        (("HEAD",), SECOND, FIRST),
        (("--cached",), SECOND, THIRD),
        (("--staged", "HEAD~1"), FIRST, THIRD),
        (("HEAD~1",), FIRST, FIRST),
        (("HEAD~1", "HEAD"), FIRST, SECOND),
        (("HEAD", "HEAD~1"), SECOND, FIRST),
        (("side..main",), SIDE, SECOND),
        (("side...main",), FIRST, SECOND),
        (("main...side",), FIRST, SIDE),
        (("HEAD~1..",), FIRST, SECOND),
        (("HEAD~1", "HEAD", "--", FILE), FIRST, SECOND),
        (("HEAD~1", "HEAD", FILE), FIRST, SECOND),
        (("HEAD~1", "HEAD", "--", "text.txt"), FIRST, FIRST),
        (("HEAD~1", "HEAD", "--", "*.safetensors"), FIRST, SECOND),
    ],
)
def test_sides_are_those_of_git(past, changed, args, old, new):
    assert changed(*args) == expected(old, new)


def test_everywhere_else(past, changed, ask, tmp_path):
    two = ("HEAD~1", "HEAD")
    assert changed(*two, path=past.path / "sub") == expected(FIRST, SECOND)
    assert changed(*two, "m.safetensors", path=past.path / "sub") == expected(FIRST, SECOND)
    assert changed(*two, "--", "text.txt", path=past.path / "sub") == {}
    assert changed(path=past.path / "sub") == expected(THIRD, FIRST)
    assert changed(*two, path=past.common_dir()) == expected(FIRST, SECOND)
    assert ask(past.common_dir(), "diff", code=10)[1].startswith("error: ")
    past.git("worktree", "add", "-q", "--detach", tmp_path / "linked", "side")
    assert changed(path=tmp_path / "linked") == {}
    assert changed("main", path=tmp_path / "linked" / "sub") == expected(SECOND, SIDE)
    past.git("worktree", "remove", "--force", tmp_path / "linked")


def test_settings_of_git_change_nothing(past, changed):
    for name, value in (("diff.relative", "true"), ("diff.renames", "copies"), ("color.ui", "always")):
        past.git("config", name, value)
        assert changed("HEAD~1", "HEAD", path=past.path / "sub") == expected(FIRST, SECOND)
        past.git("config", "--unset", name)


def test_what_is_printed(past, ask):
    out, _ = ask(past.path, "diff", "HEAD~1", "HEAD", "--histogram")
    lines = out.splitlines()
    assert lines[0] == f"{FILE}: partial fine-tune, 2 of 4 tensors"
    assert lines[1].split()[:2] == ["tensor", "what"]
    first = next(line for line in lines if line.split()[0] == "a")
    assert first.split()[1:] == [
        "changed",
        "1",
        f"{np.abs(FIRST['a']).max():.3g}",
        "1.000000",
        "100.0",
        "%",
        "-",
        "-",
    ]
    assert any(line.split()[0] == SHOWN for line in lines)
    assert any("▁" in line or "█" in line for line in lines)
    assert lines[-1].startswith("  2 changed, 2 same; 3.8 KB new, ")
    assert out.replace("\n", "").isprintable()
    assert ask(past.path, "diff", "HEAD~1", "HEAD", "--name-only")[0] == f"{FILE}\n"
    stat = ask(past.path, "diff", "HEAD~1", "HEAD", "--stat")[0].splitlines()
    assert stat[0].startswith(f" {FILE} | 2 changed, 2 same; ")
    assert stat[1].startswith(" 1 file, ")
    markdown = ask(past.path, "diff", "HEAD~1", "HEAD", "--markdown")[0]
    assert "<b>" not in markdown.replace("<details><summary>", "")
    assert "&#124;&#60;b&#62;" in markdown


def test_order_and_choice(past, ask, changed):
    def names(*args):
        report = json.loads(ask(past.path, "diff", "HEAD~1", "HEAD", "--json", *args)[0])
        return [one["name"] for file in report["files"] for one in file["tensors"]]

    assert names() == ["a", ODD]
    assert names("--sort", "change") == [ODD, "a"]
    assert names("--sort", "name") == ["a", ODD]
    assert names("--sort", "cosine") == [ODD, "a"]
    assert names("--tensor", "a*") == ["a"]
    assert names("--tensor", "a", "--tensor", "x*") == ["a", ODD]
    assert names("--tensor", "head*") == []
    assert ask(past.path, "diff", "HEAD~1", "HEAD", "--tensor", "head*")[0] == ""
    assert ask(past.path, "diff", "HEAD~1", "HEAD", "--tensor", "head*", "--exit-code")[0] == ""
    ask(past.path, "diff", "HEAD~1", "HEAD", "--exit-code", code=1)
    ask(past.path, "diff", "HEAD", "HEAD", "--exit-code")


def test_a_page(past, ask, tmp_path):
    path = tmp_path / "page.html"
    out, _ = ask(past.path, "diff", "HEAD~1", "HEAD", "--html", str(path))
    assert out.startswith(f"wrote {path} (1 file, ")
    text = path.read_text()
    assert "<b>" not in text.partition('type="application/json"')[2].partition("</script>")[0]


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (("nowhere",), 2, "'nowhere' is neither a revision nor a path"),
        (("nowhere", "--"), 2, "'nowhere' is no commit"),
        (("a", "b", "c", "--"), 2, "at most 2 revisions, not 3"),
        (("--cached", "HEAD~1..HEAD"), 2, "--cached goes with one revision"),
        (("HEAD", "main..side", "--"), 2, "is no commit"),
        (("HEAD^{tree}", "--"), 2, "is no commit"),
        (("--json", "--stat"), 2, "--json and --stat exclude each other"),
        (("--no-index", "one"), 2, "--no-index needs two files"),
        (("--no-index", "text.txt", "sub"), 2, "'sub' is no file that can be read"),
        (("--no-index", "text.txt", "none\x1b"), 2, r"'none\x1b' is no file that can be read"),
    ],
)
def test_bad_input(past, ask, args, code, message):
    out, err = ask(past.path, "diff", *args, code=code)
    assert out == ""
    assert err.startswith("error: ")
    assert message in err
    assert "Traceback" not in err
    assert err.replace("\n", "").isprintable()
    assert past.read("text.txt") == b"y"


def test_files_outside_of_a_repository(tmp_path, ask, safetensors, coral_program):
    (tmp_path / "old.safetensors").write_bytes(safetensors(FIRST))
    (tmp_path / "new").write_bytes(safetensors(GROWN))
    words = ("diff", "--no-index", "old.safetensors", "new")
    out, _ = ask(tmp_path, *words)
    assert out.startswith("old.safetensors => new: first dimension of 'head.weight' from 24 to 48\n")
    (file,) = json.loads(ask(tmp_path, *words, "--json")[0])["files"]
    assert [(one["status"], one["delta_norm"], one["values"]) for one in file["tensors"]] == [
        ("reshaped", 0, 480)
    ]
    assert file["stored_bytes"] is None
    assert ask(tmp_path, "diff", "--no-index", "--exit-code", "new", "new")[0] == ""
    assert ask(tmp_path, "diff", "--no-index", "--exit-code", "new", "--", "old.safetensors", code=1)[0]
    assert list(tmp_path.glob(".git*")) == []


def test_text_and_weights_at_one_path(repo, safetensors, ask, assert_healthy):
    repo.commit("text", m__safetensors=b"text that is short")
    repo.commit("weights", m__safetensors=safetensors(FIRST))
    repo.git("mv", "m.safetensors", "n.safetensors")
    repo.commit("moved")
    (repo.path / "n.safetensors").unlink()
    (repo.path / "n.safetensors").symlink_to("elsewhere")
    out = ask(repo.path, "diff")[0]
    assert out.startswith("n.safetensors: removed\n")
    assert ask(repo.path, "diff", "HEAD~1", "HEAD")[0] == ""
    assert "no tensors known" in ask(repo.path, "diff", "HEAD~2", "HEAD~1")[0]
    assert_healthy(repo)


# --- what is read


OLD = {name: RANDOM.standard_normal((200, 150)).astype(np.float32) for name in "abc"}
NEW = {**OLD, "a": OLD["a"] + RANDOM.standard_normal((200, 150)).astype(np.float32) * np.float32(1e-4)}


@pytest.fixture(scope="module")
def trained(make_shared):
    """A repository whose second version is stored as deltas of the first one."""

    def train(repo):
        repo.commit("old", m__safetensors=safetensors_bytes(OLD))
        repo.commit("new", m__safetensors=safetensors_bytes(NEW))

    return make_shared(train)


def object_of(repo, revision, name):
    (entry,) = [one for one in repo.manifest(f"{revision}:m.safetensors").tensors if one.name == name]
    (object_id,) = entry.objects
    return ObjectId(object_id)


def damage(repo, object_id):
    """Flip a bit in the middle of an object; gives what puts it right."""
    with repo.store() as store:
        place = store.locate(object_id)
    path = repo.common_dir() / "coral" / "objects" / "packs" / f"{place.pack.hex()}.pack"
    before = path.read_bytes()
    data = bytearray(before)
    data[place.offset + place.entry_length // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)
    return lambda: path.write_bytes(before)


def test_deltas_have_the_figures_of_full_copies(trained, ask, tmp_path):
    repo = trained
    with repo.store() as store:
        assert store.locate(object_of(repo, "HEAD", "a")).base == object_of(repo, "HEAD~1", "a")
    for name, tensors in (("old", OLD), ("new", NEW)):
        (tmp_path / name).write_bytes(safetensors_bytes(tensors))
    copies = json.loads(ask(tmp_path, "diff", "--no-index", "--json", "--histogram", "old", "new")[0])
    for words in (("HEAD~1", "HEAD"), ("HEAD~1",)):
        deltas = json.loads(ask(repo.path, "diff", "--json", "--histogram", *words)[0])
        (found,), (copy,) = (report["files"][0]["tensors"] for report in (deltas, copies))
        assert {**found, "stored_bytes": None} == {**copy, "stored_bytes": None}
        assert found["stored_bytes"] < found["raw_bytes"] / 2
    back = json.loads(ask(repo.path, "diff", "--json", "HEAD", "HEAD~1")[0])["files"][0]["tensors"][0]
    assert (back["delta_norm"], back["norm"]) == (copy["delta_norm"], copy["new_norm"])


def test_only_tensors_that_changed_are_read(trained, ask):
    repo = trained
    mended = [damage(repo, object_of(repo, "HEAD", name)) for name in "bc"]
    out, _ = ask(repo.path, "diff", "HEAD~1", "HEAD", "--json")
    (found,) = json.loads(out)["files"][0]["tensors"]
    assert found["delta_norm"] == expected(OLD, NEW)["a"]
    for mend in mended[::-1]:
        mend()
    for revision in ("HEAD", "HEAD~1"):
        mend = damage(repo, object_of(repo, revision, "a"))
        out, err = ask(repo.path, "diff", "HEAD~1", "HEAD", code=13)
        assert err.startswith("error: ")
        assert "tensor 'a'" in err
        assert ask(repo.path, "diff", "--stat", "HEAD~1", "HEAD")[0]
        mend()


def test_objects_that_are_not_here_are_fetched(trained, make_repo, ask, at, tmp_path, assert_healthy):
    repo = trained
    bare = make_repo("bare.git", bare=True)
    repo.git("push", "-q", bare.path, "main")
    repo.git("clone", "-qn", "--branch", "main", bare.path, tmp_path / "clone")
    clone = at(tmp_path / "clone")
    for command in (
        ("log", "--oneline"),
        ("diff", "--stat", "HEAD~1", "HEAD"),
        ("blame", "--fast", "m.safetensors"),
    ):
        assert ask(clone.path, *command)[0]
        assert clone.packs() == []
    (found,) = json.loads(ask(clone.path, "diff", "HEAD~1", "HEAD", "--json")[0])["files"][0]["tensors"]
    assert found["delta_norm"] == expected(OLD, NEW)["a"]
    assert clone.packs()
    assert_healthy(clone, missing=True)


def test_without_a_remote_figures_are_missing(trained, ask):
    repo = trained
    kept = repo.common_dir() / "kept"
    shutil.move(repo.common_dir() / "coral" / "objects" / "packs", kept)
    os.mkdir(repo.common_dir() / "coral" / "objects" / "packs")
    out, err = ask(repo.path, "diff", "HEAD~1", "HEAD", "--json")
    (found,) = json.loads(out)["files"][0]["tensors"]
    assert (found["status"], found["delta_norm"], found["stored_bytes"]) == ("changed", None, None)
    assert "Traceback" not in err
    assert "objects missing" in ask(repo.path, "log", "--oneline")[0]
    (line,) = ask(repo.path, "blame", "--tensor", "a", "m.safetensors")[0].splitlines()
    assert line.split()[-2:] == ["-", "a"]
    os.rmdir(repo.common_dir() / "coral" / "objects" / "packs")
    shutil.move(kept, repo.common_dir() / "coral" / "objects" / "packs")


def test_a_first_add_and_long_ids(make_repo, safetensors, ask, assert_healthy):
    repo = make_repo(object_format="sha256")
    repo.write("m.safetensors", safetensors(FIRST))
    repo.git("add", ".")
    assert ask(repo.path, "diff", "--cached")[0].startswith("m.safetensors: new file\n")
    repo.commit("first")
    repo.write("m.safetensors", safetensors(SECOND))
    assert "partial fine-tune, 2 of 4 tensors" in ask(repo.path, "diff")[0]
    repo.write("m.safetensors", safetensors(FIRST))
    assert ask(repo.path, "diff", "--exit-code")[0] == ""
    assert repo.coral("diff", "--exit-code") == ""
    (repo.path / "m.safetensors").unlink()
    assert ask(repo.path, "diff")[0].startswith("m.safetensors: removed\n")
    assert_healthy(repo)
