"""Which strategies there are, by name, and what can be known of them without loading numpy."""

from __future__ import annotations

from importlib import import_module
from typing import NamedTuple

from coral_git.errors import CoralError, UsageError
from coral_git.merge.strategies.base import Strategy

ENTRY_POINT_GROUP = "coral_git.merge_strategies"
"""Installed packages offer further strategies here, by name: objects, or classes without arguments."""


class Offered(NamedTuple):
    """A strategy that coral-git has.

    Attributes:
        class_name: its class, in the module of these strategies that has its name.
        needs_base: whether it works with differences to the common ancestor.
        most_sides: how many sides it can merge; None for any number.
    """

    class_name: str
    needs_base: bool
    most_sides: int | None = None


STRATEGIES: dict[str, Offered] = {
    "average": Offered("Average", needs_base=False),
    "weighted": Offered("Weighted", needs_base=False),
    "slerp": Offered("Slerp", needs_base=False, most_sides=2),
    "task-arithmetic": Offered("TaskArithmetic", needs_base=True),
    "ties": Offered("Ties", needs_base=True),
    "dare-linear": Offered("DareLinear", needs_base=True),
    "dare-ties": Offered("DareTies", needs_base=True),
    "breadcrumbs": Offered("Breadcrumbs", needs_base=True),
    "model-stock": Offered("ModelStock", needs_base=True),
}
"""coral-git's own strategies. Installed ones are looked for only under other names."""


def strategy_by_name(name: str) -> Strategy:
    """The strategy with the given name; its module is loaded now.

    Raises:
        UsageError: there is none.
        CoralError: two installed packages offer it, or the one that does cannot be loaded.
    """
    offered = STRATEGIES.get(name)
    if offered is None:
        return _installed(name)
    module = import_module(f"coral_git.merge.strategies.{name.replace('-', '_')}")
    strategy: Strategy = getattr(module, offered.class_name)()
    return strategy


def _installed(name: str) -> Strategy:
    from importlib.metadata import entry_points

    points = entry_points(group=ENTRY_POINT_GROUP)
    found = [point for point in points if point.name == name]
    if not found:
        names = ", ".join(sorted({*STRATEGIES, *points.names}))
        raise UsageError(f"unknown merge strategy {name!a}", hint=f"the strategies are: {names}")
    if len(found) > 1:
        raise CoralError(
            f"two merge strategies are called '{name}'",
            hint=f"uninstall the package that has '{max(point.value for point in found)}'",
        )
    try:
        loaded = found[0].load()
        strategy: Strategy = loaded() if isinstance(loaded, type) else loaded
    except Exception as error:
        raise CoralError(
            f"cannot load the merge strategy '{name}' from {found[0].value}: {error}",
            hint="update or uninstall the package that has it",
        ) from error
    return strategy
