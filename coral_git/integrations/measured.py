"""What frameworks call metrics, as metrics of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from coral_git.errors import UsageError
from coral_git.history.facts import metric_name


def numbers_of(logged: Mapping[str, Any]) -> dict[str, float]:
    """What is one number and has the name of a metric, as floats; all else is left out.

    Args:
        logged: numbers, tensors or arrays with one value, and whatever else a framework logs.
    """
    found = {}
    for name, value in logged.items():
        try:
            found[metric_name(name)] = float(value)
        except (TypeError, ValueError, RuntimeError, UsageError):
            continue
    return found
