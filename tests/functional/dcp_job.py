"""Jobs of several processes, which the tests of distributed checkpoints start: of two, then of three.

    python tests/functional/dcp_job.py FOLDER REPOSITORY

Every process trains its share of a small network with FSDP2 and AdamW, on the CPU with gloo. What the state
was at each save, as SHA-256 of the full tensors, is written to ``FOLDER`` by the first process. The processes
are forked, as importing torch takes longer than all the rest.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import traceback
import warnings
from pathlib import Path

import numpy as np
import torch
import torch._dynamo
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import get_state_dict
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

from coral_git import fsops
from coral_git.integrations.dcp import CheckpointConfig, CoralStorageReader, CoralStorageWriter

RUN = "fit"


def network() -> torch.nn.Module:
    """Layers whose dimensions no number of processes divides, and one with fewer rows than processes."""
    torch.manual_seed(0)
    layers = [torch.nn.Linear(67, 131), torch.nn.LayerNorm(131), torch.nn.GELU(), torch.nn.Linear(131, 2)]
    return torch.nn.Sequential(*layers)


def train(model: torch.nn.Module, optimizer: torch.optim.Optimizer, steps: int = 1) -> None:
    for _ in range(steps):
        batch = torch.randn(8, 67)
        torch.nn.functional.cross_entropy(model(batch), (batch.sum(1) > 0).long()).backward()
        optimizer.step()
        optimizer.zero_grad()


def extras(mesh=None) -> dict[str, object]:
    """Other dtypes, shapes and shards, and what is no tensor; as plain tensors where there is no mesh."""
    random = torch.Generator().manual_seed(7)
    wide = torch.randn(6, 41, generator=random)
    tensors: dict[str, object] = {
        "columns": wide,
        "copies": wide.to(torch.bfloat16),
        "half": torch.randn(9, 3, generator=random).to(torch.float16),
        "eighth": torch.randn(5, 3, generator=random).to(torch.float8_e5m2),
        "scalar": torch.tensor(-0.0, dtype=torch.float64),
        "empty": torch.zeros(0, 5),
        "turned": wide.t(),
        "tied": wide,
        "flags": torch.tensor([True, False, True]),
    }
    if mesh is not None:
        for name, place in (("columns", Shard(1)), ("copies", Replicate()), ("half", Shard(0))):
            tensors[name] = distribute_tensor(tensors[name], mesh, [place])
    values = {"step": 3, "lr": 0.1, "name": "ä", "none": None, "betas": (0.9, 0.999), "raw": b"\x80\x04",
              "random": np.random.RandomState(3).get_state(), "pair": (torch.arange(4), 2)}  # fmt: skip
    return {"tensors": tensors, "values": values}


def state_of(model: torch.nn.Module, optimizer: torch.optim.Optimizer, mesh=None) -> dict[str, object]:
    weights, moments = get_state_dict(model, optimizer)
    return {"model": weights, "optim": moments, **extras(mesh)}


def blank(value: object) -> object:
    """The same state with nothing in it."""
    if isinstance(value, dict):
        return {key: blank(one) for key, one in value.items()}
    if isinstance(value, list):
        return [blank(one) for one in value]
    return torch.zeros_like(value) if isinstance(value, torch.Tensor) else None


def digests(value: object, place: str = "") -> dict[str, str]:
    """What a state has, by name; all processes have to ask."""
    if isinstance(value, dict):
        parts = [digests(one, f"{place}.{key}") for key, one in value.items()]
        return {name: digest for part in parts for name, digest in part.items()}
    if isinstance(value, tuple):
        return digests(dict(enumerate(value)), place)
    if isinstance(value, np.ndarray):
        return {place: f"array {value.dtype} {hashlib.sha256(value.tobytes()).hexdigest()}"}
    if isinstance(value, torch.Tensor):
        full = value.full_tensor() if isinstance(value, DTensor) else value
        data = full.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        return {place: f"{full.dtype} {tuple(full.shape)} {hashlib.sha256(data).hexdigest()}"}
    return {place: repr(value)}


class Job:
    """One process."""

    def __init__(self, rank: int, world: int, folder: Path, repository: str) -> None:
        self.rank = rank
        self.folder = folder
        self.repository = repository
        store = f"file://{folder / f'meeting-{world}'}"
        torch.distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=world)
        self.mesh = torch.distributed.device_mesh.init_device_mesh("cpu", (world,))
        self.savers = torch.distributed.new_group(backend="gloo")
        self.model = network()
        for layer in (self.model[0], self.model):
            torch.distributed.fsdp.fully_shard(layer, mesh=self.mesh)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-5)
        torch.manual_seed(rank)

    def state(self) -> dict[str, object]:
        return state_of(self.model, self.optimizer, self.mesh)

    def writer(self, **options) -> CoralStorageWriter:
        return CoralStorageWriter(self.repository, RUN, **options)

    def note(self, name: str, found: object) -> None:
        if self.rank == 0:
            (self.folder / f"{name}.json").write_text(json.dumps(found))

    def failure(self, state: dict[str, object]) -> str:
        """What a save fails with in this process."""
        try:
            dcp.save(state, storage_writer=self.writer(), checkpoint_id="90")
        except (dcp.CheckpointException, RuntimeError) as error:  # torch's own when a process is gone
            return str(error)
        return "it was saved"

    def save(self) -> None:
        """Steps 1 and 2 while everybody waits, 3 and 4 beside the training; then what must leave nothing."""
        for step in (1, 2):
            train(self.model, self.optimizer)
            state = self.state()
            self.note(f"step-{step}", digests(state))
            dcp.save(state, storage_writer=self.writer(metrics={"loss": 1 / step}), checkpoint_id=step)
        state = blank(self.state())
        dcp.load(state, storage_reader=CoralStorageReader(self.repository, RUN, step=1))
        self.note("same-1", digests(state))
        writer = self.writer(config=CheckpointConfig(keep_last_n_checkpoints=4))
        for step in (3, 4):
            train(self.model, self.optimizer)
            state = self.state()
            self.note(f"step-{step}", digests(state))
            saving = dcp.async_save(state, storage_writer=writer, process_group=self.savers)
            train(self.model, self.optimizer, 3)
            saving.result()
        failures = [self.failure({"fine": torch.ones(3), "odd": object()})]
        if self.rank == 1:
            fsops.set_fault_hook(self._full)
        failures.append(self.failure(self.state()))
        (self.folder / f"failures-{self.rank}.json").write_text(json.dumps(failures))
        if self.rank == 1:
            fsops.set_fault_hook(self._kill)
        train(self.model, self.optimizer)
        (self.folder / f"killed-{self.rank}.json").write_text(json.dumps(self.failure(self.state())))

    def load(self) -> None:
        """Every checkpoint, into another number of processes; one more is saved by these."""
        for step in (1, 2, 3, 4):
            state = blank(self.state())
            dcp.load(state, storage_reader=CoralStorageReader(self.repository, RUN, step=step))
            self.note(f"loaded-{step}", digests(state))
        dcp.save(state, storage_writer=self.writer(), checkpoint_id=5)
        self.note("step-5", digests(state))

    def _full(self, name: str, path: str) -> None:
        if name == "link":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    def _kill(self, name: str, path: str) -> None:
        if name == "link":
            os.kill(os.getpid(), signal.SIGKILL)


def run(scenario: str, world: int, folder: Path, repository: str) -> list[int]:
    """Run a job; gives the exit codes of its processes, negative for a signal."""
    processes = []
    for rank in range(world):
        process = os.fork()
        if not process:
            code = 1
            try:
                getattr(Job(rank, world, folder, repository), scenario)()
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)  # whoever was killed cannot say goodbye
        processes.append(process)
    return [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in processes]


def main() -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    folder, repository = sys.argv[1:]
    found: dict[str, object] = {"two": run("save", 2, Path(folder), repository)}
    words = ["git", "for-each-ref", "--format=%(refname)", "refs/coral"]
    found["refs"] = subprocess.check_output(words, cwd=repository, text=True).splitlines()
    found["three"] = run("load", 3, Path(folder), repository)
    Path(folder, "jobs.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
