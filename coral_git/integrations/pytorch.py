"""Training with torch: models saved and loaded, and checkpoints of a run, saved while the training goes on.

The names are those of the original Coral.
"""

from __future__ import annotations

from coral_git.integrations.missing import missing

try:
    import torch  # noqa: F401 - so that this is what is missed first
except ImportError as error:
    raise missing(error, "pytorch", "torch") from error

from coral_git.integrations.checkpoint_config import CheckpointConfig as CheckpointConfig
from coral_git.integrations.checkpoint_config import TrainingState as TrainingState
from coral_git.integrations.checkpointer import Checkpointer as Checkpointer
from coral_git.integrations.models import load as load
from coral_git.integrations.models import load_into_model as load_into_model
from coral_git.integrations.models import save as save
from coral_git.integrations.original import PyTorchIntegration as PyTorchIntegration
from coral_git.integrations.original import load_model_from_coral as load_model_from_coral
from coral_git.integrations.original import save_model_to_coral as save_model_to_coral
from coral_git.integrations.trainer import CoralTrainer as CoralTrainer
