"""Training with checkpoints: ``CoralTrainer`` beside ``torch.save``, on a small transformer.

    python tests/bench/training.py [--checkpoints 50] [--every 4]

A transformer of characters (2 layers, width 256) learns the docstrings of the standard library with AdamW.
Every few steps the model and the whole state of the training are saved, once with ``torch.save`` to a file of
its own and once with ``CoralTrainer``. The time for which the training was stopped is measured for each, and
the bytes that lie on the disk in the end. Then the training is continued from some checkpoints; its losses
have to be the same numbers.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
from finetune import MODULES
from lifecycle import Bench

from coral_git import Repository
from coral_git.integrations.pytorch import CheckpointConfig, CoralTrainer

WIDTH, CONTEXT, BATCH = 256, 64, 8


def text() -> torch.Tensor:
    """The docstrings of some modules as bytes."""
    import importlib

    words = "\n".join((importlib.import_module(name).__doc__ or "") for name in MODULES.split())
    return torch.frombuffer(bytearray(words.encode()), dtype=torch.uint8).long()


class Transformer(torch.nn.Module):
    """Predicts the next byte."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(256, WIDTH)
        self.place = torch.nn.Parameter(torch.zeros(CONTEXT, WIDTH))
        layer = torch.nn.TransformerEncoderLayer(WIDTH, 4, 4 * WIDTH, dropout=0.1, batch_first=True)
        self.layers = torch.nn.TransformerEncoder(layer, 2)
        self.head = torch.nn.Linear(WIDTH, 256)
        self.head.weight = self.embed.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Scores of the next byte at each place."""
        mask = torch.nn.Transformer.generate_square_subsequent_mask(ids.shape[1])
        return self.head(self.layers(self.embed(ids) + self.place, mask=mask, is_causal=True))


def prepare(repository: Repository) -> tuple[CoralTrainer, torch.optim.Optimizer]:
    """A fresh model, as every run begins with it."""
    torch.manual_seed(0)
    model = Transformer()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    trainer = CoralTrainer(model, repository, "bench", CheckpointConfig())
    trainer.set_optimizer(optimizer)
    return trainer, optimizer


def one_step(trainer: CoralTrainer, optimizer: torch.optim.Optimizer, data: torch.Tensor) -> float:
    """Make a step; gives the loss."""
    starts = torch.randint(len(data) - CONTEXT - 1, (BATCH,))
    batch = torch.stack([data[start : start + CONTEXT + 1] for start in starts])
    scores = trainer.model(batch[:, :-1])
    loss = torch.nn.functional.cross_entropy(scores.flatten(0, 1), batch[:, 1:].flatten())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    trainer.step(loss.item())
    return loss.item()


def main() -> None:
    """Train, save, continue, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoints", type=int, default=50)
    parser.add_argument("--every", type=int, default=4, help="steps between checkpoints")
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp())
    os.environ.update(Bench(root).env)
    data = text()
    try:
        repository = Repository(root / "models", init=True)
        trainer, optimizer = prepare(repository)
        blocked, files, steps, losses = [], [], [], []
        for step in range(1, options.checkpoints * options.every + 1):
            start = time.perf_counter()
            losses.append(one_step(trainer, optimizer, data))
            steps.append(time.perf_counter() - start)
            if step % options.every:
                continue
            start = time.perf_counter()
            state = {"model": trainer.model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
            torch.save(state, root / f"{step}.pt")
            files.append(time.perf_counter() - start)
            start = time.perf_counter()
            trainer.save_checkpoint()
            blocked.append(time.perf_counter() - start)
        start = time.perf_counter()
        trainer.wait()
        last = time.perf_counter() - start
        plain = sum(path.stat().st_size for path in root.glob("*.pt"))
        packs = root / "models" / ".git" / "coral" / "objects" / "packs"
        stored = sum(path.stat().st_size for path in packs.iterdir())
        print("| | CoralTrainer | torch.save | ratio |\n|---|---:|---:|---:|")
        share = f"{stored / 1e6:.1f} MB | {plain / 1e6:.1f} MB | {stored / plain:.2f}"
        print(f"| bytes of {options.checkpoints} checkpoints | {share} |")
        one, other = statistics.median(blocked), statistics.median(files)
        times = f"{1e3 * one:.0f} ms | {1e3 * other:.0f} ms | {one / other:.2f}"
        print(f"| training stopped for a checkpoint, median | {times} |")
        print(f"\nA step takes {1e3 * statistics.median(steps):.0f} ms.")
        print(f"The last checkpoint took another {1e3 * last:.0f} ms in the background.")
        for number in (options.checkpoints // 4, options.checkpoints // 2, options.checkpoints - 1):
            first = number * options.every
            again, other_optimizer = prepare(repository)
            assert again.load_checkpoint(step=first)
            rest = [one_step(again, other_optimizer, data) for _ in losses[first:]]
            word = "the same losses" if rest == losses[first:] else "OTHER LOSSES"
            print(f"continued from step {first}: {word}")
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
