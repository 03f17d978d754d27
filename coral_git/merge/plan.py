"""What a merge of a file will do, before anything is read or computed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from coral_git.formats.assemblers import assembler_by_name
from coral_git.manifest.entries import Manifest, TensorEntry
from coral_git.merge.choices import BASE, FAIL, OURS, Choices
from coral_git.merge.decide import Decision, decide
from coral_git.merge.skeleton import choose_skeleton, fits
from coral_git.merge.three_way import Outcome, changes
from coral_git.store.store import Store


class Plan(NamedTuple):
    """What a merge will do.

    Attributes:
        base: the common ancestor, expanded; None where there is none.
        sides: the sides, expanded, ours first.
        decisions: one per tensor, in the order of ours.
        skeleton: the version whose structure the result has; None where it must be assembled anew, or in a
            conflict.
        reason: why the bytes that are no tensor cannot be merged; empty where they can.
        notes: what was chosen that the user may want to know.
        prefers: which side wins where an assembler finds both changed: its number, or None for neither.
    """

    base: Manifest | None
    sides: tuple[Manifest, ...]
    decisions: tuple[Decision, ...]
    skeleton: Manifest | None
    reason: str = ""
    notes: tuple[str, ...] = ()
    prefers: int | None = 0

    @property
    def conflicts(self) -> list[Decision]:
        """The tensors that nobody could decide about."""
        return [one for one in self.decisions if one.outcome is Outcome.CONFLICT]

    @property
    def is_clean(self) -> bool:
        """Whether the merge can be carried out."""
        return not self.reason and not self.conflicts

    @property
    def results(self) -> list[TensorEntry]:
        """The tensors of the result, in the order of ours; those that are computed have old ids."""
        return [one.result for one in self.decisions if one.result is not None]


def make_plan(base: Manifest | None, sides: Sequence[Manifest], choices: Choices, store: Store) -> Plan:
    """Plan the merge of a file.

    Args:
        base: the common ancestor, expanded; None where there is none.
        sides: two or more, expanded, ours first; each of them has tensors.
        choices: what decides about tensors that several sides changed.
        store: has the bytes between the tensors.

    Raises:
        ObjectMissingError: those are not in the store.
    """
    decisions = tuple(decide(changes(base, sides), choices))
    plan = Plan(base, tuple(sides), decisions, None, prefers=_preferred(choices, len(sides)))
    number = choose_skeleton(base, sides, store)
    if number is not None and fits(sides[number], plan.results):
        return plan._replace(skeleton=sides[number])
    if base is not None and number is None and choices.rest == BASE and fits(base, plan.results):
        return plan._replace(skeleton=base)
    formats = {side.format for side in sides}
    if len(formats) == 1 and assembler_by_name(sides[0].format) is not None:
        return plan
    if number is None and choices.rest != FAIL:
        chosen = sides[plan.prefers or 0]
        if fits(chosen, plan.results):
            name = "ours" if chosen is sides[0] else "theirs"
            return plan._replace(
                skeleton=chosen, notes=(f"both sides changed what is no tensor; {name} is kept",)
            )
    return plan._replace(reason=_why_not(plan, number))


def _preferred(choices: Choices, sides: int) -> int | None:
    if choices.rest in (FAIL, BASE):
        return None
    return 0 if choices.rest == OURS else sides - 1


def _why_not(plan: Plan, number: int | None) -> str:
    formats = list(dict.fromkeys(side.format.partition("/")[0] for side in plan.sides))
    if len(formats) > 1:
        return f"the sides have different formats ({', '.join(formats)}) and different tensors"
    if number is None and all(fits(side, plan.results) for side in plan.sides):
        return "both sides changed what is no tensor"
    return f"the tensors of both sides have no common place in a file of the format {formats[0]}"
