"""``git coral cherry-pick`` and ``git coral revert``: the change of a commit as a task vector."""

from __future__ import annotations

import json

import numpy as np
import pytest

FILE = "m.safetensors"


@pytest.fixture
def history(repo, safetensors, model):
    """``topic`` changed two tensors in one commit; ``main`` went on from there in another way."""
    base = model()
    random = np.random.default_rng(4)

    def moved(tensors, *names):
        return {
            **tensors,
            **{
                name: (tensors[name] + random.standard_normal(tensors[name].shape) / 50).astype(np.float32)
                for name in names
            },
        }

    repo.commit("base", m__safetensors=safetensors({**base, "step": np.array([1])}), notes__txt=b"one\n")
    repo.git("switch", "-q", "-c", "topic")
    topic = moved(base, "embed.weight", "layer.0.weight")
    repo.commit("Learn law", m__safetensors=safetensors({**topic, "step": np.array([2])}), law__txt=b"law\n")
    repo.git("switch", "-q", "main")
    ours = moved(base, "embed.weight", "layer.1.weight")
    repo.commit("ours", m__safetensors=safetensors({**ours, "step": np.array([3])}))
    return base, topic, ours


def read(repo):
    return pytest.importorskip("safetensors.numpy").load(repo.read(FILE))


def close(one, other):
    return np.allclose(one, other, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("scale", [0.7, 1.0, -0.5])
def test_a_change_is_added_times_a_factor(repo, history, scale, assert_healthy):
    base, topic, ours = history
    said = repo.coral(
        "cherry-pick", "--scale", scale if isinstance(scale, str) else str(scale), "-x", "topic"
    )
    found = read(repo)
    for name in base:
        delta = topic[name].astype(float) - base[name]
        assert close(found[name], ours[name] + scale * delta), name
    assert np.array_equal(found["layer.2.weight"], base["layer.2.weight"])
    assert found["step"] == 3, "integers stay ours"
    assert repo.read("law.txt") == b"law\n"
    source = repo.git("rev-parse", "topic")
    body = repo.git("log", "-1", "--format=%B")
    assert body.startswith("Learn law\n")
    assert f"(cherry picked from commit {source})" in body
    assert f"Coral-Cherry-Pick: {source} scale={scale:g}" in body
    assert f"applied {source[:12]}, as {repo.git('rev-parse', 'HEAD')[:12]}" in said
    assert not repo.status()
    assert_healthy(repo)


def test_a_change_is_taken_back(repo, history, assert_healthy):
    base, topic, ours = history
    repo.git("merge", "-q", "--no-edit", "topic", env={"CORAL_MERGE_STRATEGY": "task-arithmetic"})
    merged = read(repo)
    repo.coral("revert", "topic")
    found = read(repo)
    for name in base:
        assert close(found[name], ours[name]), name
    assert not (repo.path / "law.txt").exists()
    assert repo.git("log", "-1", "--format=%s") == 'Revert "Learn law"'
    assert f"Coral-Revert: {repo.git('rev-parse', 'topic')} scale=1" in repo.git("log", "-1", "--format=%B")
    repo.git("reset", "-q", "--hard", "HEAD~1")
    repo.coral("revert", "--scale", "0.25", "--no-commit", "topic")
    delta = topic["embed.weight"].astype(float) - base["embed.weight"]
    assert close(read(repo)["embed.weight"], merged["embed.weight"] - 0.25 * delta)
    assert repo.status() == f"D  law.txt\nM  {FILE}"
    assert_healthy(repo)


def test_ranges_and_merges(repo, history, safetensors, assert_healthy):
    _, topic, ours = history
    repo.git("switch", "-q", "topic")
    second = {**topic, "layer.2.weight": topic["layer.2.weight"] + np.float32(0.5)}
    repo.commit("more", m__safetensors=safetensors({**second, "step": np.array([2])}))
    repo.git("switch", "-q", "main")
    found = json.loads(repo.coral("cherry-pick", "--json", "main..topic"))
    assert [one["source"] for one in found] == repo.git("rev-list", "--reverse", "main~2..topic").split()
    assert close(read(repo)["layer.2.weight"], second["layer.2.weight"])
    repo.git("reset", "-q", "--hard", "main~2")
    repo.git("merge", "-q", "--no-ff", "--no-edit", "topic", env={"CORAL_MERGE_STRATEGY": "task-arithmetic"})
    assert b"is a merge" in repo.run("coral", "revert", "HEAD", code=2).stderr
    assert b"has no parent 3" in repo.run("coral", "revert", "-m", "3", "HEAD", code=2).stderr
    repo.coral("revert", "-m", "1", "HEAD")
    assert close(read(repo)["embed.weight"], ours["embed.weight"])
    assert_healthy(repo)


def test_what_is_refused_changes_nothing(repo, history, safetensors, assert_healthy):
    base, _, _ = history
    root = repo.git("rev-list", "--max-parents=0", "HEAD")
    assert b"has no parent" in repo.run("coral", "cherry-pick", root, code=2).stderr
    assert b"'nothing' is no commit" in repo.run("coral", "revert", "nothing", code=2).stderr
    repo.write("notes.txt", b"mine\n")
    assert b"local changes" in repo.run("coral", "cherry-pick", "topic", code=2).stderr
    repo.commit("notes")
    repo.git("switch", "-q", "topic")
    wider = {**base, "embed.weight": np.zeros((3, 3), np.float32)}
    repo.commit("wider", m__safetensors=safetensors(wider))
    repo.commit("notes too", notes__txt=b"theirs\n")
    repo.git("switch", "-q", "main")
    before = (repo.git("rev-parse", "HEAD"), repo.read(FILE))
    done = repo.run("coral", "cherry-pick", "--scale", "0.5", "topic~1", code=1)
    assert b"1 tensor needs a decision" in done.stderr
    done = repo.run("coral", "cherry-pick", "topic", code=1)
    assert b"contradicts HEAD in files that are no weights" in done.stderr
    assert (repo.git("rev-parse", "HEAD"), repo.read(FILE)) == before
    assert not repo.status()
    assert_healthy(repo)
