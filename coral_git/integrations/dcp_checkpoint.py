"""A distributed checkpoint in a repository: found, its index read, its chunks read from the store, checked.

Nothing here needs torch.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from functools import cached_property
from itertools import accumulate, pairwise
from math import prod
from threading import Lock, local
from typing import TypedDict

from coral_git.api.repository import Repository
from coral_git.errors import IntegrityError, UsageError
from coral_git.formats.base import TensorData
from coral_git.formats.pieces import JoinedPieces, Piece, PieceReader
from coral_git.git.revisions import resolve_commit
from coral_git.integrations.checkpoint_config import CheckpointConfig
from coral_git.integrations.dcp_index import INDEX, Chunk, Index, chunk_name, parse, rank_file
from coral_git.integrations.kept import choose_saved, list_saved
from coral_git.integrations.retention import goal_of
from coral_git.manifest.entries import Manifest, TensorEntry
from coral_git.manifest.escape import printable
from coral_git.manifest.parts import part_lengths
from coral_git.pipeline.tensors import StoredBytes, stored_tensors
from coral_git.pipeline.workspace import Workspace
from coral_git.repository.printing import bring
from coral_git.repository.spec import stored_manifest
from coral_git.types import ByteSource, ObjectId

Place = Repository | str | os.PathLike[str]
"""A repository, or where one is."""

_MOST_DIGITS = 12
_NEIGHBOURS = "LOCAL_WORLD_SIZE"
"""How many processes of the job this machine has, as torchrun says."""


class Which(TypedDict, total=False):
    """Which checkpoint of a run is meant; the last one by default.

    Attributes:
        step: that of this number.
        best: the best one, by ``config``.
        commit_hash: that of a commit, or how its id begins.
        revision: a branch, a tag or any commit, instead of a checkpoint of a run.
        config: says what is best: ``save_on_best_metric`` and ``minimize_metric``.
    """

    step: int | None
    best: bool
    commit_hash: str | None
    revision: str | None
    config: CheckpointConfig | None


def workspace_of(repository: Place) -> Workspace:
    """A repository as the engine sees it; whoever asks closes it. Processes of one machine share its cores.

    Raises:
        NotARepositoryError: there is none.
    """
    if isinstance(repository, Repository):
        workspace = repository.new_workspace()
    else:
        workspace = Workspace.open(os.path.abspath(os.fspath(repository)))
    neighbours = os.environ.get(_NEIGHBOURS, "")
    if neighbours.isascii() and neighbours.isdigit():
        threads = max(1, workspace.settings.threads // max(1, int(neighbours)))
        workspace.settings = workspace.settings._replace(threads=threads)
    return workspace


def step_of(checkpoint_id: object) -> int | None:
    """The number of a step; None for anything else."""
    text = str(checkpoint_id) if type(checkpoint_id) in (int, str) else ""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS else None


def find_commit(workspace: Workspace, run: str | None, which: Which) -> str:
    """The commit of a checkpoint.

    Raises:
        UsageError: there is no such checkpoint.
    """
    revision = which.get("revision")
    if revision is not None:
        return resolve_commit(workspace.git, revision)
    if run is None:
        raise UsageError("a checkpoint of which run?", hint="name the run, or a revision")
    config = which.get("config")
    goal = goal_of(config) if config is not None and config.save_on_best_metric else None
    step, commit_hash = which.get("step"), which.get("commit_hash")
    found = list_saved(workspace, run)
    chosen = choose_saved(found, commit_hash, step=step, best=which.get("best", False), goal=goal)
    if chosen is None:
        raise UsageError(
            f"the run '{printable(run)}' has no such checkpoint",
            hint="see 'git coral experiment show'; 'git coral experiment fetch' gets what others saved",
        )
    return chosen.commit_hash


class StoredCheckpoint:
    """A distributed checkpoint.

    Args:
        repository: where it is.
        run: the run.
        which: which of its checkpoints.

    Attributes:
        commit: the id of its commit.
        workspace: the repository, open as long as this is there.

    Raises:
        UsageError: there is no such checkpoint, or it is no distributed one.
        IntegrityError: its index contradicts itself.
    """

    def __init__(self, repository: Place, run: str | None, which: Which) -> None:
        self.workspace = workspace_of(repository)
        weakref.finalize(self, self.workspace.close)
        self.commit = find_commit(self.workspace, run, which)
        self._manifests: dict[int, tuple[Manifest, dict[str, TensorEntry]]] = {}
        self._lock = Lock()

    @cached_property
    def index(self) -> Index:
        """What it holds."""
        limits = self.workspace.limits
        spec = f"{self.commit}:{INDEX}".encode()
        info = self.workspace.objects.info(spec)
        if info is None or info[1] != "blob":
            raise UsageError(f"commit '{self.commit}' has no distributed checkpoint")
        if info[2] > limits.manifest_bytes:
            raise IntegrityError(f"the index of the distributed checkpoint has {info[2]} bytes")
        found = self.workspace.objects.blob(spec)
        assert found is not None
        return parse(found[1], limits)

    def chunk(self, name: str, chunk: Chunk) -> TensorEntry:
        """What is stored of a chunk that has elements.

        Raises:
            IntegrityError: that is not what the index says.
        """
        tensor = self.index.tensors[name]
        entry = self.stored(chunk.rank, chunk_name(name, tensor, chunk))
        if entry.dtype != tensor.dtype or entry.shape != chunk.sizes:
            raise IntegrityError(f"what is stored of '{printable(name)}' is not what the index says")
        return entry

    def stored(self, rank: int, name: str) -> TensorEntry:
        """A tensor of the file of a process.

        Raises:
            IntegrityError: it has none of that name.
        """
        entry = self._file(rank)[1].get(name)
        if entry is None:
            raise IntegrityError(f"'{rank_file(rank)}' of commit '{self.commit}' lacks '{printable(name)}'")
        return entry

    def bytes_of(self, rank: int, entry: TensorEntry) -> StoredBytes:
        """Reads a tensor of the file of a process; for one thread."""
        return StoredBytes(entry, self._file(rank)[0], self.workspace.store)

    def data(self, rank: int, entry: TensorEntry) -> TensorData:
        """A tensor of the file of a process, all of whose objects are here now; for one thread."""
        self.bring(entry.objects)
        (found,) = stored_tensors(self._file(rank)[0]._replace(tensors=(entry,)), self.workspace.store)
        return found

    def objects_in(self, entry: TensorEntry, start: int, end: int) -> list[ObjectId]:
        """The objects that a range of the bytes of a tensor is in."""
        length = prod(entry.shape) * entry.dtype.bits // 8
        starts = accumulate(part_lengths(entry.dtype, length, self.workspace.limits), initial=0)
        parts = zip(entry.objects, pairwise(starts), strict=True)
        return [part for part, (first, last) in parts if start < last and first < end]

    def bring(self, objects: tuple[ObjectId, ...]) -> None:
        """Fetch objects that are not here.

        Raises:
            ObjectMissingError: one cannot be had.
        """
        bring(self.workspace, objects, "the checkpoint")

    def full_tensors(self, prefix: str = "") -> list[TensorData]:
        """The tensors put together, read when their values are needed; what is not here is fetched first.

        They may be read by several threads at once. Who reads one from start to end gets bytes that were
        compared with their ids, or an error. Memory is a few blocks of each chunk that a row goes through.

        Args:
            prefix: only tensors whose names begin so; they are given without it.

        Raises:
            IntegrityError: the stored chunks are not what the index says.
            ObjectMissingError: an object cannot be had.
        """
        chosen = {name: one for name, one in self.index.tensors.items() if name.startswith(prefix)}
        joined, wanted = [], list[ObjectId]()
        files = PieceReader(_ChunkFiles(self).open)
        for name, tensor in chosen.items():
            pieces = []
            for number, chunk in enumerate(tensor.chunks):
                if prod(chunk.sizes):
                    wanted += self.chunk(name, chunk).objects
                    place = f"{number} {name}"
                    pieces.append(Piece(chunk.offsets or (0,), chunk.sizes or (1,), None, place, 0))
            read = JoinedPieces(name, tensor.shape, tensor.dtype.bits // 8, pieces, files)
            joined.append(TensorData(name.removeprefix(prefix), tensor.dtype, tensor.shape, read))
        self.bring(tuple(dict.fromkeys(wanted)))
        return joined

    def _file(self, rank: int) -> tuple[Manifest, dict[str, TensorEntry]]:
        with self._lock:
            if rank not in self._manifests:
                manifest = stored_manifest(self.workspace, f"{self.commit}:{rank_file(rank)}")
                self._manifests[rank] = manifest, {one.name: one for one in manifest.tensors}
            return self._manifests[rank]


class _ChunkFiles:
    """Gives chunks as files, to each thread its own; one that was read to its end is closed.

    Args:
        checkpoint: has them.
    """

    def __init__(self, checkpoint: StoredCheckpoint) -> None:
        self._checkpoint = checkpoint
        self._threads = local()

    def open(self, place: str) -> ByteSource:
        """A chunk by number and name."""
        number, _, name = place.partition(" ")
        if getattr(self._threads, "name", None) != name:
            self._threads.name, self._threads.opened = name, {}
        opened: dict[str, _ChunkFile] = self._threads.opened
        if place not in opened:
            chunk = self._checkpoint.index.tensors[name].chunks[int(number)]
            entry = self._checkpoint.chunk(name, chunk)
            stored = self._checkpoint.bytes_of(chunk.rank, entry)
            opened[place] = _ChunkFile(stored, entry, lambda: opened.pop(place, None))
        return opened[place]


class _ChunkFile:
    """The bytes of a chunk; what is read in order is compared with its ids, whatever is read again.

    Args:
        stored: reads them.
        entry: says how many there are.
        at_end: is called when the last one was read.
    """

    def __init__(self, stored: StoredBytes, entry: TensorEntry, at_end: Callable[[], object]) -> None:
        self._stored = stored
        self._at_end = at_end
        self._read = 0
        self.size = prod(entry.shape) * entry.dtype.bits // 8

    def read_at(self, offset: int, length: int) -> bytes:
        """The bytes from ``offset``; fewer than ``length`` only at the end."""
        end = min(offset + length, self.size)
        middle = min(max(offset, self._read), end)
        data = bytes(self._stored(offset, middle - offset)) + bytes(self._stored(middle, end - middle))
        if offset <= self._read:
            self._read = max(self._read, end)
        if end == self.size:
            self._at_end()
        return data
