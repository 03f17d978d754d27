"""Weights made smaller by losing precision, when the user says so, in the work tree.

Each float32 tensor is replaced by what quantizing its difference to its base gives, or by what quantizing the
tensor gives where it has no base. The file then *has* those values, and is stored without any loss: the codec
finds the quantized integers again. A filter never comes here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import numpy as np
from blake3 import blake3

from coral_git import fsops
from coral_git.codecs.base import EncodedObject
from coral_git.codecs.choose import sample
from coral_git.codecs.quantize import quantize
from coral_git.codecs.strategies import Strategy
from coral_git.codecs.sub import pad_base
from coral_git.errors import CoralError, UsageError, from_os_error
from coral_git.formats.base import Layout, Mender
from coral_git.formats.menders import mender_by_name
from coral_git.formats.mending import covering, mend
from coral_git.formats.registry import read_layout
from coral_git.git.worktree import WorkTreeFile
from coral_git.manifest.parts import Part
from coral_git.manifest.parts import parts as list_parts
from coral_git.pipeline.bases import BaseFinder
from coral_git.pipeline.delta_base import BaseOpener, DeltaBase
from coral_git.pipeline.encode_against import Raw, encode_against, facing_block
from coral_git.pipeline.manifests import read_manifest
from coral_git.pipeline.parallel import Workers
from coral_git.pipeline.part_source import ReadRange, hash_part
from coral_git.pipeline.source import FileSource, identity, open_regular
from coral_git.pipeline.storing import base_finder, base_search, with_bases
from coral_git.pipeline.workspace import Workspace
from coral_git.store.objects import ObjectReader, verify_object
from coral_git.store.writer import PackWriter
from coral_git.types import Buffer, DeltaType, ObjectId

ORIGINAL = ".orig"
"""Comes after the name of a file whose exact version is kept."""

LEAST_BYTES = 4096
"""Smaller tensors (norms, biases) stay as they are: they matter most and cost least."""

_COPY_BYTES = 1 << 20

Progress = Callable[[int, int], None]


@dataclass(slots=True)
class TensorLoss:
    """What quantizing did to a tensor.

    Attributes:
        name: the tensor.
        weights: its elements.
        raw_bytes: its bytes.
        stored_bytes: what the store needs for it; 0 where it stays as it was committed.
        largest: the largest absolute difference between a weight and what it was.
        total: the sum of all of them.
    """

    name: str
    weights: int = 0
    raw_bytes: int = 0
    stored_bytes: int = 0
    largest: float = 0.0
    total: float = 0.0

    def add(self, part: _Quantized, stored_bytes: int) -> None:
        """Count a part of the tensor."""
        self.stored_bytes += stored_bytes
        self.weights += part.part.length // part.part.element.width
        self.raw_bytes += part.part.length
        self.largest = max(self.largest, part.largest)
        self.total += part.total

    @property
    def mean(self) -> float:
        """The mean absolute difference."""
        return self.total / self.weights if self.weights else 0.0


@dataclass(slots=True)
class LossReport:
    """What quantizing did to a file.

    Attributes:
        path: the file, relative to the root of the work tree.
        tensors: those that were quantized.
        exact: how many stay as they are: integers, other floats, and small ones.
    """

    path: bytes
    tensors: list[TensorLoss] = field(default_factory=list)
    exact: int = 0


class _Quantized(NamedTuple):
    """A part of a tensor after quantizing; ``encoded`` is None where it stays as it was committed."""

    part: Part
    encoded: EncodedObject | None
    largest: float
    total: float


def make_lossy(
    workspace: Workspace,
    path: bytes,
    delta_type: DeltaType,
    *,
    keep_original: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> LossReport:
    """Quantize the float32 tensors of a file of the work tree and store the result.

    Args:
        workspace: the repository, with a work tree.
        path: the file, relative to the root of the work tree.
        delta_type: ``INT8_QUANTIZED`` or ``INT16_QUANTIZED``.
        keep_original: whether the file as it was stays beside it, with ``.orig`` after its name.
        dry_run: only report.
        progress: is told the bytes that are done and those there are.

    Raises:
        UsageError: there is no such file, its format cannot be changed, or the copy is there already.
        CoralError: the file changed meanwhile, or the disk is full; the file is as it was.
    """
    root = workspace.paths.work_tree or "."
    source = open_regular(os.path.relpath(os.path.join(os.fsencode(root), path)))
    if source is None:
        raise UsageError(f"'{os.fsdecode(path)}' is no regular file")
    try:
        return _Quantizing(workspace, source, path, delta_type).run(keep_original, dry_run, progress)
    except OSError as error:
        raise from_os_error(error, f"quantize '{os.fsdecode(path)}'") from error
    finally:
        source.close()


class _Quantizing:
    """One file in hand."""

    def __init__(self, workspace: Workspace, source: FileSource, path: bytes, delta_type: DeltaType) -> None:
        self._workspace = workspace
        self._store = workspace.store
        self._source = source
        self._path = path
        self._strategy = Strategy(delta_type)
        self._opener = BaseOpener(workspace.store, 0, partial(base_search, workspace))

    def run(self, keep_original: bool, dry_run: bool, progress: Progress | None) -> LossReport:
        layout, mender = self._understand()
        parts, report = self._plan(layout)
        losses = {name: TensorLoss(name) for name in dict.fromkeys(part.tensor or "" for part in parts)}
        root, git_dir = self._workspace.paths.work_tree or ".", self._workspace.paths.git_dir
        with WorkTreeFile(root, self._path, git_dir=git_dir) as file:
            self._copy_to(file.fd)
            self._quantize_all(parts, file.fd, losses, dry_run, progress)
            changed = {name for name, loss in losses.items() if loss.stored_bytes}
            checksums = mender.checksums(self._source, layout)
            mend(file.fd, covering(checksums, (one for one in layout.tensors if one.name in changed)))
            self._source.check_unchanged()
            if not dry_run:
                self._put_in_place(file, keep_original)
        report.tensors = list(losses.values())
        return report

    def _understand(self) -> tuple[Layout, Mender]:
        """The tensors of the file, and what puts its checksums right when they have changed."""
        layout = read_layout(self._source, self._workspace.limits)
        mender = None if layout is None else mender_by_name(layout.format)
        if layout is None or mender is None:
            raise UsageError(
                f"'{os.fsdecode(self._path)}' cannot be quantized: no tensors were found that can be changed",
                hint="leave out --delta-type",
            )
        return layout, mender

    def _plan(self, layout: Layout) -> tuple[list[Part], LossReport]:
        """The parts to quantize."""
        limits = self._workspace.limits
        fit = {
            tensor.name
            for tensor in layout.tensors
            if tensor.dtype.name == "F32" and tensor.length >= LEAST_BYTES
        }
        chosen = [part for part in list_parts(layout, self._source.size, limits) if part.tensor in fit]
        return chosen, LossReport(self._path, exact=len(layout.tensors) - len(fit))

    def _copy_to(self, fd: int) -> None:
        for offset in range(0, self._source.size, _COPY_BYTES):
            fsops.write_at(fd, self._source.read_at(offset, _COPY_BYTES), offset)

    def _quantize_all(
        self,
        parts: list[Part],
        fd: int,
        losses: dict[str, TensorLoss],
        dry_run: bool,
        progress: Progress | None,
    ) -> None:
        """Quantize the parts in the new file, and store them."""
        done, total = 0, sum(part.length for part in parts)
        one = partial(self._quantize_part, self._finder(), fd)
        with Workers(self._workspace.settings.threads) as workers, self._workspace.store.writer() as writer:
            for result in workers.map(one, parts):
                losses[result.part.tensor or ""].add(result, self._store_one(result, writer))
                done += result.part.length
                if progress is not None:
                    progress(done, total)
            if not dry_run:
                writer.finish()

    def _store_one(self, result: _Quantized, writer: PackWriter) -> int:
        """Write an object unless it is stored; gives the bytes that it takes."""
        if result.encoded is None:
            return 0
        if writer.contains(result.encoded.object_id):
            return self._store.locate(result.encoded.object_id).entry_length
        return writer.add(result.encoded)

    def _finder(self) -> BaseFinder:
        """What is committed is what counts: the exact version may have been staged by mistake."""
        committed = read_manifest(self._workspace, b"HEAD:" + self._path)
        return base_finder(self._workspace, self._path, () if committed is None else (committed,))

    def _quantize_part(self, finder: BaseFinder, fd: int, part: Part) -> _Quantized:
        """Quantize a part in the new file and encode it; what did not change since the last commit stays."""
        hashed = hash_part(with_bases(self._source, part, False, finder))
        if hashed.object_id in hashed.source.bases:
            return _Quantized(part, None, 0.0, 0.0)
        own = sample(hashed.read, part.length, part.element)
        facing = self._opener.choose(hashed, own)
        base, codec = None, self._strategy.standalone(part.element)
        if facing is not None:
            base = self._reader(facing.base)
            codec = self._strategy.delta(part.element, part.length // part.element.width, own, facing.sample)
        file_offset = part.ranges[0][0]
        digest, largest, total = blake3(), 0.0, 0.0
        for start, raw in _blocks(
            hashed.read, part.length, codec.block_size(part.element, self._store.limits)
        ):
            values = np.frombuffer(raw, "<f4")
            faced = None if base is None else facing_block(codec, part.element, base, start, len(raw))
            result = self._quantize(values, faced)
            fsops.write_at(fd, result, file_offset + start)
            digest.update(result)
            most, all_of_it = _differences(values, np.frombuffer(result, "<f4"))
            largest, total = max(largest, most), total + all_of_it
        read = partial(_read_at, fd, file_offset)
        raw_part = Raw(ObjectId(digest.digest()), read, part.length, part.element)
        return _Quantized(part, encode_against(raw_part, codec, base, self._store.limits), largest, total)

    def _quantize(self, values: np.ndarray, faced: Buffer | None) -> bytes:
        base = None if faced is None else np.frombuffer(pad_base(faced, values.nbytes), "<f4")
        return quantize(values, base, self._strategy.delta_type.bits).astype("<f4", copy=False).tobytes()

    def _reader(self, base: DeltaBase) -> ObjectReader:
        """The base, all of whose bytes are known to be sound.

        Raises:
            IntegrityError: they are not.
        """
        if not base.is_verified:
            damage = verify_object(self._store.reader(base.object_id))
            if damage is not None:
                raise damage
        return self._store.reader(base.object_id)

    def _put_in_place(self, file: WorkTreeFile, keep_original: bool) -> None:
        """Replace the file of the work tree, if nobody has written to it meanwhile."""
        if keep_original:
            self._keep_original()
        fsops.sync_file(file.fd, os.fsdecode(self._path))
        was = identity(self._source.status)
        if file.commit(lambda fd: fd is not None and _is_still(os.fstat(fd), was)) is None:
            raise CoralError(f"'{os.fsdecode(self._path)}' changed meanwhile", hint="add it again")

    def _keep_original(self) -> None:
        """Give the file a second name; its inode is left alone when the first name gets another one.

        Raises:
            UsageError: there is a file of that name.
            CoralError: the file system refused.
        """
        place = os.fsdecode(os.path.join(os.fsencode(self._workspace.paths.work_tree or "."), self._path))
        try:
            os.link(place, place + ORIGINAL)
        except FileExistsError as error:
            raise UsageError(f"'{os.fsdecode(self._path)}{ORIGINAL}' exists", hint="move it away") from error
        except OSError as error:
            raise from_os_error(error, f"keep '{os.fsdecode(self._path)}'") from error


def _is_still(status: os.stat_result, was: tuple[int, int, int, int, int]) -> bool:
    """Whether a file was not written to; a second name changes the time of its status only."""
    now = identity(status)
    return (*now[:2], *now[3:]) == (*was[:2], *was[3:])


def _blocks(read: ReadRange, length: int, size: int) -> Iterator[tuple[int, Buffer]]:
    for start in range(0, length, size):
        yield start, read(start, min(size, length - start))


def _read_at(fd: int, offset: int, start: int, length: int) -> bytes:
    return os.pread(fd, length, offset + start)


def _differences(before: np.ndarray, after: np.ndarray) -> tuple[float, float]:
    """The largest absolute difference and the sum of all; what is no finite number is not changed."""
    with np.errstate(invalid="ignore", over="ignore"):
        apart = np.abs(after.astype(np.float64) - before)
    apart = apart[np.isfinite(apart)]
    return float(apart.max(initial=0.0)), float(apart.sum())
