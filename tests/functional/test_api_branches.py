"""What programs do with branches: comparing, merging or leaving all as it was; one writes, many read."""

from __future__ import annotations

import json
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest

from coral_git import DeltaConfig, DeltaType, MergeConflictError, MergeStrategy, Repository, WeightTensor
from coral_git.errors import GitError, LockedError, PolicyError, UsageError


@pytest.fixture
def project(tmp_path, installed):
    with Repository(tmp_path / "models", init=True) as repository:
        yield repository


@pytest.fixture
def forked(project):
    """Both sides changed ``w`` and ``v``, each side added a tensor; ``main`` is checked out."""
    save(project, "base", w=0, v=0, same=7)
    project.create_branch("exp")
    save(project, "ours", w=1, v=1, mine=5)
    project.checkout("exp")
    save(project, "theirs", w=3, v=5, yours=6)
    project.checkout("main")
    return project


def save(project, message, **values):
    project.stage_weights({name: np.full((2, 8), value, np.float32) for name, value in values.items()})
    return project.commit(message)


def value(project, name, ref="HEAD"):
    return project.get_weight(name, ref).data[0, 0].item()


# Differences


def test_diff_of_branches_says_what_is_where(forked):
    found = forked.diff("main", "exp")
    assert (list(found.added), list(found.removed), list(found.modified)) == (["yours"], ["mine"], ["w", "v"])
    assert (found.same, found.from_ref, found.to_ref) == (1, "main", "exp")
    figures = found.modified["w"].figures
    assert (figures.values, figures.changed, figures.max_delta, figures.cosine) == (16, 16, 2.0, 1.0)
    assert found.added["yours"].shape == (2, 8)
    assert found.removed["mine"].shape is None
    said = json.loads(json.dumps(found.to_dict()))
    assert said["added"] == ["yours"]
    assert said["summary"] == {
        "total_added": 1,
        "total_removed": 1,
        "total_modified": 2,
        "total_renamed": 0,
        "total_same": 1,
    }
    assert said["modified"]["v"]["delta_norm"] == pytest.approx(16)


def test_diff_with_head_the_index_itself_and_other_files(forked, tmp_path):
    assert list(forked.diff("HEAD~1").modified) == ["w", "v"]
    assert forked.diff("main", "main").is_empty
    assert forked.diff("main", "main").same == 4
    forked.stage_weights({"w": np.zeros((4, 4), np.float64)})
    change = forked.diff("HEAD", "").modified["w"]
    assert (change.old_shape, change.shape, change.old_dtype, change.dtype) == ((2, 8), (4, 4), "F32", "F64")
    assert forked.diff("HEAD", "", figures=False).modified["w"].figures is None
    assert forked.diff("HEAD", "", file="other.safetensors").is_empty
    with pytest.raises(UsageError, match="is no commit"):
        forked.diff("nowhere", "main")


def test_diff_tells_a_renamed_tensor(project):
    project.stage_weights({"a": np.arange(9.0), "b": np.ones(3)})
    project.commit("one")
    project.stage_weights({"c": np.arange(9.0), "b": np.ones(3)}, replace=True)
    project.commit("two")
    found = project.diff("HEAD~1")
    assert {name: one.old_name for name, one in found.renamed.items()} == {"c": "a"}
    assert not found.added
    assert not found.removed


# Branches and versions


def test_branches_come_and_go(forked):
    assert forked.current_branch == "main"
    with pytest.raises(GitError, match="not fully merged"):
        forked.delete_branch("exp")
    forked.delete_branch("exp", force=True)
    assert forked.list_branches() == ["main"]
    with pytest.raises(UsageError, match="no branch 'exp'"):
        forked.delete_branch("exp")
    with pytest.raises(GitError):
        forked.delete_branch("main")
    forked.checkout("HEAD~1")
    assert forked.current_branch is None


def test_versions_by_name_and_by_id(forked):
    made = forked.tag_version("v1", "first", {"acc": 0.5}, "exp")
    assert forked.get_version("v1") == forked.get_version(made.version_id) == made
    assert made.commit_hash == forked.get_commit("exp").commit_hash
    assert [one.name for one in Repository(forked.path).list_versions()] == ["v1"]
    with pytest.raises(UsageError, match="no version 'v2'"):
        forked.get_version("v2")


# Merges


STRATEGIES = [
    ({"strategy": MergeStrategy.WEIGHTED, "merge_alpha": 0.25}, 2.5),
    ({"strategy": MergeStrategy.TASK_ARITHMETIC, "task_scaling": 0.5}, 2),
    ({"strategy": "TIES", "ties_density": 1.0, "task_scaling": 2.0}, 4),
]


def test_merge_strategies_and_their_parameters(forked, at):
    repo = at(Path(forked.path))
    for options, expected in STRATEGIES:
        merged = forked.merge("exp", **options)
        assert (merged.status, len(merged.parent_hashes)) == ("merged", 2)
        assert value(forked, "w") == pytest.approx(expected), options
        assert (value(forked, "mine"), value(forked, "yours"), value(forked, "same")) == (5, 6, 7)
        assert merged.files[0].path == "model.safetensors"
        assert "Coral-Merge: " in repo.git("log", "-1", "--format=%B")
        repo.git("reset", "-q", "--hard", "HEAD~1")


def test_what_is_dropped_at_random_is_the_share_that_was_asked_for(project):
    big = np.zeros(40_000, np.float32)
    for branch, step in (("main", 0), ("exp", 1), ("main", 2)):
        if branch == "exp":
            project.create_branch("exp")
        project.checkout(branch) if step else None
        project.stage_weights({"big": big + step})
        project.commit(f"step {step}")
    project.merge("exp", strategy="dare-linear", dare_drop_rate=0.9)
    kept = np.count_nonzero(project.get_weight("big", "HEAD").data) / big.size
    assert kept == pytest.approx(1 - 0.9**2, abs=0.02)


def test_a_conflict_lists_the_tensors_and_changes_nothing(forked, at, capfd, assert_healthy):
    before = forked.get_commit("HEAD").commit_hash
    with pytest.raises(MergeConflictError, match="2 tensors in conflict: 'w', 'v'") as caught:
        forked.merge("exp", strategy=MergeStrategy.FAIL)
    assert caught.value.conflicts == ("w", "v")
    assert list(caught.value.files) == ["model.safetensors"]
    assert capfd.readouterr() == ("", "")
    with pytest.raises(MergeConflictError):
        forked.merge("exp")
    repo = at(Path(forked.path))
    assert (repo.status(), repo.git("rev-parse", "HEAD")) == ("", before)
    assert not (repo.path / ".git" / "MERGE_HEAD").exists()
    assert forked.merge("exp", strategy="average").status == "merged"
    assert_healthy(repo)


def test_a_strategy_that_fails_is_stronger_than_what_is_configured(forked, at):
    at(Path(forked.path)).git("config", "coral.merge.strategy", "average")
    forked.close()
    with pytest.raises(MergeConflictError) as caught:
        Repository(forked.path).merge("exp", strategy="fail")
    assert caught.value.conflicts == ("w", "v")


def test_a_conflict_in_another_file_is_one_too(forked, at):
    repo = at(Path(forked.path))
    for branch, text in (("exp", b"theirs"), ("main", b"ours")):
        forked.checkout(branch)
        repo.commit("notes", notes__txt=text)
    with pytest.raises(MergeConflictError, match=r"'notes\.txt': both sides changed it") as caught:
        forked.merge("exp", strategy="average")
    assert caught.value.conflicts == ()
    assert repo.status() == ""


def test_a_merge_prints_nothing_and_says_why_git_refuses(forked, at, capfd):
    repo = at(Path(forked.path))
    repo.write("model.safetensors", b"not committed")
    with pytest.raises(GitError, match="would be overwritten"):
        forked.merge("exp", strategy="average")
    assert repo.read("model.safetensors") == b"not committed"
    repo.git("checkout", "--", "model.safetensors")
    hook = repo.path / ".git" / "hooks" / "commit-msg"
    hook.write_text("#!/bin/sh\necho no such commits here\nexit 1\n")
    hook.chmod(0o755)
    with pytest.raises(GitError, match="no such commits here"):
        forked.merge("exp", strategy="average")
    assert repo.status() == ""
    hook.unlink()
    forked.merge("exp", "both", strategy="average")
    assert capfd.readouterr() == ("", "")


def test_nothing_to_merge(forked):
    assert forked.merge("main").status == "up to date"
    forked.create_branch("behind", "main~1")
    forked.checkout("behind")
    assert forked.merge("main").status == "fast-forward"
    assert value(forked, "w") == 1


def test_bad_arguments_change_nothing(forked, at):
    for options in ({"ties_density": 0.0}, {"merge_alpha": 2.0}, {"strategy": "none"}, {"dare_drop_rate": 1}):
        with pytest.raises(UsageError):
            forked.merge("exp", **options)
    assert at(Path(forked.path)).status() == ""


def test_greedy_soup_takes_what_scores_best(forked, at):
    for best in (1, 3, 2):
        merged = forked.merge(
            "exp",
            strategy=MergeStrategy.GREEDY_SOUP,
            validation_fn=lambda weights, best=best: -abs(float(np.mean(weights["w"])) - best),
        )
        assert value(forked, "w") == best
        assert merged.scores == {
            name: -abs(one - best) for name, one in (("ours", 1), ("theirs", 3), ("average", 2))
        }
        assert value(forked, "yours") == 6
        at(Path(forked.path)).git("reset", "-q", "--hard", "HEAD~1")


def test_a_result_that_is_worse_is_refused(forked, at):
    seen = []

    def score(weights):
        seen.append(sorted(weights))
        return -weights["w"].data.mean()

    with pytest.raises(PolicyError, match=r"score -2, ours -1; nothing was merged"):
        forked.merge("exp", strategy="average", validation_fn=score)
    assert seen == [["mine", "same", "v", "w"], ["mine", "same", "v", "w", "yours"]]
    assert at(Path(forked.path)).status() == ""
    assert value(forked, "w") == 1
    merged = forked.merge("exp", strategy="average", validation_fn=lambda weights: weights["w"].data.mean())
    assert merged.scores == {"ours": 1.0, "merged": 2.0}
    with pytest.raises(UsageError, match="needs a validation_fn"):
        forked.merge("exp", strategy=MergeStrategy.GREEDY_SOUP)


# One writer, many readers

HOLD = """
import sys
from coral_git import Repository
from coral_git.store.locks import exclusive_lock
repo = Repository(sys.argv[1])
with repo._writing("stage weights"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_writer_in_another_process_is_named(forked, python):
    with subprocess.Popen(
        [python, "-c", HOLD, forked.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        said = rf"process {other.pid} on .* for stage weights"
        for write in (
            lambda: forked.stage_weights({"w": np.zeros(2)}),
            lambda: forked.commit("two", allow_empty=True),
            lambda: forked.checkout("exp"),
            lambda: forked.merge("exp", strategy="average"),
        ):
            with pytest.raises(LockedError, match=said):
                write()
        assert value(forked, "w", "exp") == 3
        other.stdin.close()
    assert forked.merge("exp", strategy="average").status == "merged"


def test_threads_read_while_another_one_writes(forked, assert_healthy, at):
    failures, done = [], threading.Event()

    def read():
        try:
            while not done.is_set():
                assert forked.get_weight("w", "exp").data[0, 0] == 3
                assert list(forked.diff("main~1", "exp").added) == ["yours"]
                assert forked.get_commit("exp").metadata.message == "theirs"
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(2):
        save(forked, f"step {number}", w=10 + number)
    forked.checkout("exp")
    forked.checkout("main")
    forked.merge("exp", strategy="ours")
    done.set()
    for thread in threads:
        thread.join()
    assert not failures
    assert_healthy(at(Path(forked.path)))


def test_threads_read_one_tensor(project):
    value = np.random.default_rng(0).standard_normal((1024, 2048), np.float32)
    project.stage_weights({"w": value})
    weight, failures = project.get_weight("w"), []
    expected = WeightTensor(value).compute_hash()

    def read():
        try:
            for _ in range(3):
                assert weight.compute_hash(force=True) == expected
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_a_tensor_that_was_got_before_a_checkout_is_still_there(forked):
    weight = forked.get_weight("w", "main")
    forked.checkout("exp")
    assert weight.data[0, 0] == 1


def test_the_delta_type_of_one_call(forked, at):
    random = np.random.default_rng(0).standard_normal((256, 256), np.float32)
    forked.stage_weights({"big": random}, delta_config=DeltaConfig(delta_type=DeltaType.FLOAT32_RAW))
    forked.commit("raw")
    codecs = json.loads(at(Path(forked.path)).coral("du", "--codecs", "--json"))
    assert "raw" in {one["name"] for one in codecs if one["raw_bytes"] > 200_000}
    forked.stage_weights({"other": random[::-1].copy()})
    forked.commit("as always")
    codecs = json.loads(at(Path(forked.path)).coral("du", "--codecs", "--json"))
    assert len({one["name"] for one in codecs if one["raw_bytes"] > 200_000}) > 1
