"""Options that say something about a version: metrics, labels, the environment."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import click

from coral_git.history.facts import check_label, parse_metrics
from coral_git.history.metrics_file import read_metrics_file

F = TypeVar("F", bound=Callable[..., object])


def said_options(function: F) -> F:
    """``--metric``, ``--metrics-file`` and ``--label``."""
    for option in (
        click.option("--label", "labels", multiple=True, metavar="WORD", help="A word to find it by."),
        click.option(
            "--metrics-file",
            "files",
            multiple=True,
            type=click.Path(exists=True, dir_okay=False),
            help="Take every number of a JSON or JSON-lines file that training wrote.",
        ),
        click.option("--metric", "metrics", multiple=True, metavar="NAME=VALUE", help="What was measured."),
    ):
        function = option(function)
    return function


def metrics_of(files: Iterable[str], words: Iterable[str]) -> dict[str, float]:
    """Metrics of files, and those that were given one by one, which win.

    Raises:
        UsageError: one cannot be understood.
    """
    found: dict[str, float] = {}
    for path in files:
        found.update(read_metrics_file(path))
    found.update(parse_metrics(words))
    return found


def labels_of(words: Iterable[str]) -> tuple[str, ...]:
    """Labels, checked.

    Raises:
        UsageError: one is none.
    """
    return tuple(check_label(word) for word in words)
