"""What trailers say, and the trailers that say it."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from coral_git.errors import UsageError
from coral_git.history.facts import (
    METRIC_NAME,
    Facts,
    as_json_number,
    check_label,
    display_number,
    metric_name,
    parse_metrics,
    read_facts,
    show_number,
    trailer_lines,
)
from coral_git.manifest.escape import printable

NAMES = st.from_regex(METRIC_NAME, fullmatch=True)
VALUES = st.floats() | st.integers(-(10**17), 10**17).map(float)


def is_label(text):
    try:
        return bool(check_label(text))
    except UsageError:
        return False


LABELS = st.text(max_size=12).filter(is_label)


def same(one, other):
    return one == other or (math.isnan(one) and math.isnan(other))


@settings(deadline=None, max_examples=50)
@given(
    st.dictionaries(NAMES, VALUES, max_size=4),
    st.lists(LABELS, unique=True, max_size=3),
    st.dictionaries(st.sampled_from(["torch", "gpu", "git"]), st.text(max_size=12)),
)
@example({}, ["a\u2028Coral-Metric: a=1", "b\x85c"], {"gpu": "a\nCoral-Metric: a=1"})
def test_what_is_written_is_read(metrics, labels, environment):
    lines = trailer_lines(metrics, labels, environment)
    assert all("\n" not in line for line in lines)
    found = read_facts("\n".join(lines) + "\n")
    assert list(found.metrics) == list(metrics)
    assert all(same(found.metrics[name], value) for name, value in metrics.items())
    assert found.labels == tuple(labels)
    assert found.environment == {name: printable(text).strip() for name, text in environment.items()}
    assert found.others == ()


@settings(deadline=None)
@given(st.lists(st.text(max_size=60), max_size=4))
@example(["Coral-Metric: a=1", "Coral-Metric"])
def test_any_text_is_read(texts):
    found = read_facts(*texts)
    assert all(metric_name(name) for name in found.metrics)
    assert read_facts(*texts, *trailer_lines(found.metrics)).metrics.keys() == found.metrics.keys()


@pytest.mark.parametrize(
    "line",
    [
        "Coral-Metric: accuracy",
        "Coral-Metric: accuracy=",
        "Coral-Metric: accuracy=high",
        "Coral-Metric: accuracy=0x10",
        "Coral-Metric: =0.9",
        "Coral-Metric: two words=0.9",
        "Coral-Metric: 9lives=9",
        "Coral-Metric: a=b=1",
        "Coral-Metric accuracy=0.9",
        "Coral-Metric:: accuracy=0.9",
        "X-Coral-Metric: accuracy=0.9",
        "accuracy=0.9",
        "> Coral-Metric: accuracy=0.9",
    ],
)
def test_what_is_no_metric(line):
    assert read_facts(line).metrics == {}


def test_keys_are_read_in_any_case_and_with_spaces_around():
    found = read_facts("  CORAL-metric:accuracy = 0.5 \r\ncoral-TAG:   best of all  \n")
    assert found == Facts({"accuracy": 0.5}, ("best of all",))


def test_later_texts_win():
    found = read_facts(
        "Coral-Metric: a=1\nCoral-Metric: b=1\nCoral-Tag: x\nCoral-Environment: torch=1",
        "Coral-Metric: b=2\nCoral-Metric: b=3\nCoral-Tag: y\nCoral-Tag: x\nCoral-Environment: torch=2",
        "Coral-Metric: a=nothing",
    )
    assert found.metrics == {"a": 1.0, "b": 3.0}
    assert list(found.metrics) == ["a", "b"]
    assert found.labels == ("x", "y")
    assert found.environment == {"torch": "2"}


def test_other_trailers_are_kept():
    found = read_facts("Coral-Merge: average\nSigned-off-by: T\nCoral-merge: ties")
    assert found.others == (("Coral-Merge", "average"), ("Coral-Merge", "ties"))


def test_metrics_as_users_write_them():
    assert parse_metrics(["a=1", "eval/b.c@5=-2e-3", "a=2", "loss = inf"]) == {
        "a": 2.0,
        "eval/b.c@5": -0.002,
        "loss": math.inf,
    }


@pytest.mark.parametrize("word", ["a", "a=", "a=b", "=1", "a b=1", "1a=1", "a\x1b[31m=1", "ä=1", "a\n=1=1"])
def test_what_users_must_not_write(word):
    with pytest.raises(UsageError) as caught:
        parse_metrics([word])
    assert caught.value.message.isprintable()
    assert caught.value.hint


@pytest.mark.parametrize("label", ["", " ", "a\nb", " a", "a ", "a\x00b", "a\rb", "\t"])
def test_what_is_no_label(label):
    with pytest.raises(UsageError, match="is no label"):
        check_label(label)


@settings(deadline=None)
@given(st.floats(allow_nan=False))
def test_numbers_are_shown_exactly(value):
    assert float(show_number(value)) == value
    assert math.isclose(float(display_number(value)), value, rel_tol=1e-5)


def test_numbers_are_short():
    shown = [show_number(one) for one in (3.0, -0.0, 1e14, 1e16, 0.1, math.nan, -math.inf)]
    assert shown == ["3", "0", "100000000000000", "1e+16", "0.1", "nan", "-inf"]
    assert [display_number(one) for one in (3.0, 1 / 3, 123456789.0)] == ["3", "0.333333", "123456789"]


@settings(deadline=None)
@given(st.floats())
def test_json_has_finite_numbers_only(value):
    found = as_json_number(value)
    assert found == value if math.isfinite(value) else found in ("nan", "inf", "-inf")
