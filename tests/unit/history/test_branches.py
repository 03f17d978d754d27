"""Branches with the best that was measured on them."""

from __future__ import annotations

import pytest

from coral_git.history.branches import list_branches
from coral_git.history.goals import Goal


def measured(*metrics):
    return "s\n\n" + "".join(f"Coral-Metric: {one}\n" for one in metrics)


@pytest.fixture
def forked(history):
    """``main`` and ``side`` with a common past; ids by name."""
    base = history.commit(measured("accuracy=0.5", "loss=2"))
    best = history.commit(measured("accuracy=0.9", "loss=nan"))
    main = history.commit(measured("accuracy=0.7", "loss=1", "extra=1"))
    side = history.commit(measured("accuracy=0.8", "loss=0.5"), parents=[base], branch="side")
    return {"base": base, "best": best, "main": main, "side": side}


def test_the_best_of_each_history(history, forked):
    main, side = list_branches(history.runner)
    assert (main.name, main.commit, main.is_current, main.subject) == ("main", forked["main"], False, "s")
    assert (side.name, side.is_current) == ("side", True)
    assert {name: tuple(best) for name, best in main.best.items()} == {
        "accuracy": (0.9, forked["best"]),
        "loss": (1.0, forked["main"]),
        "extra": (1.0, forked["main"]),
    }
    assert {name: tuple(best) for name, best in side.best.items()} == {
        "accuracy": (0.8, forked["side"]),
        "loss": (0.5, forked["side"]),
    }


def test_goals_choose_metrics_and_ends(history, forked):
    goals = [Goal.parse("min:accuracy"), Goal.parse("nothing")]
    for branch in list_branches(history.runner, goals):
        assert {name: tuple(best) for name, best in branch.best.items()} == {
            "accuracy": (0.5, forked["base"])
        }


def test_an_order_says_which_end_is_the_best(history, forked):
    def found(order, *goals):
        listed = list_branches(history.runner, goals, Goal.parse(order))
        return [(one.name, {name: best.value for name, best in one.best.items()}) for one in listed]

    assert [name for name, _ in found("loss")] == ["side", "main"]
    assert [name for name, _ in found("extra")] == ["main", "side"]
    assert [best["loss"] for _, best in found("max:loss")] == [2.0, 2.0]
    assert found("accuracy", Goal("loss", True)) == [("main", {"loss": 1.0}), ("side", {"loss": 0.5})]


def test_branches_at_the_same_commit_and_a_merge(history, forked):
    merge = history.commit("merge", parents=[forked["main"], forked["side"]])
    history.git("branch", "copy", "main")
    history.git("branch", "old", forked["base"])
    best = {one.name: one.best["accuracy"] for one in list_branches(history.runner)}
    assert best["copy"] == best["main"] == (0.9, forked["best"])
    assert best["old"] == (0.5, forked["base"])
    assert next(one for one in list_branches(history.runner) if one.name == "main").commit == merge


def test_odd_subjects_and_names(history):
    history.commit("a\x0cb\u2028c\x85d\x1ce", branch="größe/a\u2028b")
    history.git("symbolic-ref", "refs/heads/link", "refs/heads/größe/a\u2028b")
    (found,) = list_branches(history.runner)
    assert (found.name, found.subject) == ("größe/a\u2028b", "a\x0cb\u2028c\x85d\x1ce")


def test_branches_of_remotes(history, forked):
    history.git("update-ref", "refs/remotes/origin/main", forked["best"])
    history.git("symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/main")
    names = [one.name for one in list_branches(history.runner, with_remotes=True)]
    assert names == ["main", "side", "origin/main"]
    assert [one.name for one in list_branches(history.runner)] == ["main", "side"]


def test_no_commit_yet(history):
    assert list_branches(history.runner) == []
