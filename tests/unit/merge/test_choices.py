"""Strategies, parameters and rules as users write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coral_git.errors import UsageError
from coral_git.merge.choices import TAKING, Choice, parse_choice, parse_parameters, parse_rule
from coral_git.merge.parameters import Parameters
from coral_git.merge.strategies.registry import STRATEGIES

FRACTIONS = st.floats(0, 1, exclude_min=True)


@pytest.mark.parametrize("name", [*TAKING, *STRATEGIES])
def test_every_strategy_by_its_name(name):
    assert parse_choice(name, "here") == Choice(name)
    assert str(Choice(name)) == name


@given(
    st.sampled_from(sorted(STRATEGIES)),
    st.builds(
        Parameters,
        alpha=FRACTIONS,
        weights=st.lists(st.floats(0.125, 8), max_size=4).map(tuple),
        scale=st.floats(-4, 4),
        density=FRACTIONS,
        gamma=FRACTIONS,
        normalize=st.none() | st.booleans(),
        seed=st.integers(0, 2**63),
    ),
)
def test_what_is_printed_is_read_again(name, parameters):
    written = str(Choice(name, parameters))
    read = parse_choice(written, "here")
    taken = parse_choice(name, "here").strategy
    assert (read.strategy, str(read)) == (taken, written)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("weighted:alpha=0.3", Choice("weighted", Parameters(alpha=0.3))),
        (" ties:density=0.2, scale=0.8 ", Choice("ties", Parameters(density=0.2, scale=0.8))),
        ("average:weights=2/1/1", Choice("average", Parameters(weights=(2, 1, 1)))),
        ("dare-ties:seed=7,normalize=TRUE", Choice("dare-ties", Parameters(seed=7, normalize=True))),
        ("ours:", Choice("ours")),
    ],
)
def test_parameters_behind_a_colon(text, expected):
    assert parse_choice(text, "here") == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "mean",
        "Average",
        "weighted:alpha",
        "weighted:alpha=",
        "weighted:alpha=1.01",
        "weighted:alpha=nan",
        "weighted:beta=1",
        "ties:density=0",
        "ties:scale=inf",
        "dare-ties:seed=x",
        "ties:normalize=2",
        "average:weights=1/-1",
        "average:weights=1/",
        "breadcrumbs:gamma=-1",
        "weighted alpha=0.3",
    ],
)
def test_what_is_refused(text):
    with pytest.raises(UsageError, match="here"):
        parse_choice(text, "here")


def test_defaults_hold_where_nothing_is_said():
    defaults = parse_parameters({"alpha": "0.25", "scale": "2"}, "here", Parameters())
    assert parse_choice("weighted:scale=3", "here", defaults).parameters == Parameters(alpha=0.25, scale=3)


@pytest.mark.parametrize(
    ("text", "pattern", "choice"),
    [
        ("lm_head.*=theirs", "lm_head.*", "theirs"),
        ("*.bias=weighted:alpha=0.3", "*.bias", "weighted:alpha=0.3"),
        ("a=b=ours", "a=b", "ours"),
        ("[ab]?=fail", "[ab]?", "fail"),
    ],
)
def test_a_rule_is_a_pattern_and_a_choice(text, pattern, choice):
    rule = parse_rule(text, "here")
    assert (rule.pattern, str(rule.choice)) == (pattern, choice)


@pytest.mark.parametrize("text", ["", "=ours", "x", "x=", "x=no such", "x=nonsense"])
def test_what_is_no_rule(text):
    with pytest.raises(UsageError, match="here"):
        parse_rule(text, "here")
