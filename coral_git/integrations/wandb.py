"""Weights & Biases is told which commits the checkpoints of a training are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from coral_git.integrations.missing import missing

try:
    import wandb
except ImportError as error:
    raise missing(error, "wandb", "wandb") from error


class WandbBridge:
    """Tells a run of Weights & Biases parameters, metrics and the commits of checkpoints.

    The run that is active is joined; where there is none, one is started, and finished with the training.
    Each checkpoint is logged as ``coral/commit`` with its metrics over ``coral/step``; the summary has the
    last commit, the configuration the parameters and ``coral_run``.

    Args:
        project: in which a run is started.
        options: of ``wandb.init``, where a run is started.
    """

    def __init__(self, project: str | None = None, **options: Any) -> None:
        self._project = project
        self._options = options
        self._run: Any = None
        self._is_ours = False

    def start(self, run: str, parameters: Mapping[str, str]) -> None:
        """Join the run, or start one."""
        self._is_ours = wandb.run is None
        self._run = wandb.run
        if self._is_ours:
            options = {"name": run, **self._options}
            self._run = wandb.init(project=self._project, **options)
        self._run.config.update({**parameters, "coral_run": run}, allow_val_change=True)
        self._run.define_metric("coral/step", hidden=True)
        self._run.define_metric("coral/*", step_metric="coral/step")

    def log_checkpoint(self, commit_hash: str, step: int, metrics: Mapping[str, float]) -> None:
        """Log the commit and the metrics; the steps of the run itself are not touched."""
        said = {f"coral/{name}": value for name, value in metrics.items()}
        self._run.log({**said, "coral/step": step, "coral/commit": commit_hash})
        self._run.summary["coral/commit"] = commit_hash

    def finish(self, status: str) -> None:
        """Finish the run, if it was started here."""
        run, self._run = self._run, None
        if self._is_ours and run is not None:
            run.finish(exit_code=0 if status == "finished" else 1)
        self._is_ours = False
