"""Which end of a metric is the better one."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coral_git.errors import UsageError
from coral_git.history.goals import Goal


@pytest.mark.parametrize(
    "name",
    [
        "loss",
        "eval_loss",
        "val/loss",
        "train.cross-entropy.Loss",
        "WER",
        "test_rmse_2",
        "perplexity@512",
        "FID",
    ],
)
def test_less_is_better(name):
    assert Goal.parse(name) == Goal(name, True)


@pytest.mark.parametrize(
    "name", ["accuracy", "f1", "bleu", "lossless", "glossary", "merror_free", "auc", "min_accuracy", "klass"]
)
def test_more_is_better(name):
    assert Goal.parse(name) == Goal(name, False)


def test_who_says_it_decides():
    assert Goal.parse("max:loss") == Goal("loss", False)
    assert Goal.parse("min:accuracy") == Goal("accuracy", True)
    assert Goal.parse("mid:accuracy") == Goal("mid:accuracy", False)
    assert Goal.parse("min:max:loss") == Goal("max:loss", True)


@pytest.mark.parametrize("text", ["", "min:", "max:", "a b", "min:9", "\x1b[2J"])
def test_no_names(text):
    with pytest.raises(UsageError, match="is no name of a metric"):
        Goal.parse(text)


@settings(deadline=None)
@given(st.lists(st.none() | st.floats(), max_size=8), st.booleans())
def test_the_best_comes_first_and_what_is_unknown_last(values, is_lower_better):
    goal = Goal("a", is_lower_better)
    every = [{} if value is None else {"a": value} for value in values]
    ranked = sorted(every, key=goal.rank)
    known = [one["a"] for one in ranked if goal.has(one)]
    assert known == sorted(
        (value for value in values if value is not None and not math.isnan(value)),
        reverse=not is_lower_better,
    )
    assert all(goal.has(one) for one in ranked[: len(known)])
    assert not any(goal.has(one) for one in ranked[len(known) :])
