"""The checkpoints of one run: stored in the background, listed, ranked, dropped, read; for every framework.

Every integration stands on this: it says what a checkpoint has in it, and when there is one.
"""

from __future__ import annotations

import os
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from coral_git.api.repository import Repository
from coral_git.errors import CoralError
from coral_git.formats.base import TensorData
from coral_git.git.chains import tip
from coral_git.history.checkpoints import Checkpoint, read_checkpoints
from coral_git.history.facts import metric_name
from coral_git.history.goals import Goal
from coral_git.history.runs import RUNS, Run, read_run
from coral_git.integrations.background import Background, Job
from coral_git.integrations.bridge import ExperimentBridge
from coral_git.integrations.checkpoint_config import CheckpointConfig
from coral_git.integrations.kept_checkpoints import (
    SavedCheckpoint,
    choose_checkpoint,
    drop_others,
    free_room,
    goal_of,
    kept_checkpoints,
    stage_blobs,
    subject_of,
    tag_best,
)
from coral_git.pipeline.clean import Source
from coral_git.pipeline.tensors import stored_tensors
from coral_git.repository import checkpointing, experiments
from coral_git.repository.checkpointing import NewCheckpoint
from coral_git.repository.printing import bring
from coral_git.repository.spec import stored_manifest

_FREE_AFTER = 8
"""Fewer dropped checkpoints than this are not worth a walk over the object database."""


class Snapshot(NamedTuple):
    """What a checkpoint is made of.

    Attributes:
        step: its number; a checkpoint of this number that is there is replaced.
        epoch: epochs that have ended.
        metrics: values by name.
        files: gives the weight files by path from the root of the work tree; called in the background.
        plain: small files that git keeps as they are, by path.
        is_best: whether it is the best one so far.
    """

    step: int
    epoch: int
    metrics: Mapping[str, float]
    files: Callable[[], Mapping[str, Source]]
    plain: Mapping[str, bytes] = {}
    is_best: bool = False


class RunRecorder:
    """Keeps the checkpoints of a run.

    Saving and waiting are for one thread, that of the training; the work is done in another one. The work
    tree and HEAD are never touched, nor is the index, unless ``auto_commit`` is off.

    Args:
        repository: where checkpoints are kept.
        name: the name of the run; one of this name is continued, even if it has ended.
        config: what is kept, and how.
        parameters: what is tried, for ``git coral experiment``.
        bridge: is told what is saved.
        writes: whether this process writes; else it only reads what another one writes.

    Raises:
        UsageError: no run can have that name.
    """

    def __init__(
        self,
        repository: Repository,
        name: str,
        config: CheckpointConfig | None = None,
        *,
        parameters: Mapping[str, object] | None = None,
        bridge: ExperimentBridge | None = None,
        writes: bool = True,
    ) -> None:
        self.name = name
        self.config = config or CheckpointConfig()
        self.file = repository.file
        self._bridge = bridge if writes else None
        self._background = Background(strict=self.config.strict)
        self._running: list[Job[Checkpoint | None]] = []
        self._dropped = 0
        self._workspace = repository.new_workspace()
        weakref.finalize(self, self._workspace.close)
        tried = {key: str(value) for key, value in (parameters or {}).items()}
        if writes and not tip(self._workspace.git, RUNS + name):
            experiments.start(self._workspace, name, parameters=tried)
        if self._bridge is not None:
            self._bridge.start(name, tried)

    @property
    def run(self) -> Run:
        """The run as git has it."""
        return read_run(self._workspace.git, self.name)

    @property
    def goal(self) -> Goal:
        """What makes a checkpoint better than another one."""
        return goal_of(self.config)

    # Writing

    def save(self, snapshot: Snapshot) -> Job[Checkpoint | None]:
        """Store a checkpoint in the background; one that is still being stored is waited for.

        The result of the job is the checkpoint, or None where ``auto_commit`` is off.

        Raises:
            UsageError: a metric has no valid name.
            Exception: what the one before failed with, when the configuration is strict.
        """
        for name in snapshot.metrics:
            metric_name(name)
        self.wait()
        job = self._background.submit(lambda: self._store(snapshot))
        self._running.append(job)
        return job

    def wait(self) -> None:
        """Wait until the last checkpoint is stored.

        Raises:
            Exception: what it failed with, when the configuration is strict; else there is a warning.
        """
        self._background.wait()

    def take_saved(self) -> list[Checkpoint]:
        """The checkpoints that have been stored since this was asked last; the bridge is told of them."""
        done = [job for job in self._running if job.is_done]
        self._running = [job for job in self._running if not job.is_done]
        saved = [one for one in (job.result() for job in done if job.error is None) if one is not None]
        if self._bridge is not None:
            for one, commit in zip(saved, read_checkpoints(self._workspace.git, saved), strict=True):
                self._bridge.log_checkpoint(one.oid, one.step, dict(commit.facts.metrics))
        return saved

    def finish(self, status: str = "finished") -> None:
        """Wait for the last checkpoint and end the run."""
        self.wait()
        self.take_saved()
        self._free()
        if self.run.status == "running":
            experiments.end(self._workspace, self.run, status, {})
        if self._bridge is not None:
            self._bridge.finish(status)
        self.close()

    def close(self) -> None:
        """End child processes and close files; the run goes on."""
        self.wait()
        self._workspace.close()

    # Reading

    def checkpoints(self) -> list[SavedCheckpoint]:
        """The checkpoints that are kept, by step."""
        return kept_checkpoints(self._workspace.git, self.name)

    def choose(
        self, commit_hash: str | None = None, *, step: int | None = None, best: bool = False
    ) -> SavedCheckpoint | None:
        """A checkpoint: the last one, the best one, that of a step, or of a commit; None where there is none.

        Args:
            commit_hash: the id of its commit, or how that begins.
            step: its number.
            best: whether the best one is meant, by ``save_on_best_metric``.
        """
        return choose_checkpoint(self.checkpoints(), self.goal, commit_hash, step=step, best=best)

    def tensors(self, checkpoint: SavedCheckpoint, file: str | None = None) -> Iterator[TensorData]:
        """The tensors of a file of a checkpoint, in file order; what is not here is fetched.

        Args:
            checkpoint: which one.
            file: its path; the weight file of the repository by default.

        Raises:
            UsageError: it has no such file.
            ObjectMissingError: an object cannot be had.
        """
        manifest = stored_manifest(self._workspace, f"{checkpoint.commit_hash}:{file or self.file}")
        wanted = tuple(part for one in manifest.tensors for part in one.objects)
        bring(self._workspace, wanted, f"the checkpoint at step {checkpoint.step}")
        yield from stored_tensors(manifest, self._workspace.store)

    # In the background

    def _store(self, snapshot: Snapshot) -> Checkpoint | None:
        workspace, config = self._workspace, self.config
        files = snapshot.files()
        stored = {
            os.fsencode(path): checkpointing.store_file(
                workspace, self.name, path, source, is_incremental=config.use_incremental_saves
            )
            for path, source in files.items()
        }
        del files
        plain = {
            os.fsencode(path): checkpointing.store_blob(workspace, content)
            for path, content in snapshot.plain.items()
        }
        if not config.auto_commit:
            stage_blobs(workspace.git, {**stored, **plain})
            return None
        saved = checkpointing.commit_checkpoint(workspace, self._said(snapshot), stored, plain)
        if snapshot.is_best and config.tag_best_checkpoints:
            tag_best(workspace.git, self.name, saved.oid, snapshot.metrics)
        try:
            self._drop()
        except (CoralError, OSError) as error:  # what was saved is saved
            warnings.warn(f"old checkpoints were not dropped: {error}", RuntimeWarning, stacklevel=1)
        return saved

    def _said(self, snapshot: Snapshot) -> NewCheckpoint:
        return NewCheckpoint(
            self.name,
            snapshot.step,
            snapshot.metrics,
            subject_of(self.config, snapshot.step, snapshot.epoch, snapshot.metrics),
            snapshot.epoch,
            ("best",) if snapshot.is_best else (),
            self.config.branch,
        )

    def _drop(self) -> None:
        """Let go of checkpoints that are not to be kept, and now and then of what the store has of them."""
        self._dropped += drop_others(self._workspace, self.name, self.config)
        if self._dropped >= _FREE_AFTER:
            self._free()

    def _free(self) -> None:
        """Free the room of what was dropped; when that cannot be, the next time."""
        if self._dropped and free_room(self._workspace, self.config):
            self._dropped = 0
