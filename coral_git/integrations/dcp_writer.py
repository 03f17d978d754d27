"""Writes distributed checkpoints of torch: each process stores a file, one of them makes the commit."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import closing
from typing import Any

from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner, WriteItemType
from torch.distributed.checkpoint.storage import StorageWriter, WriteResult
from torch.futures import Future

from coral_git.api.repository import Repository
from coral_git.errors import CoralError, UsageError
from coral_git.formats.base import TensorData
from coral_git.formats.safetensors_writer import safetensors_header
from coral_git.git.chains import check_name, tip
from coral_git.history.facts import metric_name
from coral_git.history.runs import RUNS
from coral_git.integrations.checkpoint_config import CheckpointConfig
from coral_git.integrations.dcp_checkpoint import Place, step_of, workspace_of
from coral_git.integrations.dcp_commit import NewDistributed, commit_distributed
from coral_git.integrations.dcp_index import rank_file
from coral_git.integrations.dcp_items import Stored, index_of, shard_of, value_of_item
from coral_git.integrations.ranks import rank
from coral_git.manifest.escape import printable
from coral_git.pipeline.manifests import read_manifest
from coral_git.pipeline.memory_source import MemorySource
from coral_git.pipeline.workspace import Workspace
from coral_git.repository import checkpointing, experiments


class CoralStorageWriter(StorageWriter):
    """Saves checkpoints of a run with ``torch.distributed.checkpoint.save`` and ``async_save``.

    Every process stores what is its own; the coordinator then makes one commit of it all, with a ref that
    comes last. ``checkpoint_id`` of ``save`` is the number of the step.

    Args:
        repository: where checkpoints are kept; all processes see the same one, on a shared file system.
        run: the name of the run; it is started where it is not there, and continued where it is.
        step: the number of the step; without it and ``checkpoint_id``, the one after the last.
        metrics: what was measured, by name.
        epoch: epochs that have ended.
        config: what is kept, and how.
        parameters: what is tried, for ``git coral experiment``, when the run is started.

    Raises:
        UsageError: a metric has no valid name.
    """

    def __init__(
        self,
        repository: Place,
        run: str,
        *,
        step: int | None = None,
        metrics: Mapping[str, float] | None = None,
        epoch: int | None = None,
        config: CheckpointConfig | None = None,
        parameters: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__()
        if isinstance(repository, Repository):
            self._path, self._delta_config = repository.path, repository.delta_config
        else:
            self._path, self._delta_config = os.path.abspath(os.fspath(repository)), None
        self._parameters = {key: str(value) for key, value in (parameters or {}).items()}
        measured = {metric_name(name): float(value) for name, value in (metrics or {}).items()}
        self._config = config or CheckpointConfig()
        self._new = NewDistributed(run, step, epoch, measured)
        self._given: int | None = None
        self._saving = self._new
        self._rank = 0

    def reset(self, checkpoint_id: str | os.PathLike[str] | None = None) -> None:
        """A save begins; the id is the number of the step.

        Raises:
            UsageError: it is no number.
        """
        self._given = None
        if checkpoint_id is not None:
            self._given = step_of(checkpoint_id)
            if self._given is None:
                raise UsageError(f"{checkpoint_id!a} is no number of a step", hint="e.g. checkpoint_id=1000")

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        """Whether this is the number of a step."""
        return step_of(checkpoint_id) is not None

    def set_up_storage_writer(self, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        """Start the run, where this process is the coordinator and there is none.

        Raises:
            UsageError: no run can have that name, or the processes do not work together.
        """
        if not kwargs.get("use_collectives", True):
            raise UsageError("processes that save without collectives cannot make one checkpoint")
        self._rank = int(kwargs["rank"]) if "rank" in kwargs else rank()  # torch has not always said it
        self._saving = self._new if self._given is None else self._new._replace(step=self._given)
        self._given = None
        if is_coordinator:
            with closing(self._open()) as workspace:
                check_name(workspace.git, RUNS + self._new.run, self._new.run)
                if not tip(workspace.git, RUNS + self._new.run):
                    experiments.start(workspace, self._new.run, parameters=self._parameters)

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        """The plan is fine as it is."""
        return plan

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        """The plans are fine as they are."""
        return plans

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        """Store what this process has of the checkpoint.

        Raises:
            UsageError: something of it cannot be kept.
            CoralError: the store cannot be written.
        """
        tensors: dict[str, TensorData] = {}
        trees = {}
        for item in plan.items:
            if item.type == WriteItemType.BYTE_IO:
                trees[item.index.fqn], found = value_of_item(item, planner)
            else:
                found = shard_of(item, planner)
            for one in found:
                if one.name in tensors:
                    raise UsageError(f"two tensors would be called '{printable(one.name)}'")
                tensors[one.name] = one
        blob = self._store(list(tensors.values())) if tensors else ""
        results = []
        for item in plan.items:
            stored = Stored(self._rank, blob, trees.get(item.index.fqn))
            results.append(WriteResult(item.index, item.tensor_storage_size() or 0, stored))
        done: Future[list[WriteResult]] = Future()
        done.set_result(results)
        return done

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """Make the commit of what all processes have stored.

        Raises:
            CoralError: a process did not say what it stored, or its file is not here.
            GitError: git refuses; the checkpoint is not there then.
        """
        index = index_of(metadata, results)
        said = [one.storage_data for of_rank in results for one in of_rank]
        files = {(os.fsencode(rank_file(one.rank)), one.blob) for one in said if one.blob}
        blobs = dict(files)
        if len(blobs) != len(files):
            raise CoralError("two processes have the same rank", hint="save in the default process group")
        with closing(self._open()) as workspace:
            commit_distributed(workspace, self._saving, self._config, index, blobs)

    def _open(self) -> Workspace:
        if self._delta_config is None:
            return workspace_of(self._path)
        with Repository(self._path, delta_config=self._delta_config) as repository:
            return workspace_of(repository)

    def _store(self, tensors: list[TensorData]) -> str:
        header, ordered = safetensors_header(tensors, {})
        path = rank_file(self._rank)
        with closing(self._open()) as workspace:
            blob = checkpointing.store_file(
                workspace,
                self._new.run,
                path,
                MemorySource(header, ordered),
                is_incremental=self._config.use_incremental_saves,
            )
            found = read_manifest(workspace, blob.encode())
            if found is None or found.manifest.tensor_count != len(tensors):
                raise CoralError(
                    f"'{path}' cannot be read back: a name is odd, or there are too many tensors"
                )
        return blob
