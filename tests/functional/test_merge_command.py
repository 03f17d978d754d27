"""``git coral merge``: one branch, several, previews, and what the commit records."""

from __future__ import annotations

import json

import numpy as np
import pytest

FILE = "m.safetensors"


@pytest.fixture
def tensors_of():
    load = pytest.importorskip("safetensors.numpy").load

    def read(repo, name=FILE):
        return load(repo.read(name))

    return read


def tuned(tensors, seed, *names):
    random = np.random.default_rng(seed)
    steps = {name: random.standard_normal(tensors[name].shape).astype(np.float32) / 100 for name in names}
    return {**tensors, **{name: tensors[name] + step for name, step in steps.items()}}


@pytest.fixture
def branches(repo, safetensors, model):
    """Branches ``one``, ``two``, ... that all changed ``embed.weight``, and another tensor each."""

    def make(*names):
        base = model(layers=len(names))
        versions = {"main": base}
        repo.commit("base", m__safetensors=safetensors(base), notes__txt=b"first\n")
        for number, name in enumerate(names):
            repo.git("switch", "-q", "-c", name, "main")
            versions[name] = tuned(base, number, "embed.weight", f"layer.{number}.weight")
            repo.commit(name, m__safetensors=safetensors(versions[name]), **{f"{name}__txt": name.encode()})
        repo.git("switch", "-q", names[0])
        return versions

    return make


def trailers(repo, key):
    return repo.git("log", "-1", f"--format=%(trailers:key={key},valueonly)").splitlines()


def test_a_branch_with_a_strategy(repo, branches, tensors_of, assert_healthy):
    versions = branches("one", "two")
    said = repo.coral("merge", "two", "--strategy", "weighted", "--alpha", "0.3", "--rule", "layer.1.*=ours")
    assert said.startswith("merged as ")
    found = tensors_of(repo)
    expected = (
        np.float32(0.3) * versions["one"]["embed.weight"] + np.float32(0.7) * versions["two"]["embed.weight"]
    )
    assert np.allclose(found["embed.weight"], expected, rtol=1e-6, atol=1e-7)
    assert trailers(repo, "Coral-Merge") == ["weighted:alpha=0.3", ""] or trailers(repo, "Coral-Merge")[0]
    assert "weighted:alpha=0.3" in trailers(repo, "Coral-Merge")
    assert "layer.1.*=ours" in trailers(repo, "Coral-Merge-Rule")
    assert f"{FILE} 1 merged, 1 theirs, 1 ours, 2 unchanged" in trailers(repo, "Coral-Merge-Tensors")
    assert repo.git("log", "-1", "--format=%s") == "Merge branch 'two' into one"
    assert repo.git("log", "-1", "--format=%P").count(" ") == 1
    assert repo.read("two.txt") == b"two"
    assert not repo.status()
    assert_healthy(repo)


def test_a_merge_can_be_made_again_from_its_trailers(repo, branches):
    branches("one", "two")
    repo.coral("merge", "two", "--strategy", "dare-ties", "--seed", "5", "--density", "0.8", "-m", "again")
    first = repo.blob(f"HEAD:{FILE}")
    assert repo.git("log", "-1", "--format=%s") == "again"
    strategy = next(filter(None, trailers(repo, "Coral-Merge")))
    repo.git("reset", "-q", "--hard", "HEAD~1")
    repo.git("merge", "-q", "--no-edit", "two", env={"CORAL_MERGE_STRATEGY": strategy})
    assert repo.blob(f"HEAD:{FILE}") == first


def test_the_command_is_stronger_than_every_setting(repo, branches, tensors_of):
    versions = branches("one", "two")
    repo.git("config", "coral.merge.strategy", "ours")
    repo.git("config", "coral.merge.rule", "embed.*=base")
    repo.coral(
        "merge",
        "two",
        "--strategy",
        "average",
        "--rule",
        "embed.*=theirs",
        env={"CORAL_MERGE_STRATEGY": "base"},
    )
    assert np.array_equal(tensors_of(repo)["embed.weight"], versions["two"]["embed.weight"])


def test_a_conflict_keeps_the_trailers_for_the_commit(repo, branches, tensors_of, assert_healthy):
    versions = branches("one", "two")
    done = repo.run("coral", "merge", "two", "--rule", "layer.0.*=ours", code=1)
    assert b"1 tensor needs a decision ('embed.weight' changed on both sides)" in done.stderr
    assert repo.status() == f"UU {FILE}\nA  two.txt"
    assert b"not concluded" in repo.run("coral", "merge", "two", code=2).stderr
    repo.coral("resolve", FILE, "--strategy", "average")
    repo.git("commit", "-q", "--no-edit")
    assert "layer.0.*=ours" in trailers(repo, "Coral-Merge-Rule")
    assert trailers(repo, "Coral-Merge") == ["average", ""] or trailers(repo, "Coral-Merge") == ["average"]
    (tensors,) = filter(None, trailers(repo, "Coral-Merge-Tensors"))
    assert tensors == f"{FILE} 1 merged, 1 theirs, 1 ours, 2 unchanged"
    mean = (versions["one"]["embed.weight"] + versions["two"]["embed.weight"]) / 2
    assert np.array_equal(tensors_of(repo)["embed.weight"], mean)
    assert_healthy(repo)


def test_what_git_does_alone(repo, branches):
    branches("one", "two")
    assert repo.coral("merge", "main") == "up to date"
    repo.git("switch", "-q", "main")
    assert repo.coral("merge", "one", "--no-ff", "-m", "kept").startswith("merged as")
    repo.git("reset", "-q", "--hard", "HEAD~1")
    assert repo.coral("merge", "one") == "fast-forward"
    repo.git("switch", "-q", "two")
    assert repo.run("coral", "merge", "one", "--ff-only", "--strategy", "average", code=1).stderr
    assert "staged" in repo.coral("merge", "one", "--no-commit", "--strategy", "average")
    assert repo.git("rev-parse", "MERGE_HEAD") == repo.git("rev-parse", "one")
    repo.git("merge", "--abort")
    assert b"'nothing' is no commit" in repo.run("coral", "merge", "nothing", code=2).stderr
    assert (
        b"unknown merge strategy 'x'" in repo.run("coral", "merge", "one", "--strategy", "x", code=2).stderr
    )
    repo.write("one.txt", b"mine")
    assert repo.run("coral", "merge", "one", "--strategy", "average", code=1).stderr
    assert repo.read("one.txt") == b"mine"


def test_a_preview_touches_nothing(repo, branches, assert_healthy):
    versions = branches("one", "two")
    before = (repo.git("rev-parse", "HEAD"), repo.status(), repo.packs(), repo.read(FILE))
    shown = repo.coral("merge", "two", "--dry-run", "--strategy", "average")
    lines = [line.split() for line in shown.splitlines()]
    assert lines[0] == [FILE, "(average)"]
    table = {line[0]: line[1:] for line in lines[1:]}
    base, one, two = (versions[name]["embed.weight"].astype(float) for name in ("main", "one", "two"))
    deltas = [one - base, two - base]
    norms = [np.linalg.norm(delta) for delta in deltas]
    cosine = float((deltas[0] * deltas[1]).sum() / norms[0] / norms[1])
    assert table["embed.weight"] == ["average", *(f"{norm:.4g}" for norm in norms), f"{cosine:.4g}"]
    assert table["layer.0.weight"][0] == "ours"
    assert table["layer.0.weight"][2:] == ["0", "-"]
    found = json.loads(repo.coral("merge", "two", "-n", "--json", code=1))
    assert [one["outcome"] for one in found[0]["tensors"]] == ["conflict", "ours", "theirs"]
    assert found[0]["reason"] == "1 tensor needs a decision"
    assert (repo.git("rev-parse", "HEAD"), repo.status(), repo.packs(), repo.read(FILE)) == before
    assert_healthy(repo)


def test_several_branches_make_one_commit(repo, branches, tensors_of, assert_healthy):
    versions = branches("one", "two", "three")
    said = repo.coral("merge", "two", "three", "--strategy", "average")
    assert said.startswith("merged as ")
    found = tensors_of(repo)
    sides = [versions[name]["embed.weight"] for name in ("one", "two", "three")]
    assert np.allclose(found["embed.weight"], sum(sides) / 3, rtol=1e-6, atol=1e-7)
    for number, name in enumerate(("one", "two", "three")):
        assert np.array_equal(found[f"layer.{number}.weight"], versions[name][f"layer.{number}.weight"])
        assert repo.read(f"{name}.txt") == name.encode()
    parents = repo.git("log", "-1", "--format=%P").split()
    assert parents == [repo.git("rev-parse", name) for name in ("HEAD^1", "two", "three")]
    assert repo.git("log", "-1", "--format=%s") == "Merge branches 'two' and 'three'"
    assert f"{FILE} 1 merged, 2 theirs, 1 ours, 3 unchanged" in trailers(repo, "Coral-Merge-Tensors")
    assert not repo.status()
    assert_healthy(repo)


def test_several_branches_with_weights(repo, branches, tensors_of):
    versions = branches("one", "two", "three")
    repo.coral("merge", "two", "three", "--strategy", "weighted", "--weights", "2/1/1")
    sides = [versions[name]["embed.weight"].astype(float) for name in ("one", "two", "three")]
    expected = sides[0] / 2 + sides[1] / 4 + sides[2] / 4
    assert np.allclose(tensors_of(repo)["embed.weight"], expected, rtol=1e-6, atol=1e-7)


def test_several_branches_that_contradict_each_other(repo, branches, assert_healthy):
    branches("one", "two", "three")
    for name in ("two", "three"):
        repo.git("switch", "-q", name)
        repo.commit("notes", notes__txt=name.encode())
    repo.git("switch", "-q", "one")
    before = repo.git("rev-parse", "HEAD")
    done = repo.run("coral", "merge", "two", "three", "--strategy", "average", code=1)
    assert b"contradict each other in 'notes.txt'" in done.stderr
    done = repo.run("coral", "merge", "main", "two", code=1)
    assert b"1 tensor needs a decision" in done.stderr
    assert (repo.git("rev-parse", "HEAD"), repo.status()) == (before, "")
    repo.coral("merge", "main", "two", "--strategy", "average")
    assert repo.git("log", "-1", "--format=%P").count(" ") == 1
    assert repo.coral("merge", "main", "two") == "up to date"
    assert_healthy(repo)


def test_local_changes_are_not_overwritten(repo, branches):
    branches("one", "two", "three")
    repo.write("two.txt", b"mine")
    done = repo.run("coral", "merge", "two", "three", "--strategy", "average", code=18)
    assert b"commit or stash your changes" in done.stderr
    assert repo.read("two.txt") == b"mine"


def test_a_merge_can_be_aborted_at_once(repo, branches, tensors_of, assert_healthy):
    """What git wrote in the same second as its index must not look modified because we changed the index."""
    versions = branches("one", "two")
    repo.git("merge", "-q", "--no-commit", "two", env={"CORAL_MERGE_STRATEGY": "average"})
    assert (repo.path / "two.txt").exists()
    repo.git("merge", "--abort")
    assert np.array_equal(tensors_of(repo)["embed.weight"], versions["one"]["embed.weight"])
    assert not repo.status()
    assert_healthy(repo)


# --- recipes and evaluations

SCORE = """#!/bin/sh
python3 - "$1" <<'END'
import json, os, struct, sys
path = sys.argv[1]
assert os.path.isfile(path), path
file = open(path, "rb")
header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
start = file.tell() + header["embed.weight"]["data_offsets"][0]
file.seek(start)
value = struct.unpack("<f", file.read(4))[0]
print("accuracy", 1 - abs(value - float(os.environ["TARGET"])))
END
"""


def first(tensors):
    return float(tensors["embed.weight"].flat[0])


def test_a_recipe_of_mergekit(repo, branches, tensors_of, assert_healthy, tmp_path):
    pytest.importorskip("yaml")
    versions = branches("one", "two", "three")
    recipe = tmp_path / "recipe.yml"
    recipe.write_text(
        "merge_method: linear\nmodels:\n- {model: one, parameters: {weight: 2}}\n"
        "- {model: two}\n- {model: three}\n"
    )
    said = repo.coral("merge", "--recipe", recipe)
    assert said.startswith("merged as ")
    found = tensors_of(repo)
    for name in versions["main"]:
        expected = (
            sum(versions[model][name] * share for model, share in (("one", 2), ("two", 1), ("three", 1))) / 4
        )
        assert np.allclose(found[name], expected, rtol=1e-6, atol=1e-7), name
    assert repo.git("log", "-1", "--format=%P").count(" ") == 2
    assert any("weighted:weights=2.0/1.0/1.0" in line for line in trailers(repo, "Coral-Merge"))
    recipe.write_text(
        "merge_method: task_arithmetic\nbase_model: main\nparameters: {lambda: 0.5}\n"
        "models:\n- model: two\n- model: three\n"
    )
    repo.git("reset", "-q", "--hard", "HEAD~1")
    repo.coral("merge", "--recipe", recipe, "-m", "Half of each")
    base = versions["main"]["embed.weight"]
    deltas = [versions[name]["embed.weight"] - base for name in ("two", "three")]
    assert np.allclose(tensors_of(repo)["embed.weight"], base + sum(deltas) / 2, rtol=1e-6, atol=1e-6)
    assert repo.git("log", "-1", "--format=%s") == "Half of each"
    assert b"no branches" in repo.run("coral", "merge", "--recipe", recipe, "two", code=2).stderr
    assert not repo.status()
    assert_healthy(repo)


def test_a_sweep_keeps_the_best(repo, branches, tensors_of, tmp_path, assert_healthy):
    versions = branches("one", "two")
    script = tmp_path / "score it.sh"
    script.write_text(SCORE)
    script.chmod(0o755)
    ours, theirs = first(versions["one"]), first(versions["two"])
    target = {"TARGET": repr(0.3 * ours + 0.7 * theirs)}
    command = ["--eval", f"'{script}' {{model}}", "--sweep", "alpha=0:1:0.1", "--strategy", "weighted"]
    done = repo.run("coral", "merge", "two", *command, env=target)
    assert done.stderr.count(b"alpha=") >= 11
    assert abs(first(tensors_of(repo)) - float(target["TARGET"])) < 1e-6
    scores = [line.rsplit(" ", 1) for line in trailers(repo, "Coral-Merge-Score") if line]
    assert [name for name, _ in scores] == ["ours", *(f"alpha={n / 10:g}" for n in range(11))]
    assert max(scores[1:], key=lambda score: float(score[1]))[0] == "alpha=0.3"
    assert not list((repo.path / ".git").glob("coral-eval*"))
    assert not repo.status()
    assert_healthy(repo)


def test_what_is_worse_than_ours_is_not_merged(repo, branches, tensors_of, tmp_path):
    versions = branches("one", "two")
    script = tmp_path / "score.sh"
    script.write_text(SCORE)
    script.chmod(0o755)
    target = {"TARGET": repr(first(versions["one"]))}
    before = repo.git("rev-parse", "HEAD")
    command = ["merge", "two", "--eval", f"{script} {{model}}", "--try", "average,theirs"]
    done = repo.run("coral", *command, env=target, code=1)
    assert b"is worse than HEAD" in done.stderr
    repo.coral(*command, "--minimize", env=target)
    assert np.array_equal(tensors_of(repo)["embed.weight"], versions["two"]["embed.weight"])
    repo.git("reset", "-q", "--hard", before)
    for line, message in (
        ("exit 3", b"the command failed (3) for ours"),
        ("echo nothing", b"printed no number for ours"),
    ):
        done = repo.run("coral", "merge", "two", "--strategy", "average", "--eval", line, code=1)
        assert message in done.stderr
    assert b"needs a command" in repo.run("coral", "merge", "two", "--strategy", "greedy-soup", code=2).stderr
    assert b"need a command" in repo.run("coral", "merge", "two", "--sweep", "alpha=0:1:1", code=2).stderr
    assert repo.git("rev-parse", "HEAD") == before
    assert not repo.status()


def test_a_greedy_soup(repo, branches, tensors_of, tmp_path, assert_healthy):
    versions = branches("one", "two", "three")
    script = tmp_path / "score.sh"
    script.write_text(SCORE)
    script.chmod(0o755)
    values = {name: first(versions[name]) for name in ("one", "two", "three")}
    target = {"TARGET": repr((values["one"] + values["three"]) / 2)}
    repo.coral(
        "merge", "two", "three", "--strategy", "greedy-soup", "--eval", f"{script} {{model}}", env=target
    )
    found = first(tensors_of(repo))
    scores = {
        line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1])
        for line in trailers(repo, "Coral-Merge-Score")
        if line
    }
    assert {"ours", "two", "three"} < set(scores)
    assert 1 - abs(found - float(target["TARGET"])) == pytest.approx(max(scores.values()), abs=1e-6)
    assert not repo.status()
    assert_healthy(repo)


# --- renames, which git follows


def test_several_branches_and_a_rename(repo, branches, safetensors, assert_healthy):
    versions = branches("one", "two", "three")
    repo.git("mv", FILE, "renamed.safetensors")
    repo.git("commit", "-qm", "rename")
    before = repo.git("rev-parse", "HEAD")
    done = repo.run("coral", "merge", "two", "three", "--strategy", "average", code=1)
    assert b"'m.safetensors' is not on every side" in done.stderr
    repo.git("switch", "-q", "-c", "four", "main")
    repo.commit("plain", plain__txt=b"plain")
    repo.git("switch", "-q", "one")
    done = repo.run("coral", "merge", "two", "four", "--strategy", "average", code=1)
    assert b"'renamed.safetensors' was renamed on one side and changed on several" in done.stderr
    assert (repo.git("rev-parse", "HEAD"), repo.status()) == (before, "")
    repo.coral("merge", "two", "--strategy", "average")
    load = pytest.importorskip("safetensors.numpy").load
    mean = (versions["one"]["embed.weight"] + versions["two"]["embed.weight"]) / 2
    assert np.array_equal(load(repo.read("renamed.safetensors"))["embed.weight"], mean)
    assert_healthy(repo)


def test_a_commit_from_before_a_rename(repo, branches, assert_healthy):
    branches("one", "two")
    repo.git("mv", FILE, "renamed.safetensors")
    repo.git("commit", "-qm", "rename")
    before = repo.git("rev-parse", "HEAD")
    done = repo.run("coral", "cherry-pick", "--scale", "0.5", "two", code=1)
    assert b"'renamed.safetensors' was renamed on one side and changed on both" in done.stderr
    assert (repo.git("rev-parse", "HEAD"), repo.status()) == (before, "")
    assert not list((repo.path / ".git").glob("coral-kept*"))
    assert_healthy(repo)
