"""Conditions, against what Python makes of the same condition."""

from __future__ import annotations

import string

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from coral_git.errors import UsageError
from coral_git.history.expression import parse_condition
from coral_git.history.facts import Facts

NAMES = ("accuracy", "loss", "eval/f1@5", "information", "nano", "order", "notes", "label")
LABELS = ("best", "broken", "0.5", "or")
VALUES = st.sampled_from([0.0, -1.5, 0.5, 1e-3, float("inf"), float("-inf"), float("nan")])
NUMBERS = ("0", "-1.5", "+.5", "1e-3", "0.5", "1.", "inf", "-inf", "nan")
SIGNS = {"<": "<", "<=": "<=", ">": ">", ">=": ">=", "=": "==", "==": "==", "!=": "!="}
SPACES = st.sampled_from(["", " ", "\t "])


@st.composite
def terms(draw):
    """A term, and the same in Python, of metrics ``m`` and labels ``l``."""
    kind = draw(st.sampled_from(["comparison", "name", "label"]))
    space, other = draw(SPACES), draw(SPACES)
    if kind == "label":
        sign = draw(st.sampled_from(["=", "==", "!="]))
        label = draw(st.sampled_from(LABELS))
        return f"label{space}{sign}{other}{label}", f"({label!r} {'not ' * (sign == '!=')}in l)"
    name = draw(st.sampled_from(NAMES if kind == "name" else NAMES[:-1]))
    if kind == "name":
        return name, f"({name!r} in m or {name!r} in l)"
    sign, number = draw(st.sampled_from(sorted(SIGNS))), draw(st.sampled_from(NUMBERS))
    return (
        f"{name}{space}{sign}{other}{number}",
        f"({name!r} in m and m[{name!r}] {SIGNS[sign]} float({number!r}))",
    )


def larger(inner):
    """Conditions made of conditions; Python's operators bind in the same order."""
    pairs = st.tuples(inner, inner, st.sampled_from(["and", "or"]))
    return (
        st.tuples(inner, SPACES).map(lambda x: (f"({x[1]}{x[0][0]})", f"({x[0][1]})"))
        | inner.map(lambda x: (f"not ({x[0]})", f"(not ({x[1]}))"))
        | pairs.map(lambda x: (f"{x[0][0]} {x[2]} {x[1][0]}", f"{x[0][1]} {x[2]} {x[1][1]}"))
    )


@settings(deadline=None)
@given(
    st.recursive(terms(), larger, max_leaves=8),
    st.dictionaries(st.sampled_from(NAMES), VALUES),
    st.sets(st.sampled_from(LABELS)),
)
def test_it_means_what_python_makes_of_it(condition, metrics, labels):
    text, python = condition
    expected = eval(python, {"m": metrics, "l": labels, "float": float})
    assert parse_condition(text)(Facts(metrics, tuple(labels))) is expected


def test_not_binds_closer_than_and_and_that_closer_than_or():
    condition = parse_condition("not a and b or c")
    every = {
        words: condition(Facts(labels=tuple(words))) for words in ("", "a", "b", "c", "ab", "ac", "bc", "abc")
    }
    assert {words for words, is_met in every.items() if is_met} == {"b", "c", "ac", "bc", "abc"}


def test_a_metric_that_is_not_there_is_never_compared():
    nothing = Facts()
    assert not parse_condition("loss < 1")(nothing)
    assert not parse_condition("loss != 1")(nothing)
    assert parse_condition("not loss")(nothing)
    assert parse_condition("label != best")(nothing)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "a metric is missing at the end"),
        ("   ", "a metric is missing at the end"),
        ("not", "a metric is missing at the end"),
        ("a and", "a metric is missing at the end"),
        ("and a", "a metric is missing before 'and'"),
        ("> 3", "a metric is missing before '>'"),
        ("0.9 < a", "a metric is missing before '0.9'"),
        ("()", "a metric is missing before ')'"),
        ("a >", "a number is missing after 'a >'"),
        ("a > b", "a number is missing after 'a >'"),
        ("a = best", "a number is missing after 'a ='"),
        ("label < best", "a number is missing after 'label <'"),
        ("label =", "a number is missing after 'label ='"),
        ("(a", "a ')' is missing"),
        ("(a > 1 and (b)", "a ')' is missing"),
        ("a)", "')' is not expected there"),
        ("a b", "'b' is not expected there"),
        ("a > 1 < 2", "'<' is not expected there"),
        ("a > 1; b", "'; b' is not understood"),
        ("a > 1 & b", "'& b' is not understood"),
        ("ä > 1", "'ä > 1' is not understood"),
        ("a \x1b[31m", r"'\x1b[31m' is not understood"),
        ("__import__('os')", "''os')' is not understood"),
        ("not " * 101 + "a", "it is nested too deep"),
        ("(" * 101 + "a" + ")" * 101, "it is nested too deep"),
        ("(" * 100_000, "it is nested too deep"),
    ],
)
def test_what_cannot_be_understood(text, reason):
    with pytest.raises(UsageError) as caught:
        parse_condition(text)
    assert caught.value.message.endswith(f": {reason}")
    assert caught.value.message.isprintable()
    assert caught.value.hint


def test_nesting_of_a_hundred_is_understood():
    assert parse_condition("(" * 99 + "a" + ")" * 99)(Facts(labels=("a",)))


WORDS = ("a", "b", "(", ")", "not", "and", "or", "<", "=", "1", "label")


@settings(deadline=None)
@given(st.text(string.printable, max_size=30) | st.lists(st.sampled_from(WORDS)).map(" ".join))
@example("a = = 1")
def test_any_text_is_a_condition_or_an_error(text):
    try:
        condition = parse_condition(text)
    except UsageError:
        return
    assert condition(Facts({"a": 1.0}, ("b",))) in (True, False)
