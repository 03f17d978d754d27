"""MLflow is told which commits the checkpoints of a training are."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping

from coral_git.integrations.missing import missing

try:
    import mlflow
    from mlflow.entities import Metric, Param, RunTag
except ImportError as error:
    raise missing(error, "mlflow", "mlflow") from error

_NOT_IN_NAMES = re.compile(r"[^\w\-./ :]", re.ASCII)
_STATUS = {"finished": "FINISHED", "failed": "FAILED"}


class MLflowBridge:
    """Tells a run of MLflow parameters, metrics and the commits of checkpoints.

    The run that is active is joined; where there is none, one is started, and ended with the training. The
    tag ``coral.commit`` names the commit of the last checkpoint, ``coral.commit.<step>`` that of each, and
    ``coral.run`` the run.

    Args:
        experiment: the experiment in which a run is started.
        tracking_uri: where a run is started, as MLflow takes it.
        run_id: a run that is joined, instead.
    """

    def __init__(
        self, experiment: str | None = None, *, tracking_uri: str | None = None, run_id: str | None = None
    ) -> None:
        self._experiment = experiment
        self._uri = tracking_uri
        self.run_id = run_id
        self._is_ours = False

    def start(self, run: str, parameters: Mapping[str, str]) -> None:
        """Join a run, or start one; parameters that it has already stay as they are."""
        if self.run_id is None:
            active = mlflow.active_run()
            self._is_ours = active is None
            self.run_id = (active or self._start(run)).info.run_id
        client = self._client()
        known = client.get_run(self.run_id).data.params
        new = {_name(key): value for key, value in parameters.items() if _name(key) not in known}
        client.log_batch(
            self.run_id,
            params=[Param(name, value) for name, value in new.items()],
            tags=[RunTag("coral.run", run)],
        )

    def log_checkpoint(self, commit_hash: str, step: int, metrics: Mapping[str, float]) -> None:
        """Tag the run with the commit, and log the metrics at this step."""
        now = int(time.time() * 1000)
        self._client().log_batch(
            self.run_id,
            metrics=[Metric(_name(name), value, now, step) for name, value in metrics.items()],
            tags=[RunTag("coral.commit", commit_hash), RunTag(f"coral.commit.{step}", commit_hash)],
        )

    def finish(self, status: str) -> None:
        """End the run, if it was started here."""
        if not self._is_ours:
            return
        word = _STATUS.get(status, "KILLED")
        active = mlflow.active_run()
        if active is not None and active.info.run_id == self.run_id:
            mlflow.end_run(word)
        else:
            self._client().set_terminated(self.run_id, word)
        self.run_id, self._is_ours = None, False

    def _start(self, run: str) -> mlflow.ActiveRun:
        if self._uri is not None:
            mlflow.set_tracking_uri(self._uri)
        if self._experiment is not None:
            mlflow.set_experiment(self._experiment)
        return mlflow.start_run(run_name=run)

    def _client(self) -> mlflow.MlflowClient:
        return mlflow.MlflowClient(self._uri)


def _name(name: str) -> str:
    """A name that MLflow takes."""
    return _NOT_IN_NAMES.sub("_", name)
