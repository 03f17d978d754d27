"""The arguments of the original Coral's merge become a strategy as settings and commands name it."""

from __future__ import annotations

import pytest

from coral_git import MergeStrategy
from coral_git.api.merging import strategy_text
from coral_git.errors import UsageError
from coral_git.merge.choices import parse_choice


@pytest.mark.parametrize(
    ("strategy", "arguments", "expected"),
    [
        ("", {}, ""),
        (MergeStrategy.OURS, {}, "ours"),
        ("ties:density=0.3", {}, "ties:density=0.3"),
        ("ties:density=0.3", {"task_scaling": 2.0}, "ties:density=0.3,scale=2.0"),
        ("", {"merge_alpha": 0.25}, "weighted:alpha=0.25"),
        (MergeStrategy.SLERP, {"merge_alpha": 1}, "slerp:alpha=1"),
        ("", {"ties_density": 0.5}, "ties:density=0.5"),
        ("TIES", {"ties_density": 1.0, "task_scaling": 0.5}, "ties:density=1.0,scale=0.5"),
        ("", {"dare_drop_rate": 0.9}, "dare-ties:density=0.1"),
        ("dare_linear", {"dare_drop_rate": 0.0}, "dare-linear:density=1.0"),
        ("task_arithmetic", {"task_scaling": -1.0}, "task-arithmetic:scale=-1.0"),
        ("", {"task_scaling": 0.3, "merge_alpha": None}, "task-arithmetic:scale=0.3"),
    ],
)
def test_a_strategy_and_its_arguments(strategy, arguments, expected):
    assert strategy_text(strategy, arguments) == expected
    if expected:
        parse_choice(expected, "the test")


@pytest.mark.parametrize(
    ("strategy", "arguments", "said"),
    [
        ("average", {"merge_alpha": 0.5}, "'average' takes no merge_alpha"),
        ("ours", {"task_scaling": 1.0}, "'ours' takes no task_scaling"),
        ("greedy-soup", {"merge_alpha": 0.5}, "'greedy-soup' takes no merge_alpha"),
        ("dare-ties", {"ties_density": 0.5}, "'dare-ties' takes no ties_density"),
        ("ties", {"dare_drop_rate": 0.5}, "'ties' takes no dare_drop_rate"),
        ("", {"dare_drop_rate": 1.0}, "at least 0 and below 1"),
        ("", {"dare_drop_rate": float("nan")}, "at least 0 and below 1"),
        ("none", {"merge_alpha": 0.5}, "none"),
    ],
)
def test_what_makes_no_sense(strategy, arguments, said):
    with pytest.raises(UsageError, match=said):
        strategy_text(strategy, arguments)
