"""One file merged: from the manifests of its versions to that of the result, or to the reasons why not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from coral_git.formats.base import CannotAssemble, NotThisFormat
from coral_git.manifest.entries import Manifest
from coral_git.manifest.escape import printable
from coral_git.manifest.render import render
from coral_git.merge.build import BadValues, carry_out
from coral_git.merge.choices import BASE, OURS, THEIRS, Choices
from coral_git.merge.plan import Plan, make_plan
from coral_git.merge.three_way import Outcome
from coral_git.pipeline.decode import expanded
from coral_git.pipeline.messages import missing_message
from coral_git.pipeline.missing import bring_objects
from coral_git.pipeline.workspace import Workspace

_NAMED = 3


class FileMerge(NamedTuple):
    """What became of a file.

    Attributes:
        text: the manifest of the result, whose objects are stored; empty in a conflict.
        plan: what was planned; None where the versions could not be compared tensor by tensor.
        reason: why there is a conflict; empty where there is none.
        bad: computed tensors with new values that are not finite.
    """

    text: bytes
    plan: Plan | None = None
    reason: str = ""
    bad: tuple[BadValues, ...] = ()


def merge_file(
    workspace: Workspace,
    path: bytes,
    base: Manifest | None,
    sides: Sequence[Manifest],
    choices: Choices,
    progress: Callable[[int, int], None] | None = None,
) -> FileMerge:
    """Merge the versions of a file.

    Args:
        workspace: the repository.
        path: the file, relative to the root of the work tree.
        base: the manifest of the common ancestor; None where there is none.
        sides: those of the sides, ours first.
        choices: what decides about tensors that several sides changed.
        progress: is told the computed bytes that are done, and those there are.

    Raises:
        ObjectMissingError: objects are missing and cannot be fetched; the message names tensors.
        CoralError: an object is damaged, a parameter is out of range, or the store cannot be written.
    """
    planned = plan_file(workspace, path, base, sides, choices)
    plan = planned.plan
    if plan is None or planned.reason:
        return planned
    _bring_versions(workspace, path, plan)
    try:
        merged = carry_out(workspace, path, plan, allow_nonfinite=choices.allow_nonfinite, progress=progress)
    except (CannotAssemble, NotThisFormat) as error:
        return FileMerge(b"", plan, str(error))
    if not merged.text:
        return FileMerge(b"", plan, _not_finite(merged.bad), merged.bad)
    return FileMerge(merged.text, plan, "", merged.bad)


def plan_file(
    workspace: Workspace, path: bytes, base: Manifest | None, sides: Sequence[Manifest], choices: Choices
) -> FileMerge:
    """As ``merge_file``, but nothing is computed: where there is a plan, there is no text yet.

    Raises:
        ObjectMissingError: tables or bytes between the tensors are missing and cannot be fetched.
        CoralError: one of these is damaged.
    """
    settled = _as_a_whole(base, sides, choices)
    if settled is not None:
        return settled
    if base is not None and base.tensor_count is None:
        base = None
    versions = [None if one is None else _whole(workspace, path, one) for one in (base, *sides)]
    whole = [one for one in versions[1:] if one is not None]
    plan = make_plan(versions[0], whole, choices, workspace.store)
    return FileMerge(b"", plan, "" if plan.is_clean else plan.reason or _contested(plan))


def _as_a_whole(base: Manifest | None, sides: Sequence[Manifest], choices: Choices) -> FileMerge | None:
    """Files that are equal, or in which no tensors were found."""
    digests = {side.sha256 for side in sides}
    if choices.everyone and len(digests) > 1 and all(side.tensor_count is not None for side in sides):
        return None
    changed = [side for side in sides if base is None or side.sha256 != base.sha256]
    if len(digests) == 1 or len({side.sha256 for side in changed}) == 1:
        return FileMerge(render(changed[0] if changed else sides[0]))
    if all(side.tensor_count is not None for side in sides):
        return None
    strategy = choices.default.strategy
    taken = {OURS: sides[0], THEIRS: sides[-1], BASE: base}.get(strategy)
    if taken is not None:
        return FileMerge(render(taken))
    return FileMerge(b"", None, "both sides changed it, and no tensors were found in it")


def _whole(workspace: Workspace, path: bytes, manifest: Manifest) -> Manifest:
    """A manifest with its tables in place, whose bytes between the tensors are here."""
    _bring(workspace, path, manifest if manifest.tables else manifest._replace(tensors=()))
    return expanded(manifest, workspace.store)


def _bring_versions(workspace: Workspace, path: bytes, plan: Plan) -> None:
    """Fetch what tensors are computed from."""
    computed = [one for one in plan.decisions if one.outcome is Outcome.MERGED]
    for number, side in enumerate(plan.sides):
        wanted = [one.change.sides[number] for one in computed if number in one.taking_part]
        _bring(workspace, path, side._replace(tensors=tuple(one for one in wanted if one), rest=()))
    if plan.base is not None:
        using = [one for one in computed if one.choice is not None and one.choice.needs_base]
        bases = tuple(one.change.base for one in using if one.change.base is not None)
        _bring(workspace, path, plan.base._replace(tensors=bases, rest=()))


def _bring(workspace: Workspace, path: bytes, manifest: Manifest) -> None:
    missing = bring_objects(workspace, [(path, manifest)])
    if missing:
        raise missing_message(path, manifest, missing)


def _contested(plan: Plan) -> str:
    count = len(plan.conflicts)
    return f"{count} tensor{'s' if count != 1 else ''} need{'' if count != 1 else 's'} a decision"


def _not_finite(bad: Sequence[BadValues]) -> str:
    count = sum(one.values for one in bad)
    named = ", ".join(f"'{printable(one.name)}'" for one in bad[:_NAMED])
    more = f" and {len(bad) - _NAMED} more" if len(bad) > _NAMED else ""
    noun = "value" if count == 1 else "values"
    return f"{count} new {noun} in {named}{more} would be infinite or not a number"
