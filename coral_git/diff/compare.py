"""Comparing two versions of a file: pairs of tensors, their figures, what the new objects take, a verdict."""

from __future__ import annotations

import fnmatch
from typing import NamedTuple

from coral_git.diff.model import Figures, FileDiff, Status, TensorDiff
from coral_git.diff.pairs import Pair, pair_tensors
from coral_git.diff.verdict import verdict_of
from coral_git.diff.version import Read, Version
from coral_git.errors import ObjectMissingError
from coral_git.limits import DEFAULT_LIMITS, Limits
from coral_git.manifest.entries import Manifest, TensorEntry
from coral_git.manifest.model import object_ids, placements
from coral_git.pipeline.parallel import Workers
from coral_git.store.store import Store
from coral_git.types import ObjectId

_FACING = frozenset({Status.CHANGED, Status.RETYPED, Status.RESHAPED})


class Wanted(NamedTuple):
    """What a comparison is to find out.

    Attributes:
        figures: whether values are read.
        histogram: whether the changes are sorted into bins too.
        patterns: globs, one of which a name has to match; every tensor without any.
    """

    figures: bool = True
    histogram: bool = False
    patterns: tuple[str, ...] = ()

    def covers(self, pair: Pair) -> bool:
        """Whether a pair is looked at."""
        names = [entry.name for entry in (pair.old, pair.new) if entry is not None]
        return not self.patterns or any(
            fnmatch.fnmatchcase(name, pattern) for name in names for pattern in self.patterns
        )


class Versions(NamedTuple):
    """The versions of a file.

    Attributes:
        path: where the new one is, or the old one where there is none.
        old_path: where the old one is; the same as ``path`` where there is none.
        old: None where it was not there.
        new: None where it is not there.
    """

    path: bytes
    old_path: bytes
    old: Version | None
    new: Version | None

    @property
    def manifests(self) -> tuple[Manifest | None, Manifest | None]:
        """The manifests of both."""
        return (
            None if self.old is None else self.old.manifest,
            None if self.new is None else self.new.manifest,
        )

    @property
    def status(self) -> Status:
        """What became of the file."""
        if self.old is None:
            return Status.ADDED
        if self.new is None:
            return Status.REMOVED
        return Status.CHANGED if self.path == self.old_path else Status.RENAMED


def needed_objects(versions: Versions, wanted: Wanted) -> list[ObjectId]:
    """The objects that are read: those of tensors that changed, and no others."""
    if not wanted.figures:
        return []
    pairs = [pair for pair in pair_tensors(*versions.manifests)[0] if wanted.covers(pair)]
    entries = [entry for pair in pairs if pair.status in _FACING for entry in pair[1:] if entry is not None]
    return list(dict.fromkeys(one for entry in entries for one in entry.objects))


def compare(versions: Versions, wanted: Wanted, workers: Workers, store: Store | None) -> FileDiff:
    """What became of a file.

    Args:
        versions: the file.
        wanted: what to find out.
        workers: threads that each measure a tensor.
        store: to ask what new objects take; None outside a repository.

    Raises:
        IntegrityError: an object is damaged.
    """
    old, new = versions.manifests
    pairs, same = pair_tensors(old, new)
    pairs = [pair for pair in pairs if wanted.covers(pair)]
    known = set(object_ids(old)) if old else set()
    figures = workers.map(lambda pair: _figures(pair, versions, wanted, store), pairs)
    tensors = tuple(
        TensorDiff(pair.status, pair.old, pair.new, found, *_costs(pair.new, known, store))
        for pair, found in zip(pairs, figures, strict=True)
    )
    fresh = [one for one in object_ids(new) if one not in known] if new else []
    result = FileDiff(
        path=versions.path,
        old_path=versions.old_path,
        status=versions.status,
        old=old,
        new=new,
        tensors=tensors,
        same=same,
        verdict="",
        raw_bytes=_raw_bytes(new, known, store) if new else 0,
        stored_bytes=store.stored_bytes(fresh) if store is not None else None,
    )
    return result._replace(verdict=verdict_of(result))


def _figures(pair: Pair, versions: Versions, wanted: Wanted, store: Store | None) -> Figures | None:
    if not wanted.figures or pair.status not in _FACING:
        return None
    from coral_git.diff.figures import measure  # imports numpy

    assert pair.old is not None
    assert pair.new is not None
    assert versions.old is not None
    assert versions.new is not None
    try:
        held = _shared_readers(pair, store) if store is not None else {}
        old_read = versions.old.reader(pair.old, held)
        return measure(pair.old, old_read, pair.new, versions.new.reader(pair.new, held), wanted.histogram)
    except ObjectMissingError:
        return None


def _shared_readers(pair: Pair, store: Store) -> dict[ObjectId, Read]:
    """Readers of parts that are stored as deltas of the parts they are compared with.

    A block of the old part is decoded once: as itself, and as what the delta is added to.
    """
    held: dict[ObjectId, Read] = {}
    assert pair.old is not None
    assert pair.new is not None
    for old_id, new_id in zip(pair.old.objects, pair.new.objects, strict=False):
        if old_id == new_id or not store.has(old_id) or not store.has(new_id):
            continue
        for first, second in ((new_id, old_id), (old_id, new_id)):
            reader = store.reader(first)
            base = reader.keep_base(second)
            if base is not None:
                held |= {first: reader.read, second: base.read}
                break
    return held


def _costs(new: TensorEntry | None, known: set[ObjectId], store: Store | None) -> tuple[int, int | None]:
    """Raw and stored bytes of the objects of a tensor that the old file does not name."""
    if new is None:
        return 0, 0
    lengths = zip(new.objects, new.part_lengths(_limits(store)), strict=True)
    fresh = {object_id: length for object_id, length in lengths if object_id not in known}
    return sum(fresh.values()), None if store is None else store.stored_bytes(fresh)


def _raw_bytes(new: Manifest, known: set[ObjectId], store: Store | None) -> int:
    """Bytes of the objects of a file that the old one does not name."""
    if new.tables:
        return 0
    lengths = {one.object_id: one.length for one in placements(new, _limits(store))}
    return sum(length for object_id, length in lengths.items() if object_id not in known)


def _limits(store: Store | None) -> Limits:
    return DEFAULT_LIMITS if store is None else store.limits
