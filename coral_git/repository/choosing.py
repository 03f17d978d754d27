"""The best of several merges, by the score that a command of the user gives them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from coral_git.errors import CoralError, UsageError
from coral_git.git.revisions import resolve_commit
from coral_git.merge.settings import as_options
from coral_git.pipeline.workspace import Workspace
from coral_git.repository.evaluating import (
    Candidates,
    Evaluation,
    Score,
    greedy_soup,
    grid,
    parse_sweep,
    soup_choice,
)
from coral_git.repository.merging import MergeOptions, MergeResult, merge_branch
from coral_git.repository.octopus import merge_branches, merge_models
from coral_git.repository.unfinished import require_work_tree

GREEDY_SOUP = "greedy-soup"
"""The strategy that is made of evaluations alone."""


class Search(NamedTuple):
    """What is tried, and how it is scored.

    Attributes:
        evaluation: the command, and what is better.
        strategies: those to try; none for the one that is in force.
        sweeps: parameters with their values, as ``parse_sweep`` reads them.
        tell: is called with each score.
    """

    evaluation: Evaluation
    strategies: tuple[str, ...] = ()
    sweeps: tuple[str, ...] = ()
    tell: Callable[[Score], None] = lambda score: None


def merge_best(
    workspace: Workspace, branches: Sequence[str], options: MergeOptions, search: Search
) -> MergeResult:
    """Try candidates, and merge with the best one; every score is recorded in the commit.

    Raises:
        UsageError: a candidate cannot be understood, or there is nothing to score.
        CoralError: a candidate is a conflict, the command fails, or nothing is as good as what HEAD has.
    """
    require_work_tree(workspace)
    allowed = search.evaluation._replace(allow_nonfinite=options.allow_nonfinite)
    search = search._replace(evaluation=allowed)
    if options.wanted.strategy == GREEDY_SOUP:
        return _merge_soup(workspace, branches, options, search)
    sweeps = [parse_sweep(text) for text in search.sweeps]
    candidates = grid(options.wanted, search.strategies, sweeps)
    for _, wanted in candidates:
        as_options(wanted)  # all of them are understood before the first is computed
    scored = Candidates(workspace, branches, search.evaluation, search.tell)
    ours = scored.side(0, "ours")
    values = [scored.merged(name, wanted) for name, wanted in candidates]
    best = (max if search.evaluation.maximize else min)(range(len(values)), key=values.__getitem__)
    if search.evaluation.is_better(ours, values[best]):
        raise CoralError(
            f"the best merge ({candidates[best][0]}: {values[best]:g}) is worse than HEAD ({ours:g})",
            hint="nothing was merged",
        )
    chosen = options._replace(wanted=candidates[best][1], trailers=_trailers(scored.scores))
    if len(branches) == 1:
        return merge_branch(workspace, branches[0], chosen)
    return merge_branches(workspace, branches, chosen)


def _merge_soup(
    workspace: Workspace, branches: Sequence[str], options: MergeOptions, search: Search
) -> MergeResult:
    if search.sweeps or search.strategies:
        raise UsageError(f"'{GREEDY_SOUP}' has nothing to sweep or to try")
    scored = Candidates(workspace, branches, search.evaluation, search.tell)
    members = greedy_soup(scored, ["ours", *branches], search.evaluation)
    if members == [0]:
        return MergeResult("up to date", resolve_commit(workspace.git, "HEAD"), [])
    chosen = sorted({0, *members})
    models = ["HEAD" if number == 0 else branches[number - 1] for number in chosen]
    choice = soup_choice([chosen.index(number) for number in members], len(chosen))
    message = options.message or f"Merge a soup of {', '.join(repr(name) for name in models)}"
    return merge_models(
        workspace, choice, models, "", options._replace(message=message, trailers=_trailers(scored.scores))
    )


def _trailers(scores: Sequence[Score]) -> tuple[str, ...]:
    return tuple(f"Coral-Merge-Score: {score.name} {score.value:g}" for score in scores)
