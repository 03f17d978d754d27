"""A planned merge carried out: the file that comes out of it, stored, and its manifest.

The file is built once, in the store, without the tensors that are stored already: they are holes. The bytes
between the tensors and what a strategy computes are written into it, checksums are put right, and the new
parts are stored from there. The digest of the whole file needs the others too: they are read from the file in
the work tree, where that has them, else from the store.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple, Self

from coral_git import fsops
from coral_git.codecs.strategies import Strategy
from coral_git.errors import IntegrityError, from_os_error
from coral_git.formats.assemblers import assembler_by_name
from coral_git.formats.base import CannotAssemble, Checksum, Layout, TensorData, TensorSegment
from coral_git.formats.menders import mender_by_name
from coral_git.formats.mending import covering, mend
from coral_git.formats.registry import read_layout
from coral_git.limits import MIB
from coral_git.manifest.build import build
from coral_git.manifest.entries import Manifest, TensorEntry
from coral_git.manifest.parts import Part
from coral_git.manifest.parts import parts as list_parts
from coral_git.manifest.render import render, tabulate
from coral_git.merge.digest import digest_of
from coral_git.merge.plan import Plan
from coral_git.merge.skeleton import checksums_of
from coral_git.merge.three_way import Outcome
from coral_git.merge.worktree import objects_in_work_tree
from coral_git.pipeline.bases import BaseFinder
from coral_git.pipeline.delta_types import delta_type_of
from coral_git.pipeline.encode import Encoder
from coral_git.pipeline.messages import missing_message
from coral_git.pipeline.missing import bring_objects
from coral_git.pipeline.parallel import Workers
from coral_git.pipeline.part_source import ReadRange, part_of_bytes, read_ranges
from coral_git.pipeline.source import FileSource
from coral_git.pipeline.stored_file import RestSource, layout_of
from coral_git.pipeline.storing import base_search, with_bases
from coral_git.pipeline.tensors import StoredBytes
from coral_git.pipeline.workspace import Workspace
from coral_git.types import Buffer, FileDigest, ObjectId

_ZEROS = bytes(MIB)


class BadValues(NamedTuple):
    """Values that are not finite in a computed tensor, and were in all its versions."""

    name: str
    values: int


class Merged(NamedTuple):
    """A merge that was carried out.

    Attributes:
        text: the manifest of the result, whose objects are stored durably.
        bad: computed tensors with new values that are not finite; with any, ``text`` is empty unless they
            are allowed.
    """

    text: bytes
    bad: tuple[BadValues, ...] = ()


def carry_out(
    workspace: Workspace,
    path: bytes,
    plan: Plan,
    *,
    allow_nonfinite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Merged:
    """Compute and store what a plan says.

    Args:
        workspace: the repository.
        path: the file, relative to the root of the work tree.
        plan: without conflicts.
        allow_nonfinite: whether new infinities and NaNs are taken.
        progress: is told the computed bytes that are done, and those there are.

    Raises:
        CannotAssemble: the sides have no common form; nothing was stored.
        UsageError: a parameter is out of range.
        CoralError: an object is missing or damaged, or the store cannot be written.
    """
    same = _existing(plan)
    if same is not None:
        return Merged(_text(workspace, same))
    try:
        with (
            objects_in_work_tree(workspace, path, plan.sides) as present,
            _NewFile(workspace, path, plan, present) as file,
            Workers(workspace.settings.threads) as workers,
        ):
            bad = file.compute(workers, progress)
            if bad and not allow_nonfinite:
                return Merged(b"", bad)
            return Merged(file.store(workers), bad)
    except OSError as error:
        raise from_os_error(error, f"merge '{os.fsdecode(path)}'") from error


def _existing(plan: Plan) -> Manifest | None:
    """A version that is the result already."""
    if any(one.outcome is Outcome.MERGED for one in plan.decisions) or plan.skeleton is None:
        return None
    wanted = {tensor.name: tensor for tensor in plan.results}
    own = {tensor.name: tensor for tensor in plan.skeleton.tensors}
    return plan.skeleton if wanted == own else None


def _text(workspace: Workspace, manifest: Manifest) -> bytes:
    return render(tabulate(manifest, workspace.limits)[0])


class _NewFile:
    """The file that is being built."""

    def __init__(
        self, workspace: Workspace, path: bytes, plan: Plan, present: Mapping[ObjectId, ReadRange]
    ) -> None:
        self._workspace = workspace
        self._store = workspace.store
        self._path = path
        self._plan = plan
        self._present = present
        self._results = {tensor.name: tensor for tensor in plan.results}
        self._manifests = (plan.base, *plan.sides)
        self._computed = {one.change.name: one for one in plan.decisions if one.outcome is Outcome.MERGED}
        place = os.path.join(self._store.layout.incoming, fsops.unique_name("merge"))
        self._fd = fsops.create_exclusive(place, 0o600)
        os.unlink(place)
        self._layout = Layout("", ())
        self._checksums: Sequence[Checksum] = ()

    def __enter__(self) -> Self:
        try:
            if self._plan.skeleton is None:
                self._assemble()
            else:
                self._copy_skeleton(self._plan.skeleton)
        except BaseException:
            os.close(self._fd)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def compute(self, workers: Workers, progress: Callable[[int, int], None] | None) -> tuple[BadValues, ...]:
        """Write the computed tensors, and put the checksums right."""
        bad: dict[str, int] = {}
        if self._computed:
            from coral_git.merge.blend import Blender, Work  # imports numpy

            works = [
                Work(decision.change, decision.taking_part, decision.choice, place)
                for place in self._layout.tensors
                if (decision := self._computed.get(place.name)) is not None and decision.choice is not None
            ]
            done, total = 0, sum(work.place.length for work in works)
            blender = Blender(self._manifests, self._store, self._fd, self._present)
            for work, length, count in blender.run(works, workers):
                done += length
                if count:
                    bad[work.change.name] = bad.get(work.change.name, 0) + count
                if progress is not None:
                    progress(done, total)
        self._mend()
        return tuple(BadValues(name, count) for name, count in bad.items())

    def store(self, workers: Workers) -> bytes:
        """Store what is new, and give the manifest."""
        source = self._source()
        try:
            return self._store_from(source, workers)
        finally:
            source.close()

    def _store_from(self, source: FileSource, workers: Workers) -> bytes:
        limits = self._store.limits
        every = list_parts(self._layout, source.size, limits)
        new = [part for part in every if part.tensor is None or part.tensor in self._computed]
        finder = BaseFinder((one for one in self._manifests if one is not None), lambda name, number: ())
        encoder = self._encoder(workers)
        with self._store.writer() as writer:
            parts = (with_bases(source, part, False, finder) for part in new)
            ids = encoder.store_parts(parts, writer)
            manifest = self._manifest(source.size, new, ids)
            own = {one: read_ranges(source, part.ranges) for one, part in zip(ids, new, strict=True)}
            digest = digest_of(self._workspace, self._path, manifest, (own, self._present), workers)
            whole, tables = tabulate(manifest._replace(sha256=digest), limits)
            encoder.store_parts([part_of_bytes(table) for table in tables], writer)
            writer.finish()
        return render(whole)

    def _encoder(self, workers: Workers) -> Encoder:
        workspace = self._workspace
        strategy = Strategy(delta_type_of(workspace, self._path), workspace.settings.profile)
        return Encoder(self._store, workers, strategy=strategy, search=partial(base_search, workspace))

    def _manifest(self, size: int, new: Sequence[Part], ids: Sequence[ObjectId]) -> Manifest:
        """The manifest, still without the digest of the file."""
        made: dict[str | None, list[ObjectId]] = {}
        for part, object_id in zip(new, ids, strict=True):
            made.setdefault(part.tensor, []).append(object_id)
        every = list(made.get(None, ()))
        for place in self._layout.tensors:
            every += made.get(place.name) or self._results[place.name].objects
        return build(self._layout, size, FileDigest(bytes(32)), every, self._store.limits)

    def _source(self) -> FileSource:
        return FileSource(os.dup(self._fd), os.fstat(self._fd), None)

    def _copy_skeleton(self, skeleton: Manifest) -> None:
        """The bytes between the tensors of a version; what its checksums need besides is written too."""
        source = RestSource(skeleton, self._store)
        os.ftruncate(self._fd, skeleton.size)
        for offset, length in source.ranges:
            for start in range(offset, offset + length, MIB):
                fsops.write_at(self._fd, source.read_at(start, min(MIB, offset + length - start)), start)
        self._layout = layout_of(skeleton)
        own = {tensor.name: tensor for tensor in skeleton.tensors}
        changed = [
            place
            for place in self._layout.tensors
            if place.name in self._computed or self._results[place.name] != own[place.name]
        ]
        self._checksums = covering(checksums_of(skeleton, self._store), changed)

    def _assemble(self) -> None:
        """A new file, with tensors of zeros; all checksums are wrong then."""
        assembler = assembler_by_name(self._plan.sides[0].format)
        assert assembler is not None
        base, sides = self._plan.base, [RestSource(one, self._store) for one in self._plan.sides]
        is_alike = base is not None and base.format.partition("/")[0] == assembler.name
        start = RestSource(base, self._store) if base is not None and is_alike else None
        tensors = [TensorData(one.name, one.dtype, one.shape, _zeros) for one in self._results.values()]
        with os.fdopen(os.dup(self._fd), "w+b") as out:
            assembler.assemble(out, start, sides, tensors, self._plan.prefers)
        source = self._source()
        try:
            layout = read_layout(source, self._workspace.limits)
            if layout is None or {place.name for place in layout.tensors} != set(self._results):
                raise CannotAssemble("the new file is not understood")
            mender = mender_by_name(layout.format)
            self._checksums = () if mender is None else mender.checksums(source, layout)
        finally:
            source.close()
        self._layout = layout

    def _mend(self) -> None:
        """Put checksums right; for that, every byte that they are of must be there."""
        ranges = sorted((one.offset, one.offset + one.length) for one in self._checksums)
        starts = [start for start, _ in ranges]
        for place in self._layout.tensors:
            number = bisect_right(starts, place.offset) - 1
            if place.name not in self._computed and number >= 0 and place.offset < ranges[number][1]:
                self._copy_tensor(place)
        mend(self._fd, self._checksums)

    def _copy_tensor(self, place: TensorSegment) -> None:
        """Write the bytes of a tensor that is there already to their place."""
        tensor = self._results[place.name]
        if self._present.keys() >= set(tensor.objects):
            try:
                self._copy_bytes(place, tensor, self._present)
                return
            except IntegrityError:  # the file in the work tree is another one
                pass
        self._bring(tensor)
        self._copy_bytes(place, tensor, {})

    def _copy_bytes(
        self, place: TensorSegment, tensor: TensorEntry, held: Mapping[ObjectId, ReadRange]
    ) -> None:
        read = StoredBytes(tensor, self._plan.sides[0], self._store, held)
        for start in range(0, place.length, MIB):
            fsops.write_at(self._fd, read(start, min(MIB, place.length - start)), place.offset + start)

    def _bring(self, tensor: TensorEntry) -> None:
        """Fetch what a tensor lacks."""
        wanted = self._plan.sides[0]._replace(tensors=(tensor,), rest=())
        missing = bring_objects(self._workspace, [(self._path, wanted)])
        if missing:
            raise missing_message(self._path, wanted, missing)


def _zeros(_start: int, length: int) -> Buffer:
    return memoryview(_ZEROS)[:length]
