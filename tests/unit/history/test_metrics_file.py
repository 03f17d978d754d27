"""Metrics out of files of training, whatever these hold."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from coral_git.errors import CoralError, UsageError
from coral_git.history.facts import metric_name
from coral_git.history.metrics_file import read_metrics_file


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    path = tmp_path_factory.mktemp("metrics") / "metrics.json"

    def read_bytes(data):
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return read_metrics_file(str(path))

    return read_bytes


def test_json(read):
    text = """{"eval": {"accuracy": 0.5, "per class": {"a/b": 1}}, "epoch": 3, "list": [1, {"x": 2}],
      "done": true, "name": "3", "nothing": null, "loss": NaN, "most": -Infinity}"""
    found = read(text)
    assert math.isnan(found.pop("loss"))
    assert found == {"eval.accuracy": 0.5, "eval.per_class.a/b": 1.0, "epoch": 3.0, "most": -math.inf}


def test_of_json_lines_later_ones_win(read):
    assert read('{"a": 1, "b": 1}\n\n{"a": 2}\r\n[5]\n{"c": {"d": 4}}') == {"a": 2.0, "b": 1.0, "c.d": 4.0}
    assert read('{"a\u2028b": 1}\n{"c": 2}') == {"a_b": 1.0, "c": 2.0}


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("", "_"),
        (".", "_"),
        ("..a..", "a"),
        ("1st", "_1st"),
        ("+", "_+"),
        ("größe", "gr_e"),
        ("ä", "_"),
        ("a\nCoral-Metric: b", "a_Coral-Metric:_b"),
        ("a=b", "a_b"),
        ("\x1b[31m", "_31m"),
        ("\ud800", "_"),
    ],
)
def test_odd_names(read, key, name):
    assert read(json.dumps({key: 1})) == {name: 1.0}
    assert metric_name(name)


def test_what_is_too_deep_is_left_out(read):
    def nested(depth):
        return '{"a":' * depth + "1" + "}" * depth

    assert read(nested(16)) == {".".join("a" * 16): 1.0}
    assert read(f'{{"b": 1, "c": {nested(40)}}}') == {"b": 1.0}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"3",
        b'{"a": "b"}',
        b'{"a": 1',
        b'{"a": 1}\n{"a": ',
        b'{"a": 1} x',
        b"\xff\xfe{}",
        b'{"a": ' * 100_000,
        b"[" * 1_000_000,
        b'{"a": ' + b"9" * 100_000 + b"}",
        b'{"a": 1' + b"0" * 400 + b"}",
        b"accuracy 0.9",
    ],
)
def test_what_has_no_metrics(read, data):
    with pytest.raises(UsageError) as caught:
        read(data)
    assert "metrics.json" in caught.value.message


def test_numbers_that_no_float_can_hold_are_left_out(read):
    assert read('{"a": 1' + "0" * 400 + ', "b": 1e999, "c": 12345678901234567890}') == {
        "b": math.inf,
        "c": 12345678901234567890.0,
    }


def test_a_file_that_is_too_large(tmp_path):
    path = tmp_path / "large.json"
    with path.open("wb") as file:
        file.truncate((16 << 20) + 1)
    with pytest.raises(UsageError, match="is larger than 16777216 bytes"):
        read_metrics_file(str(path))


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(CoralError, match="no such file"):
        read_metrics_file(str(tmp_path / "nothing.json"))
    with pytest.raises(CoralError, match="is a directory"):
        read_metrics_file(str(tmp_path))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, max_examples=50)
@given(VALUES | st.binary(max_size=40))
@example({"a": {"": 1}})
def test_names_are_names_whatever_the_file_holds(read, value):
    data = value if isinstance(value, bytes) else json.dumps(value)
    try:
        found = read(data)
    except UsageError:
        return
    assert found
    assert all(metric_name(name) and isinstance(number, float) for name, number in found.items())
