"""Contested tensors, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from coral_git.manifest.escape import escape_name
from coral_git.manifest.text import SCALAR
from coral_git.merge.decide import Decision

_SHOWN = 20


def contested_lines(decisions: Sequence[Decision], show_all: bool) -> Iterator[str]:
    """One line for each tensor: its name, what it is, why it needs a decision; the first 20 unless all."""
    for one in decisions if show_all else islice(decisions, _SHOWN):
        yield f"  {escape_name(one.change.name)}  {_kind(one)}  {one.reason}"
    if not show_all and len(decisions) > _SHOWN:
        yield f"  … and {len(decisions) - _SHOWN} more"


def contested_json(decisions: Sequence[Decision]) -> list[dict[str, object]]:
    """The tensors, each with the dtype and shape of its versions, ours first; null where there is none."""
    return [
        {
            "name": one.change.name,
            "base": _version(one, None),
            "sides": [_version(one, number) for number in range(len(one.change.sides))],
            "reason": one.reason,
        }
        for one in decisions
    ]


def _version(decision: Decision, number: int | None) -> dict[str, object] | None:
    change = decision.change
    found = change.base if number is None else change.sides[number]
    return None if found is None else {"dtype": found.dtype.name, "shape": list(found.shape)}


def _kind(decision: Decision) -> str:
    """Dtype and shape, of each version where they differ."""
    kinds = [
        f"{side.dtype.name} {'x'.join(map(str, side.shape)) or SCALAR}"
        for side in decision.change.sides
        if side is not None
    ]
    return " / ".join(dict.fromkeys(kinds))
