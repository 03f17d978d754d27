"""``git coral experiment``: runs are kept off the branches, lose nothing, and travel by name."""

from __future__ import annotations

import json
import subprocess

import pytest


@pytest.fixture
def based(repo, model, safetensors):
    repo.commit("base", m__safetensors=safetensors(model()))
    return repo


def show(repo, name):
    return json.loads(repo.coral("experiment", "show", name, "--json"))


def test_a_run_does_not_touch_what_the_user_works_on(based, model, tune, safetensors, assert_healthy):
    before = based.git("rev-parse", "HEAD"), based.read(".git/index"), based.git("for-each-ref", "refs/heads")
    based.coral("experiment", "start", "lr", "--param", "lr=3e-4", "--label", "sweep", "-d", "a try")
    tuned = safetensors(tune(model(), 3))
    based.write("m.safetensors", tuned)
    based.coral("experiment", "log", "--metric", "loss=0.5", "--metric", "accuracy=0.7", "m.safetensors")
    based.coral("experiment", "log", "--metric", "loss=0.25", "--step", "10")
    assert before == (
        based.git("rev-parse", "HEAD"),
        based.read(".git/index"),
        based.git("for-each-ref", "refs/heads"),
    )
    assert based.read("m.safetensors") == tuned
    found = show(based, "lr")
    assert found["status"] == "running"
    assert found["parameters"] == {"lr": "3e-4"}
    assert found["labels"] == ["sweep"]
    assert found["environment"]["python"]
    assert found["origin"] == before[0]
    assert [(step["step"], step["metrics"]) for step in found["steps"]] == [
        (1, {"loss": 0.5, "accuracy": 0.7}),
        (10, {"loss": 0.25}),
    ]
    assert based.run("coral", "cat", "refs/coral/runs/lr:m.safetensors").stdout == tuned
    assert "a try" in based.coral("experiment", "show")
    based.coral("experiment", "end", "--metric", "test=0.6")
    ended = show(based, "lr")
    assert ended["status"] == "finished"
    assert ended["metrics"] == {"loss": 0.25, "accuracy": 0.7, "test": 0.6}
    based.git("checkout", "-q", "--", "m.safetensors")
    assert_healthy(based)


def test_the_best_of_several_runs(based):
    for name, values in (("a", (3, 1, 2)), ("b", (2.5, 0.5)), ("c", (9,))):
        based.coral(
            "experiment", "start", name, "--param", f"seed={name}", "--param", "bs=8", "--no-environment"
        )
        for value in values:
            based.coral("experiment", "log", "--metric", f"loss={value}", "--metric", f"speed={10 * value}")
    best = json.loads(based.coral("experiment", "best", "--metric", "loss", "--json"))
    assert (best["run"], best["step"], best["value"]) == ("b", 2, 0.5)
    assert based.coral("experiment", "best", "--metric", "min:speed").startswith("b step 2 ")
    assert based.coral("experiment", "best", "--metric", "speed").startswith("c step 1 ")
    assert based.coral("experiment", "best", "--metric", "loss", "a", "c").startswith("a step 2 ")
    names = [
        run["name"] for run in json.loads(based.coral("experiment", "list", "--sort-by", "loss", "--json"))
    ]
    assert names == ["b", "a", "c"]
    assert based.coral("experiment", "list", "--filter", "loss > 5").split()[0] == "c"
    compared = based.coral("experiment", "compare", "a", "b")
    assert "seed" in compared
    assert "bs" not in compared
    assert "0.5 *" in compared
    based.coral("experiment", "promote", "a/best", "winner", "--metric", "loss")
    assert based.git("log", "-1", "--format=%s", "winner") == "step 2"
    based.coral("experiment", "promote", "a/3", "third", "--tag")
    assert "Coral-Metric: loss=2" in based.git("tag", "-n99", "-l", "third")
    refused = based.run("coral", "experiment", "promote", "a", "winner", code=2)
    assert b"branch 'winner' exists already" in refused.stderr


def test_a_command_as_an_experiment(based, model, tune, safetensors, python, assert_healthy):
    data = safetensors(tune(model(), 4))
    based.write("new.bin", data)
    script = (
        "import os, shutil, json; shutil.copyfile('new.bin', 'm.safetensors');"
        "json.dump({'name': 1 if os.environ['CORAL_RUN'] == 'fit' else 0, 'loss': 0.5}, open('r.json', 'w'))"
    )
    words = ("coral", "experiment", "run", "fit", "--metrics-file", "r.json", "--keep", "m.safetensors", "--")
    based.run(*words, python, "-c", script)
    found = show(based, "fit")
    assert (found["status"], found["metrics"]) == ("finished", {"name": 1, "loss": 0.5})
    assert based.run("coral", "cat", "refs/coral/runs/fit:m.safetensors").stdout == data
    based.run("coral", "experiment", "run", "bad", "--", python, "-c", "raise SystemExit(7)", code=7)
    assert show(based, "bad")["status"] == "failed"
    nothing = based.run("coral", "experiment", "run", "none", "--", "./there-is-no-such-program", code=2)
    assert b"cannot run './there-is-no-such-program'" in nothing.stderr
    based.git("checkout", "-q", "--", "m.safetensors")
    assert_healthy(based)


def test_runs_are_pushed_and_fetched_by_name(
    based, make_repo, at, tmp_path, model, tune, safetensors, assert_healthy
):
    hub = make_repo("hub", bare=True)
    based.git("remote", "add", "origin", hub.path)
    based.coral("experiment", "start", "one", "--no-environment")
    tuned = safetensors(tune(model(), 3))
    based.write("m.safetensors", tuned)
    based.coral("experiment", "log", "m.safetensors")
    based.git("checkout", "-q", "--", "m.safetensors")
    based.coral("push", "origin", "main")
    assert hub.git("for-each-ref", "refs/coral/runs") == ""
    based.coral("experiment", "push", "one")
    based.git("clone", "-q", hub.path, tmp_path / "other")
    other = at(tmp_path / "other")
    assert other.git("for-each-ref", "refs/coral/runs") == ""
    other.coral("experiment", "fetch", "*")
    assert other.run("coral", "cat", "refs/coral/runs/one:m.safetensors").stdout == tuned
    assert show(other, "one")["steps"] == show(based, "one")["steps"]
    assert_healthy(based)
    assert_healthy(other)


def test_several_processes_log_to_one_run(based, coral_program):
    based.coral("experiment", "start", "busy", "--no-environment")
    running = [
        subprocess.Popen(
            [
                *coral_program,
                "experiment",
                "log",
                "--run",
                "busy",
                "--step",
                str(number),
                "--metric",
                f"x={number}",
            ],
            cwd=based.path,
            stdout=subprocess.DEVNULL,
        )
        for number in range(8)
    ]
    assert [process.wait() for process in running] == [0] * 8
    assert sorted(step["step"] for step in show(based, "busy")["steps"]) == list(range(8))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("log",), b"error: no run was started here\nhint: git coral experiment start"),
        (("show", "nope"), b"error: there is no run 'nope'"),
        (("start", "a..b"), b"error: 'a..b' is no name git would take"),
        (("start", "x", "--param", "lr"), b"error: 'lr' is no parameter"),
        (("best", "--metric", "loss"), b"error: no run has the metric 'loss'"),
        (("run", "x"), b"error: no command"),
        (("end", "--status", "running"), b"error: 'running' is no word for an end"),
    ],
)
def test_bad_input_is_refused(based, words, message):
    assert message in based.run("coral", "experiment", *words, code=2).stderr


def test_what_cannot_be_logged(based):
    based.coral("experiment", "start", "r", "--no-environment")
    assert b"nothing to log" in based.run("coral", "experiment", "log", code=2).stderr
    assert b"is no metric" in based.run("coral", "experiment", "log", "--metric", "x=high", code=2).stderr
    based.write("raw.txt", b"text")
    assert b"'raw.txt' is not tracked" in based.run("coral", "experiment", "log", "raw.txt", code=2).stderr
    assert b"no file of this work tree" in based.run("coral", "experiment", "log", "gone.bin", code=2).stderr
    based.coral("experiment", "end", "--status", "failed")
    ended = based.run("coral", "experiment", "log", "--run", "r", "--metric", "x=1", code=2).stderr
    assert b"the run 'r' is failed" in ended
    assert b"already" in based.run("coral", "experiment", "start", "r", code=2).stderr
    based.coral("experiment", "delete", "r", "--dry-run")
    based.coral("experiment", "delete", "r")
    assert based.git("for-each-ref", "refs/coral/runs") == ""


def test_a_run_in_a_repository_without_commits(repo):
    repo.coral("experiment", "start", "first", "--no-environment")
    repo.coral("experiment", "log", "--metric", "x=1")
    assert show(repo, "first")["origin"] == ""
    assert repo.run("rev-parse", "--verify", "--quiet", "HEAD", code=1)


def test_names_and_texts_are_escaped(based):
    based.coral(
        "experiment", "start", "r", "--param", "p=\x1b[31mred", "--no-environment", "-d", "\x1b]0;title\x07"
    )
    shown = based.coral("experiment", "show", "r") + based.coral("experiment", "list")
    assert "\x1b" not in shown
    assert "\\x1b[31mred" in shown
