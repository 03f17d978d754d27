"""Whether more or less of a metric is better."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from coral_git.history.facts import metric_name

_LESS_IS_BETTER = re.compile(
    r"loss|err|error|perplexity|ppl|bpb|bpc|nll|mse|mae|rmse|mape|wer|cer|ter|fid|kl|divergence|regret"
    r"|latency|time|seconds|ms|memory|bytes|cost|brier|ece"
)
"""Words of names of metrics that are better when they are less."""


class Goal(NamedTuple):
    """A metric and its better end.

    Attributes:
        metric: its name.
        is_lower_better: whether less of it is better.
    """

    metric: str
    is_lower_better: bool

    @classmethod
    def parse(cls, text: str) -> Goal:
        """What a user says: ``accuracy``, or ``min:NAME``, ``max:NAME`` where the name does not tell.

        Raises:
            UsageError: no metric has such a name.
        """
        prefix, colon, rest = text.partition(":")
        if colon and prefix in ("min", "max"):
            return cls(metric_name(rest), prefix == "min")
        words = re.split(r"[^a-z]+", text.lower())
        return cls(metric_name(text), any(map(_LESS_IS_BETTER.fullmatch, words)))

    def rank(self, metrics: Mapping[str, float]) -> tuple[int, float]:
        """A key to sort by, the best first; what does not have the metric, or has NaN, comes last."""
        value = metrics.get(self.metric)
        if value is None or value != value:
            return (1, 0.0)
        return (0, value if self.is_lower_better else -value)

    def has(self, metrics: Mapping[str, float]) -> bool:
        """Whether there is a value to compare."""
        return self.rank(metrics)[0] == 0
