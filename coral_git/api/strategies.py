"""The names of merge strategies for programs."""

from __future__ import annotations

from enum import StrEnum


class MergeStrategy(StrEnum):
    """What becomes of a tensor that both sides changed; see ``docs/guide/merging-strategies.md``.

    ``GREEDY_SOUP`` needs a function that scores: ours, theirs or their mean, whichever is best.

    Example:
        >>> MergeStrategy("dare-ties") is MergeStrategy.DARE_TIES
        True
    """

    FAIL = "fail"
    OURS = "ours"
    THEIRS = "theirs"
    BASE = "base"
    AVERAGE = "average"
    WEIGHTED = "weighted"
    SLERP = "slerp"
    TASK_ARITHMETIC = "task-arithmetic"
    TIES = "ties"
    DARE_TIES = "dare-ties"
    DARE_LINEAR = "dare-linear"
    BREADCRUMBS = "breadcrumbs"
    MODEL_STOCK = "model-stock"
    GREEDY_SOUP = "greedy-soup"
