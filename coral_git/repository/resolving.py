"""Settling conflicts in weight files."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from coral_git.errors import UsageError
from coral_git.merge.build import BadValues
from coral_git.merge.choices import BASE, OURS, THEIRS, Choices
from coral_git.merge.conflicts import Conflict
from coral_git.merge.decide import Decision
from coral_git.merge.merge_file import merge_file, plan_file
from coral_git.merge.plan import Plan
from coral_git.merge.settings import Wanted, choices_with
from coral_git.merge.settled import recall, remember
from coral_git.pipeline.messages import show_path
from coral_git.pipeline.workspace import Workspace
from coral_git.repository.conflicts import configured_choices, find_conflicts
from coral_git.repository.merge_report import MergedFile, outcomes_of
from coral_git.repository.merging import record_resolution
from coral_git.repository.resolved_file import make_unmerged, take_version, write_result
from coral_git.repository.unfinished import require_work_tree

Progress = Callable[[str, int, int], None]
_AS_A_WHOLE = (OURS, THEIRS, BASE)


class Resolution(NamedTuple):
    """What became of a conflict, or would become of it.

    Attributes:
        path: the file.
        choices: what decided.
        plan: what was planned; None where a version was taken as a whole.
        reason: why it is still a conflict; empty where it is settled.
        is_removed: whether the result is that the file is deleted.
        bad: computed tensors with new values that are not finite.
    """

    path: bytes
    choices: Choices
    plan: Plan | None = None
    reason: str = ""
    is_removed: bool = False
    bad: tuple[BadValues, ...] = ()

    @property
    def left(self) -> list[Decision]:
        """The tensors that still need a decision."""
        return [] if self.plan is None else self.plan.conflicts


def resolve_files(
    workspace: Workspace,
    pathspecs: Sequence[str],
    wanted: Wanted,
    *,
    force: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Iterator[Resolution]:
    """Settle conflicts in weight files, one after the other.

    Args:
        workspace: the repository.
        pathspecs: git's; files among them that are neither in conflict nor broken are left alone.
        wanted: what decides, before what is configured.
        force: replace work-tree files that somebody has changed since the conflict.
        dry_run: compute and write nothing.
        progress: is told the path, the computed bytes that are done, and those there are.

    Raises:
        UsageError: no file is in conflict, or what is wanted cannot be understood.
        InvalidManifestError: the versions of a broken manifest cannot be found.
        PolicyError: a file in the work tree was changed, and ``force`` is not set.
        CoralError: objects are missing, or something cannot be written; the file stays in conflict.
    """
    require_work_tree(workspace)
    conflicts = find_conflicts(workspace, pathspecs)
    if not conflicts:
        raise UsageError(
            f"no weight file in conflict matches {' '.join(map(repr, pathspecs))}",
            hint="git coral status names the files in conflict",
        )
    for conflict in conflicts:
        yield _resolve(workspace, conflict, wanted, force, dry_run, progress)


def _resolve(
    workspace: Workspace,
    conflict: Conflict,
    wanted: Wanted,
    force: bool,
    dry_run: bool,
    progress: Progress | None,
) -> Resolution:
    choices = _choices(workspace, conflict, wanted)
    if conflict.obstacle:
        return _resolve_as_a_whole(workspace, conflict, wanted, choices, force, dry_run)
    done = Resolution(conflict.path, choices)
    base = conflict.base.manifest if conflict.base else None
    if dry_run:
        planned = plan_file(workspace, conflict.path, base, conflict.sides, choices)
        return done._replace(plan=planned.plan, reason=planned.reason)
    shown = show_path(conflict.path)
    told = None if progress is None else lambda now, total: progress(shown, now, total)
    merged = merge_file(workspace, conflict.path, base, conflict.sides, choices, told)
    if merged.reason:
        if not conflict.is_unmerged:
            make_unmerged(workspace, conflict)
        remember(workspace, conflict.path, conflict.stages, merged, choices)
    else:
        write_result(workspace, conflict, merged.text, conflict.mode, force)
        rules = tuple(f"{rule.pattern}={rule.choice}" for rule in choices.rules)
        file = MergedFile(os.fsdecode(conflict.path), str(choices.default), rules, outcomes_of(merged))
        record_resolution(workspace, file)
    return done._replace(plan=merged.plan, reason=merged.reason, bad=merged.bad)


def _choices(workspace: Workspace, conflict: Conflict, wanted: Wanted) -> Choices:
    """What is asked now, before what was settled, before what is configured."""
    configured = configured_choices(workspace, conflict.path, recall(workspace, conflict))
    choices = choices_with(workspace, configured, wanted)
    asked = choices.rules[len(configured.rules) :]
    settled = {
        name: choice
        for name, choice in configured.settled.items()
        if not any(fnmatch.fnmatchcase(name, rule.pattern) for rule in asked)
    }
    return choices._replace(settled=settled)


def _resolve_as_a_whole(
    workspace: Workspace, conflict: Conflict, wanted: Wanted, choices: Choices, force: bool, dry_run: bool
) -> Resolution:
    """Settle what cannot be merged tensor by tensor, because a side is deleted or no manifest."""
    done = Resolution(conflict.path, choices)
    strategy = choices.default.strategy if wanted.strategy and not wanted.tensors else ""
    if strategy not in _AS_A_WHOLE:
        return done._replace(reason=f"{conflict.obstacle}; only ours, theirs or base can be taken")
    if strategy == BASE and conflict.base is None:
        return done._replace(reason="there is no common ancestor")
    taken = conflict.taken(strategy)
    if not dry_run:
        take_version(workspace, conflict, taken, force)
    return done._replace(is_removed=taken is None)
