"""Train a small transformer on the text of the Python documentation, with checkpoints in git.

    python language_model.py --repository models --run first --steps 200 --every 4

Every few steps the weights and the whole state of the training are kept. Kill it and start it again: it goes
on from the last checkpoint, and its losses are the same numbers, to the last bit.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pydoc_data.topics import topics

import torch

from coral_git import Repository
from coral_git.integrations.pytorch import CheckpointConfig, CoralTrainer

CONTEXT, BATCH = 64, 8


class Transformer(torch.nn.Module):
    """Predicts the next byte; the embedding is the head, too.

    Args:
        width: size of the vectors.
        layers: how many layers.
    """

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(256, width)
        self.place = torch.nn.Parameter(torch.zeros(CONTEXT, width))
        layer = torch.nn.TransformerEncoderLayer(width, 4, 4 * width, dropout=0.1, batch_first=True)
        self.layers = torch.nn.TransformerEncoder(layer, layers)
        self.head = torch.nn.Linear(width, 256)
        self.head.weight = self.embed.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Scores of the next byte: bytes of the shape (batch, length) give (batch, length, 256)."""
        mask = torch.nn.Transformer.generate_square_subsequent_mask(ids.shape[1])
        return self.head(self.layers(self.embed(ids) + self.place, mask=mask, is_causal=True))


class Training:
    """A model, its optimizer and schedule, and the trainer that keeps their checkpoints.

    Args:
        repository: where checkpoints are kept.
        run: name of the run.
        config: when checkpoints are saved.
        width: size of the model.
        layers: its depth.
    """

    def __init__(
        self, repository: Repository, run: str, config: CheckpointConfig, width: int = 128, layers: int = 2
    ) -> None:
        torch.manual_seed(0)
        self.text = torch.frombuffer(bytearray("\n".join(topics.values()).encode()), dtype=torch.uint8).long()
        self.model = Transformer(width, layers)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3)
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, 1000)
        parameters = {"lr": 1e-3, "width": width, "layers": layers}
        self.trainer = CoralTrainer(self.model, repository, run, config, parameters=parameters)
        self.trainer.set_optimizer(self.optimizer)
        self.trainer.set_scheduler(self.scheduler)

    def step(self) -> float:
        """Make a step; gives the loss."""
        starts = torch.randint(len(self.text) - CONTEXT - 1, (BATCH,))
        batch = torch.stack([self.text[start : start + CONTEXT + 1] for start in starts])
        scores = self.model(batch[:, :-1])
        loss = torch.nn.functional.cross_entropy(scores.flatten(0, 1), batch[:, 1:].flatten())
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.scheduler.step()
        self.trainer.step(loss.item())
        return loss.item()

    def losses(self, steps: int) -> Iterator[tuple[int, float]]:
        """Train until so many steps are made in all; gives the number and the loss of each."""
        while self.trainer.state.global_step < steps:
            loss = self.step()
            yield self.trainer.state.global_step, loss


def main() -> None:
    """Train, from the last checkpoint where there is one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repository", default="models")
    parser.add_argument("--run", default="first")
    parser.add_argument("--steps", type=int, default=200, help="steps in all")
    parser.add_argument("--every", type=int, default=4, help="steps between checkpoints")
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--layers", type=int, default=2)
    options = parser.parse_args()
    repository = Repository(options.repository, init=True)
    config = CheckpointConfig(save_every_n_steps=options.every)
    training = Training(repository, options.run, config, options.width, options.layers)
    if training.trainer.load_checkpoint():
        print(f"goes on from step {training.trainer.state.global_step}", flush=True)
    with training.trainer:
        for step, loss in training.losses(options.steps):
            print(f"step {step}: loss {loss!r}", flush=True)


if __name__ == "__main__":
    main()
