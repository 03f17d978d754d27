"""``git coral registry``: versions are tags, what happens to them is appended, nothing is lost."""

from __future__ import annotations

import json
import subprocess

import pytest


@pytest.fixture
def released(repo, model, tune, safetensors):
    repo.commit("one", m__safetensors=safetensors(model()))
    repo.commit("two", m__safetensors=safetensors(tune(model(), 2)))
    return repo


def show(repo, what):
    return json.loads(repo.coral("registry", "show", what, "--json"))


def version(repo, what):
    (found,) = show(repo, what)["versions"]
    return found


def test_versions_aliases_and_stages(released, assert_healthy):
    released.coral("registry", "promote", "bert", "HEAD^", "--stage", "staging", "--metric", "f1=0.8")
    told = released.coral(
        "registry", "promote", "bert", "--stage", "production", "--alias", "champion", "-d", "Best"
    )
    assert told.endswith("in production, @champion")
    found = version(released, "bert@champion")
    assert (found["version"], found["stage"], found["description"]) == (2, "production", "Best")
    assert (
        found["commit"]
        == released.git("rev-parse", "HEAD")
        == released.coral("registry", "show", "bert", "--rev")
    )
    assert version(released, "bert:1")["metrics"] == {"f1": 0.8}
    (file,) = found["files"]
    listed = json.loads(released.coral("ls-tree", "HEAD", "--json"))
    assert file == {"path": "m.safetensors", "sha256": listed[0]["sha256"]}
    assert released.git("cat-file", "-t", "bert/v2") == "tag"
    released.coral("registry", "promote", "bert", "HEAD")  # the same commit is the same version
    assert [one["version"] for one in show(released, "bert")["versions"]] == [1, 2]
    assert [one["name"] for one in json.loads(released.coral("registry", "list", "--json"))] == ["bert"]
    assert "v1" in released.coral("registry", "list", "--stage", "staging")
    assert "v2" not in released.coral("registry", "list", "--stage", "staging")
    assert_healthy(released)


def test_rollback_deployments_and_history(released):
    released.coral("registry", "promote", "bert", "HEAD^", "--alias", "champion")
    released.coral("registry", "promote", "bert", "--alias", "champion")
    released.coral("registry", "deploy", "bert@champion", "--where", "eu-west/api")
    assert version(released, "bert:2")["deployments"][0]["place"] == "eu-west/api"
    assert released.coral("registry", "rollback", "bert", "champion") == "@champion of bert is v1 again"
    assert released.coral("registry", "alias", "bert", "champion") == "1"
    released.coral("registry", "deploy", "bert:2", "--where", "eu-west/api", "--withdraw")
    assert version(released, "bert:2")["deployments"] == []
    released.coral("registry", "alias", "bert", "champion", "--delete")
    assert show(released, "bert")["aliases"] == {}
    kinds = [event["kind"] for event in json.loads(released.coral("registry", "history", "bert", "--json"))]
    assert kinds == ["alias", "alias", "deployed", "alias", "withdrawn", "alias"]
    assert released.git("log", "--format=%an", "refs/coral/registry/bert").splitlines() == ["T"] * 6
    assert released.coral("registry", "history", "bert").splitlines()[-1].endswith("@champion is v1")


def test_the_form_on_disk(released):
    released.coral(
        "registry", "promote", "bert", "--alias", "champion", "--metric", "f1=0.9", "--label", "x y"
    )
    digest = json.loads(released.coral("ls-tree", "HEAD", "--json"))[0]["sha256"]
    tag = released.git("cat-file", "tag", "bert/v1").partition("\n\n")[2]
    assert tag == (
        "bert v1\n\nCoral-Model: bert\nCoral-Version: 1\n"
        f"Coral-File: {digest} m.safetensors\nCoral-Metric: f1=0.9\nCoral-Tag: x y"
    )
    event = released.git("cat-file", "commit", "refs/coral/registry/bert")
    assert event.startswith("tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\nauthor T ")
    assert event.partition("\n\n")[2] == "@champion is v1\n\nCoral-Model: bert\nCoral-Alias: champion=1"


def test_two_people_lose_nothing(released, make_repo, at, tmp_path, assert_healthy):
    hub = make_repo("hub", bare=True)
    released.git("remote", "add", "origin", hub.path)
    released.coral("push", "-u", "origin", "main")
    released.coral("registry", "promote", "bert", "HEAD^")
    released.coral("registry", "promote", "bert", "HEAD", "--alias", "champion")
    released.coral("registry", "push", "bert")
    released.git("clone", "-q", hub.path, tmp_path / "other")
    other = at(tmp_path / "other")
    other.coral("registry", "fetch", "bert")
    assert show(other, "bert") == show(released, "bert")
    other.coral("registry", "alias", "bert", "challenger", "1")
    released.coral("registry", "deploy", "bert@champion", "--where", "prod")
    released.coral("registry", "push", "bert")
    refused = other.run("coral", "registry", "push", "bert", code=1)
    assert b"hint: git coral registry fetch bert" in refused.stderr
    other.coral("registry", "fetch", "bert")
    other.coral("registry", "push", "bert")
    released.coral("registry", "fetch", "bert")
    assert show(other, "bert") == show(released, "bert")
    assert show(other, "bert")["aliases"] == {"champion": 2, "challenger": 1}
    assert version(other, "bert:2")["deployments"][0]["place"] == "prod"
    assert_healthy(other)
    assert_healthy(released)


def test_several_processes_append(released, coral_program):
    released.coral("registry", "promote", "bert")
    running = [
        subprocess.Popen(
            [*coral_program, "registry", "alias", "bert", f"a{number}", "1"],
            cwd=released.path,
            stdout=subprocess.DEVNULL,
        )
        for number in range(6)
    ]
    assert [process.wait() for process in running] == [0] * 6
    assert show(released, "bert")["aliases"] == {f"a{number}": 1 for number in range(6)}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("show", "gpt"), b"error: there is no model 'gpt'\nhint: git coral registry list"),
        (("show", "bert:9"), b"error: model 'bert' has no version '9'"),
        (("show", "bert@nobody"), b"error: model 'bert' has no version '@nobody'"),
        (("promote", "a b"), b"error: 'a b' is no name of a model"),
        (("promote", "bert", "nothing"), b"error: 'nothing' is no commit"),
        (("promote", "bert", "HEAD", "gone.bin"), b"has no weight file 'gone.bin'"),
        (("alias", "bert", "x/y", "1"), b"error: 'x/y' is no name of an alias"),
        (("rollback", "bert", "champion"), b"named no other version before"),
        (("deploy", "bert", "--where", "a\nb"), b"error: a place is a line of text"),
    ],
)
def test_bad_input_is_refused(released, words, message):
    released.coral("registry", "promote", "bert")
    done = released.run("coral", "registry", *words, code=2)
    assert message in done.stderr
    assert b"Traceback" not in done.stderr


def test_tags_of_others_are_no_versions(released):
    released.git("tag", "-a", "-m", "no trailers", "bert/v1")
    released.git("tag", "bert/v2")
    assert json.loads(released.coral("registry", "list", "--json")) == []
