"""What a comparison of two versions of weight files finds. Imports no numpy: a listing needs only this."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from coral_git.manifest.entries import Manifest, TensorEntry


class Status(StrEnum):
    """What became of a tensor or a file; a tensor that is the same is counted, not listed."""

    ADDED = "added"
    REMOVED = "removed"
    RENAMED = "renamed"
    RESHAPED = "reshaped"
    RETYPED = "retyped"
    CHANGED = "changed"
    SAME = "same"


class Histogram(NamedTuple):
    """How the values of a change are distributed.

    Attributes:
        edges: bounds of the bins in ascending order, one more than there are bins.
        counts: changes in each bin; the last bin has its upper bound too.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]


class Figures(NamedTuple):
    """What the values of a tensor and of its change say; what is not finite counts as zero in sums.

    Of quantized blocks only the first two are known: how many there are, and how many changed.

    Attributes:
        values: how many values the tensor has.
        changed: values whose bits are not the same.
        norm: Euclidean norm of the old values.
        new_norm: Euclidean norm of the new values.
        delta_norm: Euclidean norm of the change.
        max_delta: the largest absolute change of a value.
        cosine: of the angle between old and new values; None where one of them is zero.
        zeros: how many of the new values are zero.
        old_zeros: how many of the old values are zero.
        nans: how many of the new values are not a number.
        infinities: how many of the new values are infinite.
        rank: about the rank of the change of a matrix; None for no matrix, or no low rank.
        histogram: of the values of the change; None where it was not asked for.
    """

    values: int
    changed: int
    norm: float | None = None
    new_norm: float | None = None
    delta_norm: float | None = None
    max_delta: float | None = None
    cosine: float | None = None
    zeros: int | None = None
    old_zeros: int | None = None
    nans: int | None = None
    infinities: int | None = None
    rank: int | None = None
    histogram: Histogram | None = None

    @property
    def relative(self) -> float | None:
        """Norm of the change by the norm of the old values; None where that is zero."""
        return self.delta_norm / self.norm if self.norm and self.delta_norm is not None else None

    @property
    def share(self) -> float:
        """The share of values that changed, from 0 to 1."""
        return self.changed / self.values if self.values else 0.0


class TensorDiff(NamedTuple):
    """What became of a tensor.

    Attributes:
        status: what; never ``same``.
        old: as it was; None where it was not there.
        new: as it is; None where it is not there.
        figures: of its values; None where there is nothing to compare, or nobody asked.
        raw_bytes: bytes of its objects that the old version does not have.
        stored_bytes: what these take in the local store; None where one is not there.
    """

    status: Status
    old: TensorEntry | None
    new: TensorEntry | None
    figures: Figures | None
    raw_bytes: int
    stored_bytes: int | None

    @property
    def name(self) -> str:
        """The name, the new one of a tensor that was renamed."""
        entry = self.new or self.old
        assert entry is not None
        return entry.name


class FileDiff(NamedTuple):
    """What became of a weight file.

    Attributes:
        path: where it is, or was; from the root.
        old_path: where it was, when that was elsewhere; else the same as ``path``.
        status: added, removed, renamed or changed.
        old: its expanded manifest as it was; None where it was not there.
        new: its expanded manifest as it is; None where it is not there.
        tensors: the tensors that are not the same, in file order; removed ones last.
        same: how many tensors are the same.
        verdict: in a few words, what kind of change this is, e.g. ``"head only"``.
        raw_bytes: bytes of objects that the old version does not have.
        stored_bytes: what these take in the local store; None where one is not there.
    """

    path: bytes
    old_path: bytes
    status: Status
    old: Manifest | None
    new: Manifest | None
    tensors: tuple[TensorDiff, ...]
    same: int
    verdict: str
    raw_bytes: int
    stored_bytes: int | None
