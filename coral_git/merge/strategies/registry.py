"""Which strategies there are. A strategy is loaded when it is asked for: most need numpy."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING

from coral_git.errors import UsageError

if TYPE_CHECKING:
    from coral_git.merge.strategies.base import Strategy

ENTRY_POINT_GROUP = "coral_git.merge_strategies"
"""Installed packages offer further strategies here: objects, or classes to be called without arguments."""

_OWN = {
    "average": ("average", "Average"),
    "weighted": ("weighted", "Weighted"),
    "task-arithmetic": ("task_arithmetic", "TaskArithmetic"),
    "ties": ("ties", "Ties"),
    "dare-ties": ("dare_ties", "DareTies"),
    "dare-linear": ("dare_linear", "DareLinear"),
    "slerp": ("slerp", "Slerp"),
    "breadcrumbs": ("breadcrumbs", "Breadcrumbs"),
    "model-stock": ("model_stock", "ModelStock"),
}


def strategy_names() -> tuple[str, ...]:
    """The names of coral-git's own strategies that compute tensors."""
    return tuple(_OWN)


@cache
def strategy_by_name(name: str) -> Strategy:
    """A strategy: coral-git's own, or one that an installed package offers.

    Raises:
        UsageError: there is none of this name.
    """
    from importlib import import_module

    if name in _OWN:
        module, kind = _OWN[name]
        made: Strategy = getattr(import_module(f"coral_git.merge.strategies.{module}"), kind)()
        return made
    for found in _installed():
        if found.name == name:
            return found
    raise UsageError(
        f"there is no merge strategy {name!a}",
        hint=f"it is one of: ours, theirs, base, fail, {', '.join(_OWN)}",
    )


def _installed() -> Iterator[Strategy]:
    from importlib.metadata import entry_points

    for point in entry_points(group=ENTRY_POINT_GROUP):
        found = point.load()
        yield found() if isinstance(found, type) else found
