"""Choosing commits by what is said about them, and putting the best first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from coral_git.history.changes import WeightCommit
from coral_git.history.expression import Condition
from coral_git.history.goals import Goal

ALL_BRANCHES = (
    "--exclude=refs/coral/*",
    "--exclude=refs/notes/*",
    "--exclude=refs/stash",
    "--exclude=refs/worktree/*",
    "--all",
)
"""Options of ``git log`` for every branch and tag, without what coral-git keeps in refs of its own."""


def select(
    commits: Iterable[WeightCommit],
    condition: Condition | None = None,
    goal: Goal | None = None,
    limit: int | None = None,
) -> Iterator[WeightCommit]:
    """The commits that fulfil a condition.

    Args:
        commits: as they come; they stay in this order without a goal, and nothing waits for the last of them.
        condition: all of them without one.
        goal: the metric to sort by, the best first; commits without it come last.
        limit: how many to give at most.
    """
    chosen = (one for one in commits if condition is None or condition(one.commit.facts))
    if goal is None:
        return islice(chosen, limit)
    return islice(sorted(chosen, key=lambda one: goal.rank(one.commit.facts.metrics)), limit)
