"""Comparisons as JSON that every parser reads."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from coral_git.diff.as_json import file_json, report_json
from coral_git.diff.model import Figures, FileDiff, Histogram, Status, TensorDiff

NUMBERS = st.none() | st.floats(min_value=0) | st.sampled_from([math.inf, math.nan])
COUNTS = st.integers(0, 2**63)
FIGURES = st.builds(
    Figures,
    COUNTS,
    COUNTS,
    *[NUMBERS] * 5,
    *[st.none() | COUNTS] * 4,
    st.none() | st.integers(1, 64),
    st.none() | st.just(Histogram((-1.0, 0.0, 1.0), (2, 3))),
)


@pytest.fixture(scope="module")
def tensor(array):
    import numpy as np

    return array(np.zeros((2, 3), np.float32), "F32", "a\ud7ff\u202e\x1b\"'")


def report(path, old_path, tensors, verdict=""):
    diff = FileDiff(path, old_path, Status.CHANGED, None, None, tensors, 3, verdict, 24, None)
    return report_json([file_json(diff)], {"files": 1})


@settings(deadline=None)
@given(FIGURES, st.binary(max_size=8))
@example(Figures(0, 0, 0.0, 0.0, 0.0), b"")
@example(Figures(3, 3, math.inf, math.inf, math.nan, math.inf, math.nan), b"\xff\n")
@example(Figures(1, 1, 5e-324, 1.0, 1e308), b"a")
def test_it_is_json_without_nan(tensor, figures, path):
    diff = TensorDiff(Status.CHANGED, tensor.entry, tensor.entry, figures, 24, None)
    text = json.dumps(report(path, path, (diff,)), allow_nan=False)
    (file,) = json.loads(text)["files"]
    assert file["path"].encode("utf-8", "surrogateescape") == path
    (found,) = file["tensors"]
    assert found["values"] == figures.values
    for name in ("norm", "new_norm", "delta_norm", "max_delta", "cosine", "relative", "rank", "zeros"):
        value = getattr(figures, name)
        assert found[name] == (value if value is not None and math.isfinite(value) else None)
    edges = figures.histogram and list(figures.histogram.edges)
    assert (found["histogram"] and found["histogram"]["edges"]) == edges


def test_a_tensor_that_came_or_went(tensor):
    for status, old, new in ((Status.ADDED, None, tensor.entry), (Status.REMOVED, tensor.entry, None)):
        found = file_json(
            FileDiff(
                b"b", b"a", status, None, None, (TensorDiff(status, old, new, None, 24, 7),), 0, "v", 24, 7
            )
        )
        assert (found["path"], found["old_path"], found["status"], found["size"]) == ("b", "a", status, None)
        (one,) = found["tensors"]
        assert (one["name"], one["status"], one["shape"]) == (tensor.entry.name, status, [2, 3])
        assert (one["old_name"], one["old_shape"]) == ((tensor.entry.name, [2, 3]) if old else (None, None))
        assert (one["norm"], one["histogram"], one["values"]) == (None, None, None)
