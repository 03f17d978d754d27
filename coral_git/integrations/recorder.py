"""The checkpoints of one run: stored in the background, listed, ranked, dropped, read; for every framework.

Every integration stands on this: it says what a checkpoint has in it, and when there is one.
"""

from __future__ import annotations

import os
import warnings
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from coral_git.api.repository import Repository
from coral_git.errors import CoralError, StorageFullError
from coral_git.formats.base import TensorData
from coral_git.git.chains import tip
from coral_git.git.revisions import list_index, list_tree
from coral_git.history.checkpoints import BEST, Checkpoint, list_checkpoints
from coral_git.history.facts import metric_name
from coral_git.history.goals import Goal
from coral_git.history.runs import RUNS, Run, read_run
from coral_git.integrations.background import Background, Job
from coral_git.integrations.bridge import ExperimentBridge
from coral_git.integrations.checkpoint_config import CheckpointConfig
from coral_git.integrations.kept import SavedCheckpoint, choose_saved, list_saved, saved_tensors
from coral_git.integrations.retention import (
    free_room,
    goal_of,
    settle,
    subject_of,
)
from coral_git.integrations.run_lock import hold_run
from coral_git.maintenance.gc import free_dropped
from coral_git.manifest.escape import printable
from coral_git.pipeline.clean import Source
from coral_git.pipeline.workspace import Workspace
from coral_git.repository import checkpointing, experiments
from coral_git.repository.checkpointing import NewCheckpoint


class Snapshot(NamedTuple):
    """What a checkpoint is made of.

    Attributes:
        step: its number; a checkpoint of this number that is there is replaced.
        epoch: epochs that have ended.
        metrics: values by name.
        files: gives the weight files by path from the root of the work tree; called in the background.
        plain: small files that git keeps as they are, by path.
        is_best: whether it is the best one so far.
        folder: where all of them are; what was in it before and is not among them is left out.
        keeps_earlier: whether a checkpoint of this number that is there is kept besides.
        on_stored: is told the id of the commit, in the background, when all is stored.
        close: called when nothing of it is needed any more, whatever became of it.
    """

    step: int
    epoch: int
    metrics: Mapping[str, float]
    files: Callable[[], Mapping[str, Source]]
    plain: Mapping[str, bytes] = {}
    is_best: bool = False
    folder: str = ""
    keeps_earlier: bool = False
    on_stored: Callable[[Workspace, str], None] | None = None
    close: Callable[[], None] | None = None


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
        self._running: list[tuple[Job[Checkpoint | None], Mapping[str, float]]] = []
        self._is_over = False
        self._best: Mapping[str, float] | None = None
        self._workspace = repository.new_workspace()
        settings = self._workspace.settings  # the training needs the other half of the cores
        self._workspace.settings = settings._replace(threads=(settings.threads + 1) // 2)
        weakref.finalize(self, self._workspace.close)
        self._let_go = weakref.finalize(self, hold_run(self._workspace, name)) if writes else None
        tried = {key: str(value) for key, value in (parameters or {}).items()}
        if writes and not tip(self._workspace.git, RUNS + name):
            experiments.start(self._workspace, name, parameters=tried)
        self._tell(lambda bridge: bridge.start(name, tried))

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
        try:
            for name in snapshot.metrics:
                metric_name(name)
            self.wait()
            job = self._background.submit(lambda: self._store(snapshot))
        except BaseException:
            _close(snapshot)
            raise
        self._running.append((job, snapshot.metrics))
        return job

    def save_now(self, snapshot: Snapshot) -> Checkpoint | None:
        """Store a checkpoint and wait for it; None where ``auto_commit`` is off.

        Raises:
            CoralError: it cannot be stored.
        """
        self.wait()
        job = Job(lambda: self._store(snapshot))
        job.run()
        self._running.append((job, snapshot.metrics))
        return job.result()

    def drop(self, commit_hash: str) -> None:
        """Let go of the checkpoint of a commit, if it is still kept."""
        found = list_checkpoints(self._workspace.git, self.name)
        checkpointing.drop_checkpoints(self._workspace, [one for one in found if one.oid == commit_hash])

    def is_better(self, metrics: Mapping[str, float]) -> bool:
        """Whether the metric that decides is better than any that this was asked about, or that the run has.

        Without ``save_on_best_metric`` nothing is.
        """
        if not self.config.save_on_best_metric or not self.goal.has(metrics):
            return False
        if self._best is None:
            best = self.run.best(self.goal)
            self._best = {} if best is None else best.metrics
        if self.goal.rank(metrics) >= self.goal.rank(self._best):
            return False
        self._best = dict(metrics)
        return True

    def wait(self) -> None:
        """Wait until the last checkpoint is stored.

        Raises:
            Exception: what it failed with, when the configuration is strict; else there is a warning.
        """
        self._background.wait()

    def take_saved(self) -> list[Checkpoint]:
        """The checkpoints that have been stored since this was asked last; the bridge is told of them."""
        saved = []
        for job, metrics in [one for one in self._running if one[0].is_done]:
            self._running.remove((job, metrics))
            one = job.result() if job.error is None else None
            if one is not None:
                saved.append(one)
                said = one.oid, one.step, dict(metrics)
                self._tell(lambda bridge, said=said: bridge.log_checkpoint(*said))  # type: ignore[misc]
        return saved

    def finish(self, status: str = "finished") -> None:
        """Wait for the last checkpoint and end the run, once."""
        if self._is_over:
            return
        self.wait()
        self._is_over = True
        try:
            self.take_saved()
            self._free()
            if self.run.status == "running":
                experiments.end(self._workspace, self.run, status, {})
        finally:
            try:
                self._tell(lambda bridge: bridge.finish(status))
            finally:
                self.close()

    def close(self) -> None:
        """End child processes and close files; the run goes on."""
        self.wait()
        if self._let_go is not None:
            self._let_go()  # only once, as finalizers do
        self._workspace.close()

    # Reading

    def checkpoints(self) -> list[SavedCheckpoint]:
        """The checkpoints that are kept, as they were saved."""
        return list_saved(self._workspace, self.name)

    def best_of(self, found: Sequence[SavedCheckpoint]) -> SavedCheckpoint | None:
        """The best one: by ``save_on_best_metric``; without that, as ``choose`` says.

        Args:
            found: checkpoints of the run, the last one at the end.
        """
        return choose_saved(found, best=True, goal=self._goal_among(found))

    def choose(
        self, commit_hash: str | None = None, *, step: int | None = None, best: bool = False
    ) -> SavedCheckpoint | None:
        """A checkpoint: the last one, the best one, that of a step, or of a commit; None where there is none.

        Args:
            commit_hash: the id of its commit, or how that begins.
            step: its number.
            best: whether the best one is meant: by ``save_on_best_metric``; without that, the last that was
                saved as the best one, or else the one with the least ``loss``.
        """
        found = self.checkpoints()
        return choose_saved(found, commit_hash, step=step, best=best, goal=self._goal_among(found))

    def tensors(self, checkpoint: SavedCheckpoint, file: str | None = None) -> Iterator[TensorData]:
        """The tensors of a file of a checkpoint, in file order; what is not here is fetched.

        Args:
            checkpoint: which one.
            file: its path; the weight file of the repository by default.

        Raises:
            UsageError: it has no such file.
            ObjectMissingError: an object cannot be had.
        """
        yield from saved_tensors(self._workspace, checkpoint, file or self.file)

    def _goal_among(self, found: Sequence[SavedCheckpoint]) -> Goal | None:
        """What the best of some checkpoints is chosen by; None for their labels."""
        is_named = self.config.save_on_best_metric or not any(BEST in one.labels for one in found)
        return self.goal if is_named else None

    # In the background

    def _store(self, snapshot: Snapshot) -> Checkpoint | None:
        try:
            try:
                return self._store_files(snapshot)
            except StorageFullError:
                if not self.config.free_dropped or not free_dropped(self._workspace, hold=0).freed_bytes:
                    raise
                return self._store_files(snapshot)
        except CoralError as error:
            error.message = f"step {snapshot.step} of the run '{printable(self.name)}': {error.message}"
            error.args = (error.message,)
            raise
        finally:
            _close(snapshot)

    def _store_files(self, snapshot: Snapshot) -> Checkpoint | None:
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
        if snapshot.folder:
            plain = {**self._left_over(snapshot.folder, {*stored, *plain}), **plain}
        if not config.auto_commit:
            checkpointing.stage_checkpoint(workspace, stored, plain)
            return None
        if snapshot.keeps_earlier:
            checkpointing.keep_earlier(workspace, self.name, snapshot.step)
        saved = checkpointing.commit_checkpoint(workspace, self._said(snapshot), stored, plain)
        if snapshot.on_stored is not None:
            snapshot.on_stored(workspace, saved.oid)
        settle(workspace, saved, snapshot.metrics, config, is_best=snapshot.is_best)
        return saved

    def _left_over(self, folder: str, files: Collection[bytes]) -> dict[bytes, str]:
        """What a folder has besides these files in the trees that a checkpoint may be made from."""
        git, paths = self._workspace.git, [os.fsencode(folder) + b"/"]
        if not self.config.auto_commit:
            found = [one for one in list_index(git) if one.path.startswith(paths[0])]
        else:
            branch = self.config.branch
            refs = [RUNS + self.name, *([f"refs/heads/{branch}", "HEAD"] if branch else [])]
            found = [one for ref in refs if tip(git, ref) for one in list_tree(git, ref, paths)]
        return {one.path: "" for one in found if one.path not in files}

    def _said(self, snapshot: Snapshot) -> NewCheckpoint:
        return NewCheckpoint(
            self.name,
            snapshot.step,
            snapshot.metrics,
            subject_of(self.config, snapshot.step, snapshot.epoch, snapshot.metrics),
            snapshot.epoch,
            (BEST,) if snapshot.is_best else (),
            self.config.branch,
        )

    def _tell(self, what: Callable[[ExperimentBridge], None]) -> None:
        """Tell the bridge something; a training does not fail because another tracker does."""
        if self._bridge is None:
            return
        try:
            what(self._bridge)
        except Exception as error:
            if self.config.strict:
                raise
            warnings.warn(f"{type(self._bridge).__name__} failed: {error}", RuntimeWarning, stacklevel=3)

    def _free(self) -> None:
        """Free the room of what was dropped."""
        try:
            free_room(self._workspace, self.config, least=1)
        except (CoralError, OSError) as error:
            warnings.warn(f"the room of old checkpoints was not freed: {error}", RuntimeWarning, stacklevel=3)


def _close(snapshot: Snapshot) -> None:
    if snapshot.close is not None:
        snapshot.close()
