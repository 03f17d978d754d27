"""Reads distributed checkpoints of torch from the store: each process only the rows that it needs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, NamedTuple, Unpack

import torch
from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.checkpoint.planner import LoadItemType, LoadPlan, LoadPlanner, ReadItem
from torch.distributed.checkpoint.storage import StorageReader
from torch.futures import Future

from coral_git.errors import IntegrityError, UsageError
from coral_git.integrations.dcp_checkpoint import Place, StoredCheckpoint, Which, step_of
from coral_git.integrations.dcp_index import Chunk
from coral_git.integrations.dcp_torch import as_file, box_range, copy_box, metadata_of, value_of
from coral_git.manifest.entries import TensorEntry
from coral_git.manifest.escape import printable
from coral_git.pipeline.parallel import Workers
from coral_git.types import ObjectId


class CoralStorageReader(StorageReader):
    """Loads a checkpoint of a run with ``torch.distributed.checkpoint.load``, into any number of processes.

    ``checkpoint_id`` of ``load`` may name it instead: the number of a step, ``last``, ``best``, or a branch,
    a tag or a commit.

    Args:
        repository: where it is; all processes see the same one, or clones that have the same checkpoint.
        run: the run.
        which: which checkpoint: ``step``, ``best``, ``commit_hash`` or ``revision``; the last one by default.
    """

    def __init__(self, repository: Place, run: str | None = None, **which: Unpack[Which]) -> None:
        super().__init__()
        self._repository = repository
        self._run = run
        self._chosen = self._which = which
        self._checkpoint: StoredCheckpoint | None = None

    def reset(self, checkpoint_id: str | os.PathLike[str] | None = None) -> None:
        """A load begins; the id chooses another checkpoint than was said in the beginning.

        Raises:
            UsageError: that is no name of one.
        """
        self._checkpoint = None
        self._which = self._chosen
        if checkpoint_id is None:
            return
        if not self.validate_checkpoint_id(checkpoint_id):
            raise UsageError(f"{checkpoint_id!a} names no checkpoint", hint="e.g. the number of a step")
        config = self._which.get("config")
        name, step = str(checkpoint_id), step_of(checkpoint_id)
        if step is not None:
            self._which = Which(config=config, step=step)
        elif name in ("last", "best"):
            self._which = Which(config=config, best=name == "best")
        else:
            self._which = Which(config=config, revision=name)

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        """Whether this can be the number of a step, a word for a checkpoint, or a revision."""
        if step_of(checkpoint_id) is not None:
            return True
        return isinstance(checkpoint_id, str) and checkpoint_id.isprintable() and checkpoint_id[:1] not in "-"

    def read_metadata(self, *args: Any, **options: Any) -> Metadata:
        """Which tensors there are, and in which chunks.

        Raises:
            UsageError: there is no such checkpoint, or it is no distributed one.
            IntegrityError: its index contradicts itself.
        """
        self._checkpoint = StoredCheckpoint(self._repository, self._run, self._which)
        return metadata_of(self._checkpoint.index)

    def set_up_storage_reader(
        self, metadata: Metadata, is_coordinator: bool, *args: Any, **kwargs: Any
    ) -> None:
        """Nothing to do."""

    def prepare_local_plan(self, plan: LoadPlan) -> LoadPlan:
        """Say which commit this process reads."""
        plan.storage_data = self._found().commit
        return plan

    def prepare_global_plan(self, plans: list[LoadPlan]) -> list[LoadPlan]:
        """Compare what the processes read.

        Raises:
            UsageError: a checkpoint was saved meanwhile, or not all of them have it.
        """
        if len({plan.storage_data for plan in plans}) > 1:
            raise UsageError("the processes would read different checkpoints", hint="name a step")
        return plans

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        """Read what this process needs; what is not here is fetched first.

        Raises:
            IntegrityError: what is stored is damaged, or not what the index says.
            ObjectMissingError: an object cannot be had.
        """
        checkpoint = self._found()
        self._which = self._chosen  # torch does not say that a load begins when it has no id
        for item in plan.items:
            if item.type == LoadItemType.BYTE_IO:
                planner.load_bytes(item, as_file(value_of(checkpoint, item.storage_index.fqn)))
        tasks = _tasks(checkpoint, [item for item in plan.items if item.type == LoadItemType.TENSOR])
        checkpoint.bring(tuple(dict.fromkeys(one for task in tasks for one in task.objects)))
        with Workers(checkpoint.workspace.settings.threads) as workers:
            for copied in workers.map(_copy, _resolved(checkpoint, tasks, planner)):
                for item, target in copied.targets:
                    planner.commit_tensor(item, target)
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def _found(self) -> StoredCheckpoint:
        if self._checkpoint is None:
            self.read_metadata()
        assert self._checkpoint is not None
        return self._checkpoint


class _Task(NamedTuple):
    """What is read of a chunk.

    Attributes:
        rank: the process that stored it.
        entry: what is stored.
        items: the boxes of it that are needed.
        objects: what these are in.
    """

    rank: int
    entry: TensorEntry
    items: list[ReadItem]
    objects: list[ObjectId]


class _Copying(NamedTuple):
    """A chunk and where boxes of it go."""

    checkpoint: StoredCheckpoint
    task: _Task
    targets: list[tuple[ReadItem, torch.Tensor]]


def _tasks(checkpoint: StoredCheckpoint, items: list[ReadItem]) -> list[_Task]:
    """What is to be read, chunk by chunk.

    Raises:
        IntegrityError: what is stored is not what the index says.
    """
    tasks: dict[tuple[str, tuple[int, ...]], _Task] = {}
    for item in items:
        name, offsets = item.storage_index.fqn, tuple(item.storage_index.offset or ())
        if 0 in item.lengths:
            continue
        task = tasks.get((name, offsets))
        if task is None:
            chunk = _find_chunk(checkpoint, item)
            task = tasks[name, offsets] = _Task(chunk.rank, checkpoint.chunk(name, chunk), [], [])
        entry = task.entry
        task.items.append(item)
        start, end = box_range(entry.dtype, entry.shape, tuple(item.storage_offsets), tuple(item.lengths))
        task.objects.extend(checkpoint.objects_in(entry, start, end))
    return sorted(tasks.values(), key=lambda task: task.rank)


def _find_chunk(checkpoint: StoredCheckpoint, item: ReadItem) -> Chunk:
    wanted = item.storage_index
    tensor = checkpoint.index.tensors.get(wanted.fqn)
    offsets = tuple(wanted.offset or ())
    chunks = () if tensor is None else tensor.chunks
    if wanted.index is not None and wanted.index < len(chunks):
        chunks = (chunks[wanted.index], *chunks)
    for chunk in chunks:
        if chunk.offsets == offsets and 0 not in chunk.sizes:
            return chunk
    raise IntegrityError(f"the checkpoint has no chunk of '{printable(wanted.fqn)}' at {offsets}")


def _resolved(checkpoint: StoredCheckpoint, tasks: list[_Task], planner: LoadPlanner) -> Iterator[_Copying]:
    """The tasks with the tensors that they fill, asked for as they are needed.

    Raises:
        UsageError: such a tensor has other dimensions.
    """
    for task in tasks:
        targets = []
        for item in task.items:
            target = planner.resolve_tensor(item).detach()
            if target.size() != item.lengths:
                raise UsageError(
                    f"'{printable(item.dest_index.fqn)}' is {tuple(target.size())}, not {tuple(item.lengths)}"
                )
            targets.append((item, target))
        yield _Copying(checkpoint, task, targets)


def _copy(copying: _Copying) -> _Copying:
    """Fill tensors; runs in a thread."""
    task = copying.task
    read = copying.checkpoint.bytes_of(task.rank, task.entry)
    for item, target in copying.targets:
        offsets, lengths = tuple(item.storage_offsets), tuple(item.lengths)
        copy_box(read, task.entry.dtype, task.entry.shape, offsets, lengths, target)
    return copying
