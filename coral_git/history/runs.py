"""Runs of experiments: commits at ``refs/coral/runs/<name>``, off the branches.

The first commit says what is tried (parameters, environment) and stands on the commit whose code is run; each
one after it has a step with metrics, and maybe weights; the last one says how it ended.
See ``docs/format/runs.md``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from coral_git.errors import UsageError
from coral_git.git.command import Git
from coral_git.history.commits import Commit, walk
from coral_git.history.goals import Goal
from coral_git.manifest.escape import printable

RUNS = "refs/coral/runs/"
RUN = "Coral-Run"
STEP = "Coral-Step"
STATUS = "Coral-Status"
PARAMETER = "Coral-Param"


class Step(NamedTuple):
    """A commit of a run.

    Attributes:
        commit: the commit.
        number: the step it is about; None where it says none.
    """

    commit: Commit
    number: int | None

    @property
    def metrics(self) -> Mapping[str, float]:
        """What was measured."""
        return self.commit.facts.metrics


class Run(NamedTuple):
    """A run.

    Attributes:
        name: its name.
        ref: the full name of its ref.
        status: ``"running"``, ``"finished"``, ``"failed"`` or whatever was said in the end.
        parameters: what it was started with, as text.
        environment: where it was started.
        labels: words that were said about it.
        start: the commit that it began with.
        origin: the id of the commit whose code it ran; empty where there was none.
        steps: what was logged, the oldest first.
        final: the commit that ended it; it says the last value of each metric again. None while it runs.
        tip: the id of its last commit.
    """

    name: str
    ref: str
    status: str
    parameters: Mapping[str, str]
    environment: Mapping[str, str]
    labels: tuple[str, ...]
    start: Commit
    origin: str
    steps: tuple[Step, ...]
    final: Step | None
    tip: str

    @property
    def metrics(self) -> dict[str, float]:
        """The last value of each metric."""
        said = (*self.steps, *([self.final] if self.final else []))
        return {name: value for step in said for name, value in step.metrics.items()}

    def values(self, metric: str) -> list[float | None]:
        """A metric over the steps that measured anything; None where this was not measured."""
        steps = self.steps if any(metric in step.metrics for step in self.steps) else (self.final,)
        return [step.metrics.get(metric) for step in steps if step is not None and step.metrics]

    def best(self, goal: Goal) -> Step | None:
        """The step with the best value of a metric; None where none has it."""
        measured = [step for step in self.steps if goal.has(step.metrics)]
        if not measured and self.final is not None and goal.has(self.final.metrics):
            return self.final
        return min(measured, key=lambda step: goal.rank(step.metrics), default=None)

    def best_metrics(self) -> dict[str, float]:
        """The best value of each metric."""
        goals = [Goal.parse(name) for name in self.metrics]
        found = {goal.metric: self.best(goal) for goal in goals}
        return {name: step.metrics[name] for name, step in found.items() if step is not None}


def list_runs(git: Git) -> Iterator[Run]:
    """Every run of this repository, by name."""
    names = git.run("for-each-ref", "--format=%(refname)", RUNS).decode("utf-8", "replace").split("\n")
    for ref in filter(None, names):
        run = _read(git, ref)
        if run is not None:
            yield run


def read_run(git: Git, name: str) -> Run:
    """A run by its name.

    Raises:
        UsageError: there is none.
    """
    ref = RUNS + name
    if git.succeeds("check-ref-format", ref) and git.succeeds("rev-parse", "--verify", "--quiet", ref):
        run = _read(git, ref)
        if run is not None:
            return run
    raise UsageError(f"there is no run '{printable(name)}'", hint="git coral experiment list")


def _read(git: Git, ref: str) -> Run | None:
    """A run from its ref; None where that names no run."""
    commits = []
    for commit in walk(git, ("--first-parent", ref)):
        if not _said(commit, RUN):
            break
        commits.append(commit)
        if _said(commit, STATUS) == "running":
            break
    if not commits:
        return None
    start = commits[-1]
    parameters = dict(one.partition("=")[::2] for one in _all_said(start, PARAMETER))
    is_over = len(commits) > 1 and bool(_said(commits[0], STATUS))
    steps = commits[1 if is_over else 0 : -1]
    labels = dict.fromkeys(label for commit in reversed(commits) for label in commit.facts.labels)
    return Run(
        name=ref.removeprefix(RUNS),
        ref=ref,
        status=_said(commits[0], STATUS) or "running",
        parameters=parameters,
        environment=start.facts.environment,
        labels=tuple(labels),
        start=start,
        origin=start.parents[0] if start.parents else "",
        steps=tuple(Step(commit, _number(_said(commit, STEP))) for commit in reversed(steps)),
        final=Step(commits[0], None) if is_over else None,
        tip=commits[0].oid,
    )


def _all_said(commit: Commit, key: str) -> list[str]:
    return [value for name, value in commit.facts.others if name == key]


def _said(commit: Commit, key: str) -> str:
    return next(iter(_all_said(commit, key)), "")


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None
