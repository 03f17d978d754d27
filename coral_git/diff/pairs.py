"""Which tensor of an old file is which of a new one. Reads manifests only."""

from __future__ import annotations

from typing import NamedTuple

from coral_git.diff.model import Status
from coral_git.manifest.entries import Manifest, TensorEntry


class Pair(NamedTuple):
    """A tensor that is not the same in both files.

    Attributes:
        status: what became of it.
        old: as it was; None where it was not there.
        new: as it is; None where it is not there.
    """

    status: Status
    old: TensorEntry | None
    new: TensorEntry | None


def pair_tensors(old: Manifest | None, new: Manifest | None) -> tuple[list[Pair], int]:
    """The tensors that are not the same, and how many are.

    Two tensors are the same when their names, dtypes, shapes and object ids are. A tensor that is there under
    another name, and is the same but for that, was renamed.

    Args:
        old: expanded; None for no file.
        new: expanded; None for no file.

    Returns:
        Pairs in the order of the new file, then what was removed in the order of the old one.
    """
    before = {tensor.name: tensor for tensor in old.tensors} if old else {}
    after = {tensor.name for tensor in new.tensors} if new else set()
    gone = {name: tensor for name, tensor in before.items() if name not in after}
    by_content: dict[tuple[object, ...], list[TensorEntry]] = {}
    for tensor in gone.values():
        if tensor.objects:
            by_content.setdefault(tensor[1:], []).append(tensor)
    pairs = []
    same = 0
    for tensor in new.tensors if new else ():
        known = before.get(tensor.name)
        if known == tensor:
            same += 1
        elif known is not None:
            pairs.append(Pair(_status(known, tensor), known, tensor))
        elif others := by_content.get(tensor[1:]):
            origin = others.pop(0)
            del gone[origin.name]
            pairs.append(Pair(Status.RENAMED, origin, tensor))
        else:
            pairs.append(Pair(Status.ADDED, None, tensor))
    return [*pairs, *(Pair(Status.REMOVED, tensor, None) for tensor in gone.values())], same


def _status(old: TensorEntry, new: TensorEntry) -> Status:
    if old.dtype != new.dtype:
        return Status.RETYPED
    return Status.RESHAPED if old.shape != new.shape else Status.CHANGED
