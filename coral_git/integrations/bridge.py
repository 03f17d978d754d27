"""Other trackers of experiments, which are told the commits of checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class ExperimentBridge(Protocol):
    """Tells another tracker what is saved. Everything is called in the thread of the training."""

    def start(self, run: str, parameters: Mapping[str, str]) -> None:
        """A run begins, or goes on.

        Args:
            run: its name.
            parameters: what is tried.
        """

    def log_checkpoint(self, commit_hash: str, step: int, metrics: Mapping[str, float]) -> None:
        """A checkpoint is stored.

        Args:
            commit_hash: the id of its commit.
            step: its number.
            metrics: values by name.
        """

    def finish(self, status: str) -> None:
        """The run has ended: ``"finished"``, ``"failed"`` or another word."""
