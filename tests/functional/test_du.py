"""``git coral du``: what it says would be freed is what gc frees."""

from __future__ import annotations

import json

import numpy as np
import pytest


@pytest.fixture
def branched(repo, model, tune, safetensors):
    """Three versions on main, and one that only a tag and one that only a run has."""
    base = model()
    repo.commit("base", m__safetensors=safetensors(base))
    repo.commit("step", m__safetensors=safetensors(tune(base, 1)))
    repo.git("checkout", "-q", "-b", "side")
    other = dict(base, extra=np.random.default_rng(9).standard_normal((64, 64), np.float32))
    repo.commit("side", m__safetensors=safetensors(other))
    repo.git("tag", "-a", "-m", "side", "v-side")
    repo.git("checkout", "-q", "main")
    repo.git("branch", "-q", "-D", "side")
    repo.coral("experiment", "start", "try", "--no-environment")
    repo.write("m.safetensors", safetensors(tune(base, 5)))
    repo.coral("experiment", "log", "m.safetensors", "--metric", "loss=1")
    repo.git("checkout", "-q", "--", "m.safetensors")
    return repo


def usage(repo):
    return json.loads(repo.coral("du", "--json"))


def ref(found, name):
    (row,) = [row for row in found["refs"] if row["name"] == name]
    return row


def drop_and_collect(repo, *command):
    before = usage(repo)["store"]["live_bytes"]
    repo.run(*command)
    repo.git("reflog", "expire", "--expire=all", "--all")
    repo.git("gc", "--quiet", "--prune=now")
    repo.coral("gc", "--prune", "now", "-q")
    after = usage(repo)["store"]
    assert after["garbage_bytes"] == 0
    return before - after["live_bytes"]


def test_dropping_a_tag_frees_what_du_said(branched, assert_healthy):
    said = ref(usage(branched), "v-side")
    assert said["kind"] == "tag"
    assert 64 * 64 * 3 < said["unique_bytes"] < said["stored_bytes"]
    assert drop_and_collect(branched, "tag", "-d", "v-side") == said["unique_bytes"]
    assert_healthy(branched)


def test_dropping_a_run_frees_what_du_said(branched, assert_healthy):
    said = ref(usage(branched), "try")
    assert said["kind"] == "run"
    assert said["unique_bytes"] > 1000
    assert drop_and_collect(branched, "coral", "experiment", "delete", "try") == said["unique_bytes"]
    assert_healthy(branched)


def test_what_branches_share_is_unique_to_none(branched):
    branched.git("branch", "twin")
    found = usage(branched)
    assert ref(found, "main")["unique_bytes"] == ref(found, "twin")["unique_bytes"] == 0
    assert ref(found, "main")["versions"] == 2
    total = sum(row["stored_bytes"] for row in found["codecs"])
    assert total == found["store"]["live_bytes"]
    assert found["store"]["raw_bytes"] > total > 0


def test_files_and_tensors_of_a_revision(branched, model):
    rows = json.loads(branched.coral("du", "--json", "-t", "v-side"))
    whole, *tensors = rows
    assert whole["path"] == "m.safetensors"
    assert {row["name"] for row in tensors} == {*model(), "extra"}
    assert max(row["stored_bytes"] for row in tensors) < whole["stored_bytes"]
    (extra,) = [row for row in tensors if row["name"] == "extra"]
    assert extra["unique_bytes"] == extra["stored_bytes"] > 0
    assert "  extra" in branched.coral("du", "-t", "v-side", "--", "m.safetensors")


def test_why_tells_who_needs_an_object(branched):
    found = json.loads(branched.coral("du", "--why", "--json"))
    assert [row["stored_bytes"] for row in found] == sorted(
        (row["stored_bytes"] for row in found), reverse=True
    )
    (extra,) = [row for row in found if row["owner"] == "extra"]
    assert extra["refs"] == ["v-side"]
    assert any(row["serves"] for row in found)
    assert "tensor extra, in 1 version; needed by v-side" in branched.coral("du", "--why", "-n", "99")


def test_an_empty_repository_takes_nothing(repo):
    assert usage(repo)["store"]["live_bytes"] == 0
    assert "0 versions of files" in repo.coral("du")


def test_status_tells_the_savings(branched):
    found = json.loads(branched.coral("status", "--json"))["savings"]
    assert 0 < found["stored_bytes"] < found["raw_bytes"]
    assert "% saved)" in branched.coral("status")
