"""coral-git: neural-network weights in ordinary git."""

from __future__ import annotations

TYPE_CHECKING = False  # the filter imports this file first: `typing` alone would cost it milliseconds
if TYPE_CHECKING:
    from coral_git.api.deduplicator import Deduplicator
    from coral_git.api.delta import Delta, DeltaConfig, DeltaEncoder
    from coral_git.api.differences import TensorChange, WeightsDiff
    from coral_git.api.local_store import LocalStore
    from coral_git.api.memory_store import MemoryStore
    from coral_git.api.merging import MergeCommit
    from coral_git.api.opened import OpenedFile, open  # noqa: A004
    from coral_git.api.remote_store import RemoteStore
    from coral_git.api.repository import Repository
    from coral_git.api.strategies import MergeStrategy
    from coral_git.api.versions import Commit, CommitMetadata, Version
    from coral_git.api.weight_store import WeightStore
    from coral_git.api.weights import WeightMetadata, WeightTensor
    from coral_git.errors import MergeConflictError
    from coral_git.types import DeltaType

__version__ = "0.1.0"
__all__ = [
    "Commit",
    "CommitMetadata",
    "Deduplicator",
    "Delta",
    "DeltaConfig",
    "DeltaEncoder",
    "DeltaType",
    "LocalStore",
    "MemoryStore",
    "MergeCommit",
    "MergeConflictError",
    "MergeStrategy",
    "OpenedFile",
    "RemoteStore",
    "Repository",
    "TensorChange",
    "Version",
    "WeightMetadata",
    "WeightStore",
    "WeightTensor",
    "WeightsDiff",
    "__version__",
    "open",
]

_HOMES = {
    "Commit": "coral_git.api.versions",
    "CommitMetadata": "coral_git.api.versions",
    "Deduplicator": "coral_git.api.deduplicator",
    "Delta": "coral_git.api.delta",
    "DeltaConfig": "coral_git.api.delta",
    "DeltaEncoder": "coral_git.api.delta",
    "DeltaType": "coral_git.types",
    "LocalStore": "coral_git.api.local_store",
    "MemoryStore": "coral_git.api.memory_store",
    "MergeCommit": "coral_git.api.merging",
    "MergeConflictError": "coral_git.errors",
    "MergeStrategy": "coral_git.api.strategies",
    "OpenedFile": "coral_git.api.opened",
    "RemoteStore": "coral_git.api.remote_store",
    "Repository": "coral_git.api.repository",
    "TensorChange": "coral_git.api.differences",
    "Version": "coral_git.api.versions",
    "WeightMetadata": "coral_git.api.weights",
    "WeightStore": "coral_git.api.weight_store",
    "WeightTensor": "coral_git.api.weights",
    "WeightsDiff": "coral_git.api.differences",
    "open": "coral_git.api.opened",
}


def __getattr__(name: str) -> object:
    """Load a name when it is first used: the filter that git starts needs none of them."""
    if name not in _HOMES:
        raise AttributeError(f"module 'coral_git' has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
