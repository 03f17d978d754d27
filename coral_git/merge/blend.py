"""Tensors that a strategy computes: versions out of the store, block by block, and the result into a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from coral_git import fsops
from coral_git.errors import IntegrityError, UsageError
from coral_git.formats.base import TensorSegment
from coral_git.manifest.entries import Manifest, TensorEntry
from coral_git.manifest.parts import part_lengths
from coral_git.merge.choices import Choice
from coral_git.merge.parameters import Parameters
from coral_git.merge.strategies import registry
from coral_git.merge.strategies.base import Blend, Block, Values
from coral_git.merge.three_way import Change
from coral_git.pipeline.float_dtypes import BLOCK_VALUES
from coral_git.pipeline.parallel import Workers
from coral_git.pipeline.part_source import ReadRange
from coral_git.pipeline.tensors import StoredBytes
from coral_git.pipeline.values import computed_in, decode, encode, is_within, value_width
from coral_git.store.store import Store
from coral_git.types import Buffer, DType, ObjectId


class Work(NamedTuple):
    """A tensor that is to be computed.

    Attributes:
        change: its versions.
        taking_part: the numbers of the sides that it is made of.
        choice: how.
        place: where in the new file it belongs.
    """

    change: Change
    taking_part: tuple[int, ...]
    choice: Choice
    place: TensorSegment


class StoredVersions:
    """A tensor in all versions that take part in a merge, read from the store. For one thread.

    Args:
        change: the tensor.
        numbers: the sides that take part; each has it, with the same dtype and shape.
        manifests: the common ancestor's, or None, and those of the sides, for messages.
        store: has the objects.
        held: reads objects that are at hand elsewhere.
        with_base: whether the common ancestor is read, where there is one.
    """

    def __init__(
        self,
        change: Change,
        numbers: Sequence[int],
        manifests: Sequence[Manifest | None],
        store: Store,
        held: Mapping[ObjectId, ReadRange] | None = None,
        *,
        with_base: bool = True,
    ) -> None:
        entries = [change.sides[number] for number in numbers]
        self._entry = next(entry for entry in entries if entry is not None)
        own = [manifests[number + 1] for number in numbers]
        self._sides = [
            StoredBytes(*_present(entry, one), store, held) for entry, one in zip(entries, own, strict=True)
        ]
        usable = with_base and change.base is not None and _kind(change.base) == _kind(self._entry)
        self._base = StoredBytes(*_present(change.base, manifests[0]), store, held) if usable else None
        self.name = change.name
        self.sides = len(entries)
        self.has_base = usable

    @property
    def count(self) -> int:
        """How many values it has."""
        return self._entry.nbytes // value_width(self._entry.dtype)

    @property
    def dtype(self) -> np.dtype[Any]:
        """What values are computed in."""
        return computed_in(self._entry.dtype)

    def blocks(self) -> Iterator[Block]:
        """All blocks, in order."""
        return self.blocks_of(0, self.count)

    def blocks_of(self, start: int, count: int) -> Iterator[Block]:
        """The blocks of a range of values that begins at the border of a block."""
        for first in range(start, start + count, BLOCK_VALUES):
            length = min(BLOCK_VALUES, start + count - first)
            base = None if self._base is None else self._read(self._base, first, length)
            yield Block(first, base, tuple(self._read(side, first, length) for side in self._sides))

    def _read(self, source: StoredBytes, first: int, length: int) -> Values:
        dtype = self._entry.dtype
        width = value_width(dtype)
        return decode(source(first * width, length * width), dtype)


class Blender:
    """Computes tensors into an open file, several at once.

    Args:
        manifests: the common ancestor's, or None, and those of the sides, expanded.
        store: has the objects.
        fd: the file, open for writing.
        held: reads objects in the work tree; where they turn out to be others, the store is asked.
    """

    def __init__(
        self,
        manifests: Sequence[Manifest | None],
        store: Store,
        fd: int,
        held: Mapping[ObjectId, ReadRange] | None = None,
    ) -> None:
        self._manifests = manifests
        self._store = store
        self._fd = fd
        self._held = held or {}

    def run(self, works: Sequence[Work], workers: Workers) -> Iterator[tuple[Work, int, int]]:
        """Compute tensors.

        Returns:
            For each part as it is done: the tensor, the bytes of the part, and how many of its values are not
            finite although all versions of them were.

        Raises:
            UsageError: a parameter of a strategy is out of range.
            IntegrityError: a version is damaged; the message names the tensor.
            ObjectMissingError: an object is not in the store.
        """
        prepared = workers.map(self._prepare, works)
        parts = (part for one in prepared for part in self._parts(*one))
        return workers.map(self._part, parts)

    def _versions(self, work: Work, *, anywhere: bool = True) -> StoredVersions:
        needs_base = work.choice.needs_base
        held = self._held if anywhere else None
        return StoredVersions(
            work.change, work.taking_part, self._manifests, self._store, held, with_base=needs_base
        )

    def _prepare(self, work: Work) -> tuple[Work, Blend]:
        strategy = registry.strategy_by_name(work.choice.strategy)
        parameters = _taking_part(work)
        try:
            return work, strategy.prepare(self._versions(work), parameters)
        except IntegrityError:
            return work, strategy.prepare(self._versions(work, anywhere=False), parameters)

    def _parts(self, work: Work, blend: Blend) -> Iterator[tuple[Work, Blend, int, int]]:
        """The tensor in pieces that one thread computes: its parts, so that ids are checked."""
        start = 0
        for length in part_lengths(work.place.dtype, work.place.length, self._store.limits):
            yield work, blend, start, length
            start += length

    def _part(self, task: tuple[Work, Blend, int, int]) -> tuple[Work, int, int]:
        work = task[0]
        try:
            return self._compute(self._versions(work), *task)
        except IntegrityError:
            return self._compute(self._versions(work, anywhere=False), *task)

    def _compute(
        self, versions: StoredVersions, work: Work, blend: Blend, start: int, length: int
    ) -> tuple[Work, int, int]:
        """Blend a part and write it to its place."""
        width = value_width(work.place.dtype)
        position, bad = work.place.offset + start, 0
        for block in versions.blocks_of(start // width, length // width):
            with np.errstate(all="ignore"):
                values = blend(block)
                data = encode(values, work.place.dtype)
                bad += _appeared(values, data, block, work.place.dtype)
            fsops.write_at(self._fd, data, position)
            position += len(data)
        return work, length, bad


def _taking_part(work: Work) -> Parameters:
    """The parameters, with the weights of the sides that take part."""
    parameters = work.choice.parameters
    if len(work.change.sides) == 2:
        return parameters
    weights = parameters.weights or (1.0,) * len(work.change.sides)
    if len(weights) != len(work.change.sides):
        raise UsageError(f"{len(weights)} weights for {len(work.change.sides)} sides")
    return parameters._replace(weights=tuple(weights[number] for number in work.taking_part))


def _appeared(values: Values, data: Buffer, block: Block, dtype: DType) -> int:
    """How many values are not finite that were in all versions."""
    if not len(values) or is_within(values, dtype):
        return 0
    versions = (*block.sides, *(() if block.base is None else (block.base,)))
    bad = ~np.isfinite(decode(data, dtype))
    for version in versions:
        bad &= np.isfinite(version)
    return int(np.count_nonzero(bad))


def _present(entry: TensorEntry | None, manifest: Manifest | None) -> tuple[TensorEntry, Manifest]:
    assert entry is not None
    assert manifest is not None
    return entry, manifest


def _kind(entry: TensorEntry) -> tuple[DType, tuple[int, ...]]:
    return entry.dtype, entry.shape
