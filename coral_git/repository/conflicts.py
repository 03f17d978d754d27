"""Which weight files are in conflict, and what is contested in them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from coral_git.errors import CoralError
from coral_git.git.attributes import check_attr
from coral_git.git.revisions import TreeEntry, list_index
from coral_git.manifest.parse import claims_manifest
from coral_git.merge.choices import FAIL, Choices
from coral_git.merge.conflicts import Conflict, from_index, from_text, is_broken
from coral_git.merge.decide import Decision, decide
from coral_git.merge.settings import read_choices
from coral_git.merge.settled import Settled, recall
from coral_git.merge.three_way import Outcome, changes
from coral_git.pipeline.manifests import expanded_or_none
from coral_git.pipeline.source import HEAD_BYTES, FileSource, open_regular
from coral_git.pipeline.workspace import Workspace
from coral_git.repository.unfinished import require_work_tree, user_git


class Contest(NamedTuple):
    """What is contested in a file in conflict.

    Attributes:
        path: the file.
        left: the tensors that need a decision.
        settled: how many tensors need none any more, because somebody has settled them.
        reason: why nothing can be said about tensors; empty where it can.
    """

    path: bytes
    left: list[Decision]
    settled: int = 0
    reason: str = ""


def find_conflicts(workspace: Workspace, pathspecs: Sequence[str]) -> list[Conflict]:
    """The conflicts among files that the filter handles, and the broken manifests.

    Raises:
        UsageError: a pathspec matches nothing.
        InvalidManifestError: the versions of a broken manifest cannot be found.
    """
    found = []
    for path, entries in _listed(workspace, pathspecs):
        if entries[0].stage:
            found.append(from_index(workspace, path, entries))
            continue
        text = _broken_text(workspace, entries[0])
        if text:
            found.append(from_text(workspace, path, text, entries[0].mode))
    return found


def read_contests(workspace: Workspace, pathspecs: Sequence[str] = ()) -> list[Contest]:
    """What is contested in the unmerged files. Nothing is fetched, computed or written.

    Raises:
        UsageError: a pathspec matches nothing.
    """
    unmerged = [(path, entries) for path, entries in _listed(workspace, pathspecs) if entries[0].stage]
    return [_contest(workspace, from_index(workspace, path, entries)) for path, entries in unmerged]


def configured_choices(workspace: Workspace, path: bytes, settled: Settled) -> Choices:
    """What is configured for a file in conflict, below what was settled of it.

    Rules that say ``fail`` ask for a decision, and whoever settles a conflict has come to decide.

    Raises:
        UsageError: a value cannot be understood.
    """
    choices = read_choices(workspace, path)
    return choices._replace(
        rules=tuple(rule for rule in choices.rules if rule.choice.strategy != FAIL),
        rest=settled.rest or choices.rest,
        settled=settled.tensors,
    )


def _contest(workspace: Workspace, conflict: Conflict) -> Contest:
    path = conflict.path
    if conflict.obstacle:
        return Contest(path, [], reason=conflict.obstacle)
    sides = [expanded_or_none(workspace, side) for side in conflict.sides]
    base = conflict.base.manifest if conflict.base else None
    before = expanded_or_none(workspace, base) if base else None
    whole = [side for side in sides if side is not None]
    if len(whole) < len(sides) or (base is not None and before is None):
        return Contest(path, [], reason="its list of tensors is not here: git coral fetch")
    if any(side.tensor_count is None for side in whole):
        return Contest(path, [], reason="no tensors were found in it")
    try:
        choices = configured_choices(workspace, path, recall(workspace, conflict))
    except CoralError as error:
        return Contest(path, [], reason=error.message)
    contested = [one for one in decide(changes(before, whole), choices) if one.change.is_contested]
    left = [one for one in contested if one.outcome is Outcome.CONFLICT]
    return Contest(path, left, len(contested) - len(left))


def place_of(workspace: Workspace, path: bytes) -> bytes:
    """Where a file is in the work tree."""
    return os.path.join(os.fsencode(require_work_tree(workspace)), path)


def manifest_text(workspace: Workspace, source: FileSource) -> bytes:
    """The whole text of a file that wants to be a manifest; empty where it does not."""
    if source.size > workspace.limits.manifest_bytes or not claims_manifest(source.read_at(0, HEAD_BYTES)):
        return b""
    return source.read_at(0, source.size)


def _broken_text(workspace: Workspace, entry: TreeEntry) -> bytes:
    """The broken manifest that a file is in the work tree or the index; empty where it is none."""
    source = open_regular(place_of(workspace, entry.path))
    if source is not None:
        try:
            text = manifest_text(workspace, source)
        finally:
            source.close()
        if text and is_broken(workspace, text):
            return text
    found = workspace.objects.blob(entry.oid.encode(), max_size=workspace.limits.manifest_bytes)
    return found[1] if found is not None and is_broken(workspace, found[1]) else b""


def _listed(workspace: Workspace, pathspecs: Sequence[str]) -> Iterator[tuple[bytes, list[TreeEntry]]]:
    """The paths in the index that the filter handles, each with its entries."""
    listed = list_index(user_git(workspace) if pathspecs else workspace.git, pathspecs)
    entries = [entry for entry in listed if entry.stage or entry.is_file]
    filters = check_attr(workspace.git, {entry.path for entry in entries})
    ours = (entry for entry in entries if filters.get(entry.path) == b"coral")
    for path, group in groupby(ours, key=lambda entry: entry.path):
        yield path, list(group)
