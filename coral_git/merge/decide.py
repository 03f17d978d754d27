"""What is done with each tensor: the three-way comparison, and the choices of the user for what it leaves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from coral_git.manifest.entries import TensorEntry
from coral_git.merge.choices import BASE, FAIL, OURS, TAKING, THEIRS, Choice, Choices
from coral_git.merge.strategies import registry
from coral_git.merge.three_way import Change, Outcome
from coral_git.pipeline.float_dtypes import is_float


class Decision(NamedTuple):
    """What is done with a tensor.

    Attributes:
        change: its versions.
        outcome: what happens to it.
        result: the tensor, as far as it is known: of a computed one, a version of its dtype and shape; None
            where the result does not have it.
        choice: the strategy and its parameters, where one was asked.
        reason: why nobody can say, in a conflict.
        taking_part: the numbers of the sides that a computed tensor is made of.
    """

    change: Change
    outcome: Outcome
    result: TensorEntry | None
    choice: Choice | None = None
    reason: str = ""
    taking_part: tuple[int, ...] = ()


def decide(changes: Iterable[Change], choices: Choices) -> list[Decision]:
    """Decide about every tensor; nothing is read or computed."""
    return [_decide(change, choices) for change in changes]


def _decide(change: Change, choices: Choices) -> Decision:
    taking_part = change.changed
    if choices.everyone and taking_part and _is_the_same_kind(change):
        taking_part = tuple(range(len(change.sides)))
    versions = [change.sides[number] for number in taking_part]
    if len(set(versions)) < 2:
        return Decision(change, change.outcome, change.result)
    choice, is_ruled = choices.for_tensor(change.name)
    if choice.strategy not in TAKING and not is_ruled and not _are_floats(versions):
        if not change.is_contested:
            return Decision(change, change.outcome, change.result)
        choice = Choice(choices.integers)
    if choice.strategy in TAKING:
        return _take(change, choice)
    reason = _obstacle(change, versions, choice)
    if reason:
        return Decision(change, Outcome.CONFLICT, change.sides[0], choice, reason)
    return Decision(change, Outcome.MERGED, versions[0], choice, taking_part=taking_part)


def _is_the_same_kind(change: Change) -> bool:
    """Whether every side and the common ancestor have the tensor with the same dtype and shape."""
    versions = (change.base, *change.sides)
    return len({one and (one.dtype, one.shape) for one in versions}) == 1


def _take(change: Change, choice: Choice) -> Decision:
    if choice.strategy == FAIL:
        return Decision(change, Outcome.CONFLICT, change.sides[0], choice, describe(change))
    if choice.strategy == OURS:
        return Decision(change, Outcome.OURS, change.sides[0], choice)
    if choice.strategy == BASE:
        return Decision(change, Outcome.BASE, change.base, choice)
    assert choice.strategy == THEIRS
    return Decision(change, Outcome.THEIRS, change.sides[-1], choice)


def describe(change: Change) -> str:
    """How the sides differ, in words."""
    versions = [change.sides[number] for number in change.changed]
    if None in versions:
        return "changed on one side and removed on another"
    if len({(one.dtype, one.shape) for one in versions if one}) > 1:
        return "has another dtype or shape on each side"
    return "added on both sides" if change.base is None else "changed on both sides"


def _obstacle(change: Change, versions: Sequence[TensorEntry | None], choice: Choice) -> str:
    """Why a strategy cannot compute a tensor; empty where it can."""
    present = [version for version in versions if version is not None]
    if len(present) < len(versions) or len({(one.dtype, one.shape) for one in present}) > 1:
        return describe(change)
    if not is_float(present[0].dtype):
        return f"{present[0].dtype.name} has no values that '{choice.strategy}' could compute with"
    strategy = registry.strategy_by_name(choice.strategy)
    if strategy.most_sides is not None and len(versions) > strategy.most_sides:
        return f"changed on {len(versions)} sides, and '{choice.strategy}' takes {strategy.most_sides}"
    if strategy.needs_base and not _has_base(change, present[0]):
        return f"there is no common ancestor, which '{choice.strategy}' needs"
    return ""


def _has_base(change: Change, version: TensorEntry) -> bool:
    base = change.base
    return base is not None and (base.dtype, base.shape) == (version.dtype, version.shape)


def _are_floats(versions: Sequence[TensorEntry | None]) -> bool:
    """Whether no version is one whose values cannot be computed with."""
    return all(is_float(version.dtype) for version in versions if version is not None)
