"""Checkpoints of ``torch.distributed.checkpoint`` in the store: FSDP and other jobs of several processes.

``CoralStorageWriter`` and ``CoralStorageReader`` are for ``dcp.save``, ``dcp.async_save`` and ``dcp.load``.
The other functions are for whoever reads such a checkpoint in one process. ``full_tensors``, ``export_full``
and ``consolidate`` need no torch and can be imported from ``coral_git.integrations.dcp_consolidate``.
"""

from __future__ import annotations

from coral_git.integrations.checkpoint_config import CheckpointConfig as CheckpointConfig
from coral_git.integrations.dcp_consolidate import consolidate as consolidate
from coral_git.integrations.dcp_consolidate import export_full as export_full
from coral_git.integrations.dcp_consolidate import full_tensors as full_tensors
from coral_git.integrations.dcp_torch import load_plain as load_plain  # isort: split

from coral_git.integrations.dcp_reader import CoralStorageReader as CoralStorageReader
from coral_git.integrations.dcp_writer import CoralStorageWriter as CoralStorageWriter
