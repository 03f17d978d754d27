"""Distributed checkpoints: ``torch.distributed.checkpoint`` into the store and into torch's own files.

    python tests/bench/distributed.py [--width 512] [--layers 6] [--checkpoints 4] [--every 2]

Two processes train a transformer of characters with FSDP2 and AdamW on the CPU (gloo). Every few steps the
model and the optimizer are saved with ``dcp.save``, once with ``FileSystemWriter`` and once with
``CoralStorageWriter``, in the same run; times are those of the first process, for both include the wait for
the slowest one. Then the last checkpoint is loaded again; what comes back has to be equal, bit for bit.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import get_state_dict

sys.path.insert(0, str(Path(__file__).parent))
from lifecycle import Bench
from training import BATCH, CONTEXT, text

from coral_git import Repository
from coral_git.integrations.dcp import CoralStorageReader, CoralStorageWriter

WORLD = 2


class Transformer(torch.nn.Module):
    """Predicts the next byte."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(256, width)
        self.layers = torch.nn.ModuleList(
            torch.nn.TransformerEncoderLayer(width, 8, 4 * width, dropout=0.1, batch_first=True)
            for _ in range(layers)
        )
        self.head = torch.nn.Linear(width, 256)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Scores of the next byte at each place."""
        values = self.embed(ids)
        for layer in self.layers:
            values = layer(values)
        return self.head(values)


class Job:
    """One of the processes.

    Args:
        rank: its number.
        root: a folder that all of them see.
        options: what to do.
    """

    def __init__(self, rank: int, root: Path, options: argparse.Namespace) -> None:
        self.rank, self.root, self.options = rank, root, options
        torch.set_num_threads(1)
        torch.distributed.init_process_group(
            "gloo", init_method=f"file://{root / 'meeting'}", rank=rank, world_size=WORLD
        )
        mesh = torch.distributed.device_mesh.init_device_mesh("cpu", (WORLD,))
        torch.manual_seed(0)
        self.model = Transformer(options.width, options.layers)
        for layer in (*self.model.layers, self.model):
            torch.distributed.fsdp.fully_shard(layer, mesh=mesh)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4)
        self.data = text()
        torch.manual_seed(rank)

    def train(self) -> None:
        """Make some steps."""
        for _ in range(self.options.every):
            starts = torch.randint(len(self.data) - CONTEXT - 1, (BATCH,))
            batch = torch.stack([self.data[start : start + CONTEXT + 1] for start in starts])
            scores = self.model(batch[:, :-1])
            loss = torch.nn.functional.cross_entropy(scores.flatten(0, 1), batch[:, 1:].flatten())
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad()

    def state(self) -> dict[str, object]:
        """The shards of this process."""
        model, optimizer = get_state_dict(self.model, self.optimizer)
        return {"model": model, "optimizer": optimizer}

    def run(self) -> None:
        """Train, save, load, and print the table."""
        plain, coral = self.root / "plain", str(self.root / "coral")
        sizes: tuple[list[int], list[int]] = [], []
        times: tuple[list[float], list[float]] = [], []
        for step in range(1, self.options.checkpoints + 1):
            self.train()
            writers = dcp.FileSystemWriter(plain / str(step)), CoralStorageWriter(coral, "bench", step=step)
            for number, (writer, folder) in enumerate(zip(writers, (plain, Path(coral)), strict=True)):
                before = size_of(folder)
                times[number].append(timed(lambda state, w=writer: dcp.save(state, storage_writer=w), self))
                sizes[number].append(size_of(folder) - before)
        kept = self.state()
        readers = dcp.FileSystemReader(plain / str(step)), CoralStorageReader(coral, "bench")
        loads = []
        for reader in readers:
            state = cleared(kept)
            loads.append(timed(lambda _, r=reader, s=state: dcp.load(s, storage_reader=r), self))
            assert alike(state, kept), "OTHER BITS"
        if self.rank == 0:
            print("| | CoralStorageWriter | FileSystemWriter | ratio |\n|---|---:|---:|---:|")
            row("first checkpoint", [one[0] / 1e6 for one in sizes], "MB")
            if self.options.checkpoints > 1:
                row("every later one, median", [statistics.median(one[1:]) / 1e6 for one in sizes], "MB")
            row(f"all {self.options.checkpoints}", [sum(one) / 1e6 for one in sizes], "MB")
            row("`dcp.save`, first", [one[0] for one in times], "s")
            if self.options.checkpoints > 1:
                row("`dcp.save`, later, median", [statistics.median(one[1:]) for one in times], "s")
            row("`dcp.load`", loads, "s")


def timed(work, job: Job) -> float:
    """Seconds that something takes all of the processes."""
    state = job.state()
    torch.distributed.barrier()
    start = time.perf_counter()
    work(state)
    torch.distributed.barrier()
    return time.perf_counter() - start


def cleared(value):
    """The same state with nothing in it."""
    if isinstance(value, dict):
        return {key: cleared(one) for key, one in value.items()}
    if isinstance(value, list):
        return [cleared(one) for one in value]
    return torch.zeros_like(value) if isinstance(value, torch.Tensor) else value


def alike(one, other) -> bool:
    """Whether two states have the same bits in this process."""
    if isinstance(one, dict):
        return all(alike(one[key], other[key]) for key in other)
    if isinstance(one, torch.Tensor):
        parts = [value.to_local() if hasattr(value, "to_local") else value for value in (one, other)]
        return torch.equal(*(part.reshape(-1).view(torch.uint8) for part in parts))
    return one == other


def row(name: str, values: list[float], unit: str) -> None:
    """A row of the table; torch's own is the first of the two values."""
    plain, coral = values
    digits = 1 if unit == "MB" else 2
    print(f"| {name} | {coral:.{digits}f} {unit} | {plain:.{digits}f} {unit} | {coral / plain:.2f} |")


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main() -> None:
    """Start the processes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--checkpoints", type=int, default=4)
    parser.add_argument("--every", type=int, default=2, help="steps between checkpoints")
    parser.add_argument("--rank", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if options.rank is not None:
        Job(options.rank, options.root, options).run()
        torch.distributed.destroy_process_group()
        return
    root = Path(tempfile.mkdtemp())
    os.environ.update(Bench(root).env)
    os.environ["LOCAL_WORLD_SIZE"] = str(WORLD)
    try:
        Repository(root / "coral", init=True).close()
        words = [sys.executable, *sys.argv, "--root", str(root)]
        jobs = [subprocess.Popen([*words, "--rank", str(rank)]) for rank in range(WORLD)]
        codes = [job.wait() for job in jobs]
        if any(codes):
            sys.exit("a process failed")
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
