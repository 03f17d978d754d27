"""Training with checkpoints: ``CoralTrainer`` beside ``torch.save``, on a small transformer.

    python tests/bench/training.py [--checkpoints 50] [--every 4] [--width 256]

The transformer of ``docs/examples/language_model.py`` learns the text of the Python documentation with AdamW.
Every few steps the model and the whole state of the training are saved, once with ``torch.save`` to a file of
its own and once with ``CoralTrainer``. The time for which the training was stopped is measured for each, and
the bytes that lie on the disk in the end. Then the training is continued from every checkpoint in a fresh
model; its losses have to be the same numbers. Last, short trainings in turn, saved in one way, the other, or
not at all, say what the work in the background takes from a training on the same cores.
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
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "docs" / "examples"))
from language_model import Training
from lifecycle import Bench

from coral_git import Repository
from coral_git.integrations.pytorch import CheckpointConfig


def timed(work) -> float:
    """Seconds that something takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


class Measured:
    """A training that is saved in both ways.

    Args:
        root: an empty folder.
        options: what was asked for.
    """

    def __init__(self, root: Path, options: argparse.Namespace) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.root, self.options = root, options
        self.repository = Repository(root / "models", init=True)
        self.training = self.fresh()
        self.blocked: list[float] = []
        self.files: list[float] = []
        self.steps: list[float] = []
        self.losses: list[float] = []

    def fresh(self) -> Training:
        """A model before its first step."""
        return Training(self.repository, "bench", CheckpointConfig(), self.options.width)

    def train(self) -> None:
        """Make all steps, with checkpoints."""
        trainer = self.training.trainer
        for step in range(1, self.options.checkpoints * self.options.every + 1):
            self.steps.append(timed(lambda: self.losses.append(self.training.step())))
            if step % self.options.every == 0:
                self.files.append(timed(lambda number=step: self.save_file(number)))
                self.blocked.append(timed(trainer.save_checkpoint))

    def save_file(self, step: int) -> None:
        """What most people do."""
        parts = {
            name: getattr(self.training, name).state_dict() for name in ("model", "optimizer", "scheduler")
        }
        torch.save({**parts, "step": step, "random": torch.get_rng_state()}, self.root / f"{step}.pt")

    def continue_from(self, step: int, steps: int) -> None:
        """Go on from a checkpoint in a fresh model, and compare the losses."""
        again = self.fresh()
        assert again.trainer.load_checkpoint(step=step)
        found = [again.step() for _ in range(steps)]
        assert found == self.losses[step : step + steps], f"step {step}: other losses"


def pace(root: Path, way: str, options: argparse.Namespace) -> float:
    """Seconds that a training of 96 steps takes, with 12 checkpoints saved in a way.

    Args:
        root: an empty folder.
        way: ``coral``, ``torch`` or nothing.
        options: what was asked for.
    """
    measured = Measured(root / f"pace-{time.time_ns()}", options)
    for _ in range(5):
        measured.training.step()
    start = time.perf_counter()
    for step in range(1, 97):
        measured.training.step()
        if step % 8 == 0 and way == "coral":
            measured.training.trainer.save_checkpoint()
        elif step % 8 == 0 and way == "torch":
            measured.save_file(step)
    taken = time.perf_counter() - start
    measured.training.trainer.wait()
    return taken


def report(measured: Measured, last: float) -> None:
    """Print the table."""
    plain = sum(path.stat().st_size for path in measured.root.glob("*.pt"))
    packs = measured.root / "models" / ".git" / "coral" / "objects" / "packs"
    stored = sum(path.stat().st_size for path in packs.iterdir())
    print("| | CoralTrainer | torch.save | ratio |\n|---|---:|---:|---:|")
    share = f"{stored / 1e6:.1f} MB | {plain / 1e6:.1f} MB | {stored / plain:.2f}"
    print(f"| bytes of {measured.options.checkpoints} checkpoints | {share} |")
    for name, of in (("median", statistics.median), ("mean", statistics.mean), ("longest", max)):
        one, other = of(measured.blocked), of(measured.files)
        times = f"{1e3 * one:.0f} ms | {1e3 * other:.0f} ms | {one / other:.2f}"
        print(f"| training stopped for a checkpoint, {name} | {times} |")
    print(f"\nA step takes {1e3 * statistics.median(measured.steps):.0f} ms.")
    print(f"The last checkpoint took another {1e3 * last:.0f} ms in the background.")


def main() -> None:
    """Train, save, print the table, continue."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoints", type=int, default=50)
    parser.add_argument("--every", type=int, default=4, help="steps between checkpoints")
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3, help="short trainings in each way")
    parser.add_argument(
        "--compared", type=int, default=8, help="steps that are compared after each checkpoint"
    )
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp())
    os.environ.update(Bench(root).env)
    try:
        measured = Measured(root, options)
        measured.train()
        report(measured, timed(measured.training.trainer.wait))
        total = options.checkpoints * options.every
        for step in range(options.every, total, options.every):
            measured.continue_from(step, min(options.compared, total - step))
        measured.continue_from(options.every, total - options.every)
        print(
            f"Continued from each of {options.checkpoints - 1} checkpoints, and from the first to the end: "
            "the same losses to the last bit."
        )
        ways = {way: [] for way in ("", "torch", "coral")}
        for _ in range(options.rounds):
            for way, taken in ways.items():
                taken.append(pace(root, way, options))
        none, torch_save, coral = (statistics.median(taken) for taken in ways.values())
        print(f"\n96 steps with 12 checkpoints, beside none: torch.save {torch_save / none:.2f}, ", end="")
        print(f"CoralTrainer {coral / none:.2f} (training on {torch.get_num_threads()} threads)")
    finally:
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
