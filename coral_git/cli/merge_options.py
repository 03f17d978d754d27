"""The options of the commands that merge: a strategy, its parameters, rules."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from coral_git.errors import UsageError
from coral_git.merge.settings import Wanted
from coral_git.repository.choosing import Search
from coral_git.repository.evaluating import Evaluation, Score

_PARAMETERS = (
    ("alpha", "The share of ours in 'weighted' and 'slerp', 0 to 1."),
    ("density", "The share of a difference that is kept, above 0 to 1."),
    ("scale", "What a sum of differences is multiplied by."),
    ("gamma", "The share of the largest values that 'breadcrumbs' drops."),
    ("weights", "One per side, ours first, e.g. 2/1."),
    ("seed", "Of the random masks of the 'dare' strategies."),
)


def wanted_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options about a strategy; the function gets them as one argument ``wanted``."""

    @wraps(function)
    def gather(strategy: str, rules: tuple[str, ...], normalize: bool | None, **others: object) -> object:
        parameters = {name: others.pop(name) for name, _ in _PARAMETERS}
        parameters["normalize"] = normalize
        given = {name: str(value) for name, value in parameters.items() if value is not None}
        return function(wanted=Wanted(strategy, given, rules), **others)

    options = [
        click.option("--strategy", metavar="NAME", default="", help="What becomes of contested tensors."),
        *(click.option(f"--{name}", metavar="VALUE", help=text) for name, text in _PARAMETERS),
        click.option("--normalize/--no-normalize", default=None, help="Divide sums by the sum of weights."),
        click.option(
            "--rule", "rules", metavar="PATTERN=NAME", multiple=True, help="A strategy for some tensors."
        ),
    ]
    decorated: Callable[..., Any] = gather
    for option in reversed(options):
        decorated = option(decorated)
    return decorated


def search_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options about candidates and their scores; the function gets them as one argument ``search``."""

    @wraps(function)
    def gather(
        evaluated: str | None, maximize: bool | None, sweeps: tuple[str, ...], tried: str, **others: object
    ) -> object:
        if evaluated is None:
            if sweeps or tried or maximize is not None:
                raise UsageError("candidates need a command that scores", hint="--eval './score.sh {model}'")
            return function(search=None, **others)
        evaluation = Evaluation(evaluated, maximize is not False)
        strategies = tuple(filter(None, tried.split(",")))
        return function(search=Search(evaluation, strategies, sweeps, _tell), **others)

    options = [
        click.option(
            "--eval",
            "evaluated",
            metavar="COMMAND",
            help="Scores a candidate: {model} is its file; the last number printed counts.",
        ),
        click.option("--maximize/--minimize", default=None, help="Whether a higher score is better."),
        click.option(
            "--sweep",
            "sweeps",
            metavar="NAME=FROM:TO:STEP",
            multiple=True,
            help="Values of a parameter to try.",
        ),
        click.option("--try", "tried", metavar="NAME,NAME...", default="", help="Strategies to try."),
    ]
    decorated: Callable[..., Any] = gather
    for option in reversed(options):
        decorated = option(decorated)
    return decorated


def _tell(score: Score) -> None:
    click.echo(f"{score.name}: {score.value:g}", err=True)
