"""What git calls when both sides changed the same weight file.

Git hands over manifests, so a tensor that nobody changed costs nothing. On success the result is stored
before git gets its manifest. In a conflict ours stays, as a whole and valid file, the path is left unmerged,
and a few lines say why and what to type. A manifest never gets conflict markers.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections import Counter
from collections.abc import Sequence

from coral_git import fsops
from coral_git.errors import CoralError, UsageError, from_os_error
from coral_git.git.objects import blob_oid
from coral_git.limits import DEFAULT_LIMITS
from coral_git.manifest.entries import Manifest
from coral_git.manifest.escape import printable
from coral_git.manifest.parse import parse
from coral_git.manifest.render import render
from coral_git.merge.choices import Choices
from coral_git.merge.merge_file import FileMerge, merge_file
from coral_git.merge.plan import Plan
from coral_git.merge.settings import read_choices
from coral_git.merge.three_way import Outcome
from coral_git.pipeline.messages import say, show_path
from coral_git.pipeline.progress import Progress
from coral_git.pipeline.workspace import Workspace

REPORT = "CORAL_MERGE_REPORT"
"""Names a file to which a line of JSON is added for each file that is merged."""

_CONFLICT = 1
_SHOWN = 3


def merge_files(arguments: list[str]) -> int:
    """Merge ``[STRATEGY] %O %A %B %L %P …``: base, ours (also the result), theirs, marker size, path.

    Returns:
        0 when the result is in the file of ours, 1 for a conflict.

    Raises:
        UsageError: git gave other arguments.
    """
    driver = arguments.pop(0).removeprefix("--strategy=") if arguments[:1] and _names(arguments[0]) else ""
    if len(arguments) < 5:
        raise UsageError("the merge driver takes %O %A %B %L %P", hint="git coral install")
    base, ours, theirs, _, shown = arguments[:5]
    path = os.fsencode(shown)
    sides = [one for one in (_read(ours), _read(theirs)) if one is not None]
    if len(sides) < 2:
        return _conflict(path, "is not valid on both sides")
    workspace = Workspace.open()
    try:
        return _merge(workspace, path, _read(base), sides, driver, ours)
    except CoralError as error:
        _conflict(path, error.message)
        for line in error.hint.splitlines():
            print(f"hint: {line}", file=sys.stderr)
        return _CONFLICT
    finally:
        workspace.close()


def _merge(
    workspace: Workspace, path: bytes, base: Manifest | None, sides: list[Manifest], driver: str, out: str
) -> int:
    choices = read_choices(workspace, path, driver)
    with Progress("merging weights") as progress:
        result = merge_file(
            workspace,
            path,
            base,
            sides,
            choices,
            lambda done, total: progress.update(show_path(path), done, total),
        )
    _record(path, result, choices)
    if result.reason:
        _remember(workspace, path, (base, *sides), result, choices)
        return _explain(path, result, choices)
    try:
        fsops.replace_file(out, result.text)
    except OSError as error:
        raise from_os_error(error, f"merge '{show_path(path)}'") from error
    if result.plan is not None:
        _tell(path, result.plan, choices)
    return 0


def _names(argument: str) -> bool:
    return argument.startswith("--strategy=")


def _read(path: str) -> Manifest | None:
    try:
        with open(path, "rb") as file:
            return parse(file.read(DEFAULT_LIMITS.manifest_bytes + 1), DEFAULT_LIMITS)
    except (CoralError, OSError):
        return None


def _tell(path: bytes, plan: Plan, choices: Choices) -> None:
    """One line about what was done."""
    say(f"merged '{show_path(path)}' ({choices.default}): {count_outcomes(plan)}")
    for note in plan.notes:
        say(f"'{show_path(path)}': {note}")


def count_outcomes(plan: Plan) -> str:
    """How many tensors met with which fate, e.g. ``10 merged, 3 theirs, 187 unchanged``."""
    counts = Counter(one.outcome for one in plan.decisions)
    return ", ".join(f"{counts[outcome]} {outcome}" for outcome in reversed(Outcome) if counts[outcome])


def _explain(path: bytes, result: FileMerge, choices: Choices) -> int:
    """Say why there is a conflict, and how to get out of it."""
    detail = ""
    if result.plan is not None and result.plan.conflicts:
        conflicts = result.plan.conflicts
        named = ", ".join(f"'{printable(one.change.name)}' {one.reason}" for one in conflicts[:_SHOWN])
        more = f"; and {len(conflicts) - _SHOWN} more" if len(conflicts) > _SHOWN else ""
        detail = f" ({named}{more})"
    return _conflict(path, f"{result.reason}{detail}")


def _conflict(path: bytes, reason: str) -> int:
    shown = show_path(path)
    print(f"coral: '{shown}': {reason}; ours stays in the work tree", file=sys.stderr)
    print(
        f"hint: git coral resolve '{shown}' --strategy average (or ours, theirs, weighted, …); "
        "git coral status lists the tensors",
        file=sys.stderr,
    )
    return _CONFLICT


def _remember(
    workspace: Workspace,
    path: bytes,
    versions: Sequence[Manifest | None],
    result: FileMerge,
    choices: Choices,
) -> None:
    """Write down what is settled, so that the user need not say it again; failing to is no failure."""
    from coral_git.merge.settled import remember

    kind = workspace.paths.object_format
    base, ours, theirs = ("" if one is None else blob_oid(render(one), kind).hex() for one in versions)
    with contextlib.suppress(CoralError):
        remember(workspace, path, (base, ours, theirs), result, choices)


def _record(path: bytes, result: FileMerge, choices: Choices) -> None:
    """Tell the command that started git what became of a file."""
    report = os.environ.get(REPORT)
    if not report:
        return
    counts = Counter(str(one.outcome) for one in result.plan.decisions) if result.plan else Counter()
    line = {
        "path": os.fsdecode(path),
        "strategy": str(choices.default),
        "rules": [f"{rule.pattern}={rule.choice}" for rule in choices.rules],
        "outcomes": counts,
        "reason": result.reason,
    }
    with open(report, "a", encoding="utf-8", errors="surrogateescape") as file:
        file.write(json.dumps(line) + "\n")
