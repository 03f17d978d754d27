"""Branches with the best that was measured on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from coral_git.git.command import Git
from coral_git.history.commits import walk
from coral_git.history.facts import Facts
from coral_git.history.goals import Goal

_FIELDS = "%(refname:short)%00%(objectname)%00%(HEAD)%00%(symref)%00%(contents:subject)"


class Best(NamedTuple):
    """The best value of a metric, and the commit that has it."""

    value: float
    commit: str


class BranchSummary(NamedTuple):
    """A branch.

    Attributes:
        name: its name.
        commit: the id of its head.
        is_current: whether it is checked out here.
        subject: first line of the message of its head.
        best: the best value of each metric in its history.
    """

    name: str
    commit: str
    is_current: bool
    subject: str
    best: Mapping[str, Best]


def list_branches(
    git: Git, goals: Sequence[Goal] = (), order: Goal | None = None, *, with_remotes: bool = False
) -> list[BranchSummary]:
    """Every branch with the best value of each metric in its history.

    Args:
        git: runs in the repository.
        goals: the metrics; every one that was measured without any.
        order: the metric to sort by, the best branch first; by name without one.
        with_remotes: whether branches of remotes are listed too.
    """
    places = ["refs/heads/", *(["refs/remotes/"] if with_remotes else [])]
    heads = []
    output = git.run("for-each-ref", f"--format={_FIELDS}", *places).decode("utf-8", "replace")
    for line in filter(None, output.split("\n")):
        name, commit, mark, link, subject = line.split("\0")
        if not link:
            heads.append((name, commit, mark == "*", subject))
    histories = _histories(git, [commit for _, commit, _, _ in heads])
    if order is not None:
        heads.sort(key=lambda head: _rank(histories[head[1]], order))
    return [
        BranchSummary(name, commit, is_current, subject, _best(histories[commit], goals, order))
        for name, commit, is_current, subject in heads
    ]


def _histories(git: Git, heads: Sequence[str]) -> dict[str, list[tuple[str, Facts]]]:
    """For each head what is said about the commits that it reaches; the history is walked once."""
    if not heads:
        return {}
    reached: dict[str, int] = {}
    for number, head in enumerate(heads):
        reached[head] = reached.get(head, 0) | 1 << number
    found: dict[str, list[tuple[str, Facts]]] = {head: [] for head in heads}
    for commit in walk(git, ("--topo-order", *dict.fromkeys(heads))):
        bits = reached.pop(commit.oid, 0)
        for parent in commit.parents:
            reached[parent] = reached.get(parent, 0) | bits
        if commit.facts.metrics:
            for number, head in enumerate(heads):
                if bits >> number & 1:
                    found[head].append((commit.oid, commit.facts))
    return found


def _best(
    history: Sequence[tuple[str, Facts]], goals: Sequence[Goal], order: Goal | None = None
) -> dict[str, Best]:
    """The best of each metric; of the one that is sorted by, the end that the order says."""
    names = dict.fromkeys(name for _, facts in history for name in facts.metrics)
    best = {}
    for goal in goals or map(Goal.parse, names):
        chosen = order if order is not None and order.metric == goal.metric else goal
        ranked = [
            (chosen.rank(facts.metrics), oid, facts) for oid, facts in history if chosen.has(facts.metrics)
        ]
        if ranked:
            _, oid, facts = min(ranked, key=lambda one: one[0])
            best[chosen.metric] = Best(facts.metrics[chosen.metric], oid)
    return best


def _rank(history: Sequence[tuple[str, Facts]], order: Goal) -> tuple[int, float]:
    """A key to sort a branch by."""
    return min((order.rank(facts.metrics) for _, facts in history), default=order.rank({}))
