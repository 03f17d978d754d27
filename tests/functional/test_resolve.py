"""``git coral resolve`` settles conflicts in weight files, and mends what a line-wise merge broke."""

from __future__ import annotations

import json
import os
import signal
import subprocess

import numpy as np
import pytest

FILE = "m.safetensors"
BOTH = {"embed.weight", "layer.0.weight", "layer.1.bias"}
ONLY_OURS = "layer.5.bias"  # far from the others, so that line-wise merges mix the sides
ONLY_THEIRS = "layer.2.weight"


@pytest.fixture
def load():
    return pytest.importorskip("safetensors.numpy").load


@pytest.fixture
def fork(repo, safetensors, model, tune):
    """A base, and on each of two branches a change of it; both change three tensors, and each one more."""

    def make(attributes=b"", base=None, ours=None, theirs=None):
        if attributes:
            repo.write(".gitattributes", attributes)
        start = model(layers=7) if base is None else base
        repo.commit("base", m__safetensors=safetensors(start))
        repo.git("switch", "-q", "-c", "other")
        second = tune(start, 2, {*BOTH, ONLY_THEIRS}) if theirs is None else theirs
        repo.commit("theirs", m__safetensors=safetensors(second))
        repo.git("switch", "-q", "main")
        first = tune(start, 1, {*BOTH, ONLY_OURS}) if ours is None else ours
        repo.commit("ours", m__safetensors=safetensors(first))
        return start, first, second

    return make


def mean(one, other):
    return ((one + other) / np.float32(2)).astype(np.float32)


def assert_tensors(found, expected):
    assert set(found) == set(expected)
    for name in expected:
        assert found[name].tobytes() == expected[name].tobytes(), name


def averaged(ours, theirs, **others):
    return {
        **ours,
        **{name: mean(ours[name], theirs[name]) for name in BOTH},
        ONLY_THEIRS: theirs[ONLY_THEIRS],
    }


def memory(repo):
    return repo.common_dir() / "coral-resolved.json"


# --- what git has in conflict


def test_all_at_once(repo, fork, load, count_filters, assert_healthy):
    _, ours, theirs = fork()
    repo.git("merge", "-q", "other", code=1)
    said = repo.coral("resolve", FILE, "--strategy", "average")
    assert said == f"resolved '{FILE}' (average): 3 merged, 1 theirs, 1 ours, 10 unchanged"
    assert_tensors(load(repo.read(FILE)), averaged(ours, theirs))
    assert repo.status() == f"M  {FILE}"
    assert count_filters(repo, "status") == 0
    assert not memory(repo).exists()
    repo.git("commit", "-q", "--no-edit")
    repo.git("checkout", "-q", "HEAD~")
    repo.git("checkout", "-q", "main")
    assert_tensors(load(repo.read(FILE)), averaged(ours, theirs))
    assert_healthy(repo)


def test_some_now_and_the_rest_later(repo, fork, load, assert_healthy):
    _, ours, theirs = fork()
    repo.git("merge", "-q", "other", code=1)
    before = repo.git("ls-files", "-s")
    done = repo.run("coral", "resolve", FILE, "--tensor", "layer.0.*", "--strategy", "theirs", code=1)
    assert b"2 tensors need a decision\n  embed.weight  F32 192x48  changed on both sides\n" in done.stdout
    assert repo.git("ls-files", "-s") == before
    assert_tensors(load(repo.read(FILE)), ours)
    assert "2 tensors to decide about, 1 settled" in repo.coral("status")
    repo.coral("resolve", FILE, "--tensor", "*.bias", "--strategy", "weighted:alpha=0", code=1)
    assert "1 tensor to decide about, 2 settled" in repo.coral("status")
    repo.coral("resolve", FILE, "--strategy", "ours")
    expected = {**theirs, "embed.weight": ours["embed.weight"], ONLY_OURS: ours[ONLY_OURS]}
    assert_tensors(load(repo.read(FILE)), expected)
    assert not memory(repo).exists()
    assert_healthy(repo)


def test_what_is_asked_again_counts(repo, fork, load):
    _, ours, theirs = fork()
    repo.git("merge", "-q", "other", code=1)
    repo.coral("resolve", FILE, "--tensor", "layer.*", "--strategy", "theirs", code=1)
    repo.coral("resolve", FILE, "--rule", "layer.0.*=ours", "--strategy", "average")
    expected = {**theirs, "layer.0.weight": ours["layer.0.weight"], ONLY_OURS: ours[ONLY_OURS]}
    expected["embed.weight"] = mean(ours["embed.weight"], theirs["embed.weight"])
    assert_tensors(load(repo.read(FILE)), expected)


def test_what_the_driver_settled_stays_settled(repo, fork, load, model, tune, assert_healthy):
    start = model()
    ours, theirs = tune(start, 1, BOTH), tune(start, 2, {*BOTH, ONLY_THEIRS})
    ours["layer.1.bias"] = np.ones(5, np.float32)
    fork(base=start, ours=ours, theirs=theirs)
    repo.git("merge", "-q", "other", env={"CORAL_MERGE_STRATEGY": "average"}, code=1)
    told = json.loads(repo.coral("status", "--json"))["files"][0]["conflict"]
    assert (told["settled"], told["reason"]) == (2, "")
    assert told["left"] == [
        {
            "name": "layer.1.bias",
            "base": {"dtype": "F32", "shape": [48]},
            "sides": [{"dtype": "F32", "shape": [5]}, {"dtype": "F32", "shape": [48]}],
            "reason": "has another dtype or shape on each side",
        }
    ]
    assert "  layer.1.bias  F32 5 / F32 48  has another" in repo.coral("status")
    repo.coral("resolve", FILE, "--strategy", "average", code=1)
    repo.coral("resolve", FILE, "--strategy", "theirs")
    found = averaged(tune(start, 1, BOTH), theirs)
    assert_tensors(load(repo.read(FILE)), {**found, "layer.1.bias": theirs["layer.1.bias"]})
    assert_healthy(repo)


def test_what_was_settled_of_another_conflict_is_not(repo, fork):
    fork()
    repo.git("merge", "-q", "other", code=1)
    repo.coral("resolve", FILE, "--tensor", "layer.*", "--strategy", "theirs", code=1)
    repo.git("merge", "--abort")
    repo.git("switch", "-q", "other")
    repo.git("merge", "-q", "main", code=1)
    assert "3 tensors to decide about\n" in repo.coral("status") + "\n"


def test_rules_that_fail_ask_for_this(repo, fork, load):
    _, ours, theirs = fork()
    repo.git("config", "coral.merge.strategy", "average")
    repo.git("config", "coral.merge.rule", "layer.*=fail")
    repo.git("merge", "-q", "other", code=1)
    repo.coral("resolve", FILE, "--strategy", "theirs")
    expected = {**theirs, ONLY_OURS: ours[ONLY_OURS]}
    expected["embed.weight"] = mean(ours["embed.weight"], theirs["embed.weight"])
    assert_tensors(load(repo.read(FILE)), expected)


def test_a_dry_run_changes_nothing(repo, fork):
    fork()
    repo.git("merge", "-q", "other", code=1)
    before = repo.git("ls-files", "-s"), repo.read(FILE), repo.packs(), memory(repo).read_bytes()
    said = repo.coral("resolve", FILE, "-n", "--strategy", "weighted", "--alpha", "0.25")
    assert said == f"would resolve '{FILE}' (weighted:alpha=0.25): 3 merged, 1 theirs, 1 ours, 10 unchanged"
    told = json.loads(repo.coral("resolve", FILE, "-n", "--json", code=1))[0]
    assert (told["resolved"], len(told["left"]), told["outcomes"]["conflict"]) == (False, 3, 3)
    assert before == (repo.git("ls-files", "-s"), repo.read(FILE), repo.packs(), memory(repo).read_bytes())


def test_many_contested_tensors_are_listed_on_demand(repo, fork, model, tune):
    start = model(layers=12)
    fork(base=start, ours=tune(start, 1), theirs=tune(start, 2))
    repo.git("merge", "-q", "other", code=1)
    short, whole = repo.coral("status"), repo.coral("status", "--all")
    assert short.count("  changed on both sides") == 20
    assert "… and 5 more" in short
    assert whole.count("  changed on both sides") == 25


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--strategy", "mean"], b"unknown merge strategy 'mean' in '--strategy'"),
        (["--strategy", "weighted", "--alpha", "2"], b"bad value '2' for 'alpha'"),
        (["--rule", "nonsense"], b"bad rule 'nonsense' in '--rule'"),
        (["--tensor", "*"], b"--tensor needs a strategy"),
    ],
)
def test_what_cannot_be_understood(repo, fork, options, message):
    fork()
    repo.git("merge", "-q", "other", code=1)
    assert message in repo.run("coral", "resolve", FILE, *options, code=2).stderr


def test_what_is_not_in_conflict(repo, fork):
    fork()
    done = repo.run("coral", "resolve", FILE, "--strategy", "ours", code=2)
    assert b"no weight file in conflict matches 'm.safetensors'" in done.stderr
    assert b"did not match" in repo.run("coral", "resolve", "x", "--strategy", "ours", code=2).stderr


def test_values_that_are_not_finite(repo, fork, load, model):
    start = model()
    name = "layer.0.weight"
    big = np.full_like(start[name], 3e38)
    fork(base=start, ours={**start, name: big}, theirs={**start, name: np.nextafter(big, np.float32(0))})
    repo.git("merge", "-q", "other", code=1)
    done = repo.run("coral", "resolve", FILE, "--strategy", "task-arithmetic", code=1)
    assert b"would be infinite or not a number\n  layer.0.weight  2304 values\n" in done.stdout
    repo.coral("resolve", FILE, "--strategy", "ours")
    assert load(repo.read(FILE))[name].tobytes() == big.tobytes()


@pytest.mark.parametrize("deleted", ["main", "other"])
@pytest.mark.parametrize("strategy", ["ours", "theirs", "base"])
def test_modified_here_and_deleted_there(repo, fork, safetensors, deleted, strategy, assert_healthy):
    versions = dict(zip(("base", "ours", "theirs"), fork(), strict=True))
    repo.git("switch", "-q", deleted)
    repo.git("rm", "-q", FILE)
    repo.git("commit", "-qm", "delete")
    repo.git("switch", "-q", "main")
    repo.git("merge", "-q", "other", code=1)
    word = "we" if deleted == "main" else "they"
    assert f"in conflict: {FILE}: {word} deleted it" in repo.coral("status")
    done = repo.run("coral", "resolve", FILE, "--strategy", "average", code=1)
    assert f"{word} deleted it; only ours, theirs or base can be taken".encode() in done.stdout
    repo.coral("resolve", FILE, "--strategy", strategy)
    if strategy == ("ours" if deleted == "main" else "theirs"):
        assert not (repo.path / FILE).exists()
        assert not repo.git("ls-files", FILE)
    else:
        assert repo.read(FILE) == safetensors(versions[strategy])
        assert repo.git("ls-files", "-u") == ""
        assert repo.git("diff") == ""
    repo.git("commit", "-q", "--no-edit", "--allow-empty")
    assert_healthy(repo)


def test_added_on_both_sides(repo, safetensors, model, tune, load, assert_healthy):
    repo.commit("nothing")
    ours, theirs = model(), tune(model())
    repo.git("switch", "-q", "-c", "other")
    repo.commit("theirs", m__safetensors=safetensors(theirs))
    repo.git("switch", "-q", "main")
    repo.commit("ours", m__safetensors=safetensors(ours))
    repo.git("merge", "-q", "other", code=1)
    repo.coral("resolve", ".", "--strategy", "average")
    assert_tensors(load(repo.read(FILE)), {name: mean(ours[name], theirs[name]) for name in ours})
    assert_healthy(repo)


@pytest.mark.parametrize("strategy", ["ours", "theirs", "base"])
def test_a_file_without_tensors(repo, strategy, assert_healthy):
    data = {name: np.random.default_rng(seed).bytes(100_000) for seed, name in enumerate("boy")}
    repo.commit("base", w__bin=data["b"])
    repo.git("switch", "-q", "-c", "other")
    repo.commit("theirs", w__bin=data["y"])
    repo.git("switch", "-q", "main")
    repo.commit("ours", w__bin=data["o"])
    repo.git("merge", "-q", "other", code=1)
    assert "no tensors were found in it" in repo.coral("status")
    done = repo.run("coral", "resolve", "w.bin", "--strategy", "average", code=1)
    assert b"no tensors were found" in done.stdout
    repo.coral("resolve", "w.bin", "--strategy", strategy)
    assert repo.read("w.bin") == data[{"ours": "o", "theirs": "y", "base": "b"}[strategy]]
    assert_healthy(repo)


def test_from_a_folder_and_executable(repo, safetensors, model, tune, load):
    start = model()
    repo.commit("base", **{"a/w__safetensors": safetensors(start)})
    repo.git("switch", "-q", "-c", "other")
    repo.commit("theirs", **{"a/w__safetensors": safetensors(tune(start, 2))})
    repo.git("switch", "-q", "main")
    (repo.path / "a" / "w.safetensors").chmod(0o755)
    repo.commit("ours", **{"a/w__safetensors": safetensors(tune(start, 1))})
    repo.git("merge", "-q", "other", code=1)
    repo.coral("resolve", "w.safetensors", "--strategy", "theirs", cwd=repo.path / "a")
    assert_tensors(load(repo.read("a/w.safetensors")), tune(start, 2))
    assert os.access(repo.path / "a" / "w.safetensors", os.X_OK)
    assert repo.git("ls-files", "-s", "a").startswith("100755")


def test_in_a_linked_work_tree_with_long_ids(make_repo, at, safetensors, model, tune, load, assert_healthy):
    repo = make_repo(object_format="sha256")
    start = model()
    repo.commit("base", m__safetensors=safetensors(start))
    repo.git("worktree", "add", "-q", "-b", "other", repo.path.parent / "linked")
    linked = at(repo.path.parent / "linked")
    ours, theirs = tune(start, 1), tune(start, 2)
    repo.commit("theirs", m__safetensors=safetensors(theirs))
    linked.commit("ours", m__safetensors=safetensors(ours))
    linked.git("merge", "-q", "main", code=1)
    linked.coral("resolve", FILE, "--tensor", "layer.*", "--strategy", "theirs", code=1)
    assert not memory(repo).exists()
    linked.coral("resolve", FILE, "--strategy", "average")
    expected = {**theirs, "embed.weight": mean(ours["embed.weight"], theirs["embed.weight"])}
    assert_tensors(load(linked.read(FILE)), expected)
    linked.git("commit", "-q", "--no-edit")
    assert not linked.status()
    assert_healthy(linked)


def test_a_file_that_was_changed_is_not_replaced(repo, fork, safetensors, model, load):
    _, ours, theirs = fork()
    repo.git("merge", "-q", "other", code=1)
    mine = safetensors(model(9))
    repo.write(FILE, mine)
    done = repo.run("coral", "resolve", FILE, "--strategy", "average", code=17)
    assert b"'m.safetensors' was changed since the conflict" in done.stderr
    assert repo.read(FILE) == mine
    assert repo.status() == f"UU {FILE}"
    for allowed in (
        safetensors(theirs),
        repo.blob(f"other:{FILE}"),
        b"# coral 1: neural network weights kept",
    ):
        repo.write(FILE, allowed)
        repo.run("coral", "resolve", FILE, "--strategy", "average", "-n")
    repo.write(FILE, mine)
    repo.coral("resolve", FILE, "--strategy", "average", "--force")
    assert_tensors(load(repo.read(FILE)), averaged(ours, theirs))


def test_every_allowed_file_is_replaced(repo, fork, safetensors, load):
    versions = fork()
    merged = averaged(*versions[1:])
    whole = [safetensors(one) for one in versions]
    texts = [repo.blob(f"{name}:{FILE}") for name in ("main~", "main", "other")]
    broken = texts[0][:-9] + texts[1][-9:]
    for content in (whole[0], whole[2], texts[1], broken, None):
        repo.git("merge", "-q", "other", code=1)
        if content is None:
            (repo.path / FILE).unlink()
        else:
            repo.write(FILE, content)
        repo.coral("resolve", FILE, "--strategy", "average")
        assert_tensors(load(repo.read(FILE)), merged)
        repo.git("reset", "-q", "--hard")


def test_a_link_is_not_replaced(repo, fork, tmp_path):
    fork()
    repo.git("merge", "-q", "other", code=1)
    (repo.path / FILE).unlink()
    (repo.path / FILE).symlink_to(tmp_path / "elsewhere")
    repo.run("coral", "resolve", FILE, "--strategy", "ours", code=17)
    assert (repo.path / FILE).is_symlink()


def test_missing_objects_are_fetched_first(repo, fork, load, at, tmp_path, make_repo, assert_healthy):
    _, ours, theirs = fork()
    bare = make_repo("bare.git", bare=True)
    repo.git("remote", "add", "origin", bare.path)
    repo.coral("remote", "add", "nas", str(tmp_path / "nas"))
    repo.git("push", "-q", "origin", "main", "other")
    clone = at(tmp_path / "clone")
    repo.git("clone", "-q", bare.path, clone.path, env={"CORAL_SKIP_SMUDGE": "1"})
    clone.git("merge", "-q", "origin/other", code=1, env={"CORAL_SKIP_SMUDGE": "1"})
    (tmp_path / "nas").rename(tmp_path / "away")
    clone.coral("resolve", FILE, "--strategy", "average", code=12)
    assert clone.status() == f"UU {FILE}"
    (tmp_path / "away").rename(tmp_path / "nas")
    clone.coral("remote", "add", "nas", str(tmp_path / "nas"))
    clone.coral("resolve", FILE, "--strategy", "average")
    assert_tensors(load(clone.read(FILE)), averaged(ours, theirs))
    clone.git("commit", "-q", "--no-edit")
    assert_healthy(clone, missing=True)


# --- git's own ways out


@pytest.mark.parametrize("side", ["ours", "theirs"])
def test_git_takes_a_side(repo, fork, safetensors, side, assert_healthy):
    _, ours, theirs = fork()
    repo.git("merge", "-q", "other", code=1)
    repo.git("checkout", f"--{side}", "--", FILE)
    assert repo.read(FILE) == safetensors(ours if side == "ours" else theirs)
    repo.git("add", FILE)
    repo.git("commit", "-q", "--no-edit")
    assert not repo.status()
    assert_healthy(repo)


def test_git_brings_the_conflict_back(repo, fork, safetensors, load, assert_healthy):
    _, ours, theirs = fork()
    repo.git("merge", "-q", "other", code=1)
    repo.coral("resolve", FILE, "--strategy", "theirs")
    repo.git("checkout", "--merge", "--", FILE)
    assert repo.status() == f"UU {FILE}"
    assert repo.read(FILE) == safetensors(ours)
    repo.coral("resolve", FILE, "--strategy", "average")
    assert_tensors(load(repo.read(FILE)), averaged(ours, theirs))
    assert_healthy(repo)


def test_git_starts_a_merge_tool(repo, fork, safetensors, assert_healthy):
    _, _, theirs = fork()
    repo.git("merge", "-q", "other", code=1)
    repo.git("config", "mergetool.take.cmd", 'cp "$REMOTE" "$MERGED"')
    repo.git("config", "mergetool.take.trustExitCode", "true")
    repo.git("mergetool", "--no-prompt", "--tool=take", FILE)
    assert repo.read(FILE) == safetensors(theirs)
    (repo.path / f"{FILE}.orig").unlink()
    assert repo.git("diff", "--cached", "other", "--", FILE) == ""
    assert_healthy(repo)


# --- manifests that a git without coral-git has merged


PLAIN = b"*.safetensors filter=coral -text\n"


WITHOUT_CORAL = (
    *("-c", "filter.coral.process=", "-c", "filter.coral.required=false"),
    *("-c", "filter.coral.smudge=cat", "-c", "filter.coral.clean=cat"),
)
"""What makes git behave as on a machine without coral-git."""


def merge_by_lines(repo, *options, code=1):
    repo.git(*WITHOUT_CORAL, "merge", "--no-edit", *options, "other", code=code)


def commit_as_it_is(repo, text):
    """Commit a text past the filter."""
    oid = repo.git("hash-object", "-w", "--stdin", data=text)
    repo.git("update-index", "--cacheinfo", f"100644,{oid},{FILE}")


@pytest.mark.parametrize("style", ["merge", "diff3"])
def test_markers_while_git_has_the_conflict(repo, fork, load, style, assert_healthy):
    _, ours, theirs = fork(PLAIN)
    repo.git("config", "merge.conflictStyle", style)
    merge_by_lines(repo)
    assert b"<<<<<<< HEAD" in repo.read(FILE)
    repo.coral("resolve", FILE, "--strategy", "average")
    assert_tensors(load(repo.read(FILE)), averaged(ours, theirs))
    repo.git("commit", "-q", "--no-edit")
    assert_healthy(repo)


@pytest.mark.parametrize("style", ["merge", "diff3"])
def test_markers_that_were_committed(repo, fork, load, style, assert_healthy):
    _, ours, theirs = fork(PLAIN)
    repo.git("config", "merge.conflictStyle", style)
    merge_by_lines(repo)
    commit_as_it_is(repo, repo.read(FILE))
    repo.git(*WITHOUT_CORAL, "commit", "-q", "--no-edit")
    repo.git(*WITHOUT_CORAL, "commit", "-q", "--allow-empty", "-m", "more")
    done = repo.run("coral", "resolve", FILE, "--tensor", "layer.0.*", "--strategy", "average", code=1)
    assert b"2 tensors need a decision" in done.stdout
    assert repo.status() == f"UU {FILE}"
    repo.coral("resolve", FILE, "--strategy", "average")
    assert_tensors(load(repo.read(FILE)), averaged(ours, theirs))
    repo.git("commit", "-qm", "mend")
    assert not repo.status()
    assert_healthy(repo)


def test_markers_around_whole_texts_need_no_history(repo, fork, load, tmp_path, assert_healthy):
    """The sides are in the text itself, as after a squash."""
    _, ours, theirs = fork(PLAIN)
    base, first, second = (repo.blob(f"{name}:{FILE}") for name in ("main~", "main", "other"))
    text = b"<<<<<<< a\n%b||||||| b\n%b=======\n%b>>>>>>> c\n" % (first, base, second)
    commit_as_it_is(repo, text)
    repo.git("commit", "-qm", "squash")
    repo.write(FILE, text)
    repo.coral("resolve", FILE, "--strategy", "average")
    assert_tensors(load(repo.read(FILE)), averaged(ours, theirs))


@pytest.mark.parametrize("committed", [True, False])
def test_a_mixture_of_lines(repo, fork, load, committed):
    _, ours, theirs = fork(PLAIN)
    merge_by_lines(repo, "-X", "theirs", *([] if committed else ["--no-commit"]), code=0)
    done = repo.run("coral", "check", code=None) if committed else None
    assert done is None or b"git coral resolve" in done.stdout + done.stderr
    said = repo.coral("resolve", FILE, "--strategy", "average")
    assert "3 merged, 1 theirs, 1 ours, 10 unchanged" in said
    assert_tensors(load(repo.read(FILE)), averaged(ours, theirs))
    repo.git("commit", "-qm", "mend")
    assert not repo.status()
    repo.coral("checkout", FILE)
    assert_tensors(load(repo.read(FILE)), averaged(ours, theirs))


def test_a_broken_manifest_of_unknown_origin(repo, fork):
    fork(PLAIN)
    text = repo.blob(f"main:{FILE}").replace(b"layer.1", b"layer.9")
    commit_as_it_is(repo, text)
    repo.git("commit", "-qm", "edit")
    repo.write(FILE, text)
    done = repo.run("coral", "resolve", FILE, "--strategy", "ours", code=19)
    assert b"no merge was found that made it" in done.stderr
    assert b"git coral resolve" not in done.stderr


# --- faults


@pytest.mark.slow
def test_killed_in_the_middle(repo, fork, load, hook_python, coral_program, assert_healthy):
    """Killed at each of its writes the path stays in conflict, and the same command settles it."""
    _, ours, theirs = fork()
    hooked = hook_python(
        "import os, signal\n"
        "from coral_git import fsops\n"
        "left = [int(os.environ.get('KILL_AT', '0'))]\n"
        "def stop(name, path):\n"
        "    left[0] -= 1\n"
        "    if not left[0]:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "fsops.set_fault_hook(stop)\n"
    )
    command = [*coral_program, "resolve", FILE, "--strategy", "average"]
    killed = 0
    for number in range(1, 200, 5):
        repo.git("merge", "-q", "other", code=1)
        environment = {**os.environ, **hooked, "KILL_AT": str(number)}
        done = subprocess.run(command, cwd=repo.path, env=environment, capture_output=True, check=False)
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
        killed += 1
        (repo.path / ".git" / "index.lock").unlink(missing_ok=True)
        if repo.git("ls-files", "-u"):
            assert len(repo.git("ls-files", "-u").splitlines()) == 3
            for path in (repo.path / ".git" / "coral" / "objects" / "incoming").glob("*"):
                path.unlink()
            repo.coral("resolve", FILE, "--strategy", "average")
        assert_tensors(load(repo.read(FILE)), averaged(ours, theirs))
        repo.git("reset", "-q", "--hard")
    assert killed > 2
    for path in (repo.path / ".git" / "coral-tmp").glob("*"):
        path.unlink()
    repo.git("merge", "--abort", code=None)
    assert_healthy(repo)
