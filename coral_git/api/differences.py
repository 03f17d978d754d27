"""What differs between two revisions of a weight file, for programs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from coral_git.diff.as_json import tensor_json
from coral_git.diff.compare import Wanted
from coral_git.diff.model import Figures, Status, TensorDiff
from coral_git.pipeline.workspace import Workspace
from coral_git.repository.diffing import choose_sides, diff_sides


@dataclass(frozen=True)
class TensorChange:
    """What became of one tensor.

    Attributes:
        name: its name, the new one where it was renamed.
        status: ``"added"``, ``"removed"``, ``"renamed"``, ``"reshaped"``, ``"retyped"`` or ``"changed"``.
        old_name: its name before; None where it was added.
        old_shape: its dimensions before; None where it was added.
        shape: its dimensions; None where it was removed.
        old_dtype: its data type before, by the name that manifests use; None where it was added.
        dtype: its data type; None where it was removed.
        figures: of its values and of their change: norms, the largest change, the cosine, …; None where
            there is nothing to compare, nobody asked, or an object cannot be had.
        raw_bytes: bytes of its objects that the old version does not have.
        stored_bytes: what these take in the store; None where one is not here.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from coral_git import Repository
        >>> repo = Repository(tempfile.mkdtemp(), init=True)
        >>> ids = repo.stage_weights({"w": np.zeros(3, np.float32)})
        >>> first = repo.commit("one")
        >>> ids = repo.stage_weights({"w": np.ones((2, 2), np.float32)})
        >>> change = repo.diff("HEAD", "").modified["w"]
        >>> change.status, change.old_shape, change.shape
        ('reshaped', (3,), (2, 2))
    """

    name: str
    status: str
    old_name: str | None
    old_shape: tuple[int, ...] | None
    shape: tuple[int, ...] | None
    old_dtype: str | None
    dtype: str | None
    figures: Figures | None
    raw_bytes: int
    stored_bytes: int | None
    _diff: TensorDiff = field(repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """As ``git coral diff --json`` shows a tensor; numbers that do not exist are None."""
        return dict(tensor_json(self._diff))


@dataclass(frozen=True)
class WeightsDiff:
    """What differs between two revisions of a weight file; tensors in file order.

    Attributes:
        from_ref: the old revision, as it was asked for.
        to_ref: the new one; empty for the index.
        added: the tensors that only the new one has.
        removed: those that only the old one has.
        modified: those that both have, with other values, another shape or another dtype.
        renamed: those that have the same bytes under another name, by the new one.
        same: how many tensors are the same.
        verdict: in a few words, what kind of change this is, e.g. ``"head only"``; empty for none.

    Example:
        >>> WeightsDiff("a", "b").is_empty
        True
    """

    from_ref: str
    to_ref: str
    added: Mapping[str, TensorChange] = field(default_factory=dict)
    removed: Mapping[str, TensorChange] = field(default_factory=dict)
    modified: Mapping[str, TensorChange] = field(default_factory=dict)
    renamed: Mapping[str, TensorChange] = field(default_factory=dict)
    same: int = 0
    verdict: str = ""

    @property
    def is_empty(self) -> bool:
        """Whether no tensor differs."""
        return not (self.added or self.removed or self.modified or self.renamed)

    def to_dict(self) -> dict[str, Any]:
        """For JSON; ``summary`` has the counts under the names of the original Coral."""
        return {
            "from_ref": self.from_ref,
            "to_ref": self.to_ref,
            "added": list(self.added),
            "removed": list(self.removed),
            "modified": {name: one.to_dict() for name, one in self.modified.items()},
            "renamed": {name: one.old_name for name, one in self.renamed.items()},
            "summary": {
                "total_added": len(self.added),
                "total_removed": len(self.removed),
                "total_modified": len(self.modified),
                "total_renamed": len(self.renamed),
                "total_same": self.same,
            },
            "verdict": self.verdict,
        }


def compare_revisions(
    workspace: Workspace, path: str, from_ref: str, to_ref: str, *, figures: bool = True
) -> WeightsDiff:
    """What differs between two revisions of a file; nothing is checked out.

    Args:
        workspace: the repository.
        path: the file, from the root.
        from_ref: any revision.
        to_ref: another one; empty for the index.
        figures: whether values are read; objects of tensors that changed are fetched then.

    Raises:
        UsageError: there is no such commit.
        IntegrityError: an object is damaged.
    """
    sides = choose_sides(workspace, [from_ref, *([to_ref] if to_ref else [])], is_cached=not to_ref)
    found = list(diff_sides(workspace, sides, [f":(top,literal){path}"], Wanted(figures=figures)))
    if not found:
        return WeightsDiff(from_ref, to_ref, same=_count(workspace, path, from_ref))
    one = next((file for file in found if os.fsdecode(file.path) == path), found[0])
    return WeightsDiff(
        from_ref,
        to_ref,
        _named(one.tensors, Status.ADDED),
        _named(one.tensors, Status.REMOVED),
        _named(one.tensors, Status.CHANGED, Status.RESHAPED, Status.RETYPED),
        _named(one.tensors, Status.RENAMED),
        one.same,
        one.verdict,
    )


def _count(workspace: Workspace, path: str, revision: str) -> int:
    """How many tensors the file has; 0 where it is not there."""
    from coral_git.pipeline.manifests import read_manifest

    found = read_manifest(workspace, os.fsencode(f"{revision}:{path}"))
    return 0 if found is None else found.manifest.tensor_count or 0


def _named(tensors: Iterable[TensorDiff], *wanted: Status) -> dict[str, TensorChange]:
    return {one.name: _change(one) for one in tensors if one.status in wanted}


def _change(one: TensorDiff) -> TensorChange:
    old, new = one.old, one.new
    return TensorChange(
        name=one.name,
        status=str(one.status),
        old_name=old and old.name,
        old_shape=None if old is None else old.shape,
        shape=None if new is None else new.shape,
        old_dtype=old and old.dtype.name,
        dtype=new and new.dtype.name,
        figures=one.figures,
        raw_bytes=one.raw_bytes,
        stored_bytes=one.stored_bytes,
        _diff=one,
    )
