"""Steps of runs that are chosen by a word, and branches and tags of them."""

from __future__ import annotations

from coral_git.errors import UsageError
from coral_git.git.chains import check_name, tip
from coral_git.history.checkpoints import BEST, list_checkpoints, read_checkpoints
from coral_git.history.goals import Goal
from coral_git.history.runs import Run, Step
from coral_git.history.tags import NewTag, make_tag
from coral_git.manifest.escape import printable
from coral_git.pipeline.workspace import Workspace


def find_kept(workspace: Workspace, run: Run, place: str, goal: Goal | None = None) -> Step:
    """A step with weights, by a word: ``best``, ``last``, or its number.

    Where a run has checkpoints, these have the weights, and only those that are kept are found. Without a
    goal ``best`` is the last one that was the best when it was saved.

    Args:
        workspace: the repository.
        run: the run.
        place: the word.
        goal: what is best.

    Raises:
        UsageError: there is no such step.
    """
    kept = list_checkpoints(workspace.git, run.name)
    if not kept:
        return find_step(run, place, goal)
    commits = read_checkpoints(workspace.git, kept)
    steps = tuple(Step(commit, one.step) for one, commit in zip(kept, commits, strict=True))
    labelled = [step for step in steps if BEST in step.commit.facts.labels]
    if place == "best" and goal is None and labelled:
        return labelled[-1]
    try:
        return find_step(run._replace(steps=steps, final=None), place, goal)
    except UsageError as error:
        if error.hint or not place.isdigit():
            raise
        numbers = [str(step.number) for step in steps]
        shown = ", ".join(numbers[-8:]) + (f" and {len(numbers) - 8} earlier" if len(numbers) > 8 else "")
        raise UsageError(
            f"the run '{printable(run.name)}' has no checkpoint of step {printable(place)}",
            hint=f"kept: {shown}",
        ) from error


def find_step(run: Run, place: str, goal: Goal | None = None) -> Step:
    """A step of a run by a word: ``best`` (of a metric), ``last``, or its number.

    Raises:
        UsageError: there is no such step.
    """
    if place == "best":
        if goal is None:
            names = list(run.metrics)
            if len(names) != 1:
                raise UsageError("best of which metric?", hint=f"--metric {' or '.join(names) or 'NAME'}")
            goal = Goal.parse(names[0])
        step = run.best(goal)
        if step is None:
            raise UsageError(f"the run '{printable(run.name)}' has no metric '{goal.metric}'")
        return step
    if place in ("", "last"):
        if run.steps:
            return run.steps[-1]
        raise UsageError(f"the run '{printable(run.name)}' has no steps")
    found = [step for step in run.steps if place in (str(step.number), step.commit.oid)]
    if not found:
        raise UsageError(f"the run '{printable(run.name)}' has no step '{printable(place)}'")
    return found[-1]


def promote(workspace: Workspace, run: Run, step: Step, name: str, *, as_tag: bool, force: bool) -> None:
    """Make a branch or a tag of a step.

    Raises:
        UsageError: there is such a branch or tag already.
    """
    git = workspace.git
    if as_tag:
        description = f"{step.commit.subject} of run {run.name}"
        make_tag(git, NewTag(name, step.commit.oid, description, step.metrics, force=force))
        return
    check_name(git, f"refs/heads/{name}", name)
    if not force and tip(git, f"refs/heads/{name}"):
        raise UsageError(f"branch '{printable(name)}' exists already", hint="--force moves it")
    git.run("branch", *(["--force"] if force else []), "--", name, step.commit.oid)
