"""Which strategy a path is stored with: an order of the user, an attribute of the path, or the setting.

Attributes are tracked, so they come from whoever can push: they may choose among the exact strategies only.
"""

from __future__ import annotations

import os

from coral_git.config import parse_lossless
from coral_git.errors import UsageError
from coral_git.git.attributes import check_attr
from coral_git.pipeline.messages import show_path, warn
from coral_git.pipeline.workspace import Workspace
from coral_git.types import DeltaType

ENVIRONMENT = "CORAL_DELTA_TYPE"
"""Set for the git that ``git coral add --delta-type`` runs; stronger than everything else."""

ATTRIBUTE = "coral-delta"
_NOT_SET = frozenset({b"unspecified", b"unset", b""})


def delta_type_of(workspace: Workspace, path: bytes) -> DeltaType:
    """The strategy for what is added at a path.

    Args:
        workspace: the repository.
        path: relative to the root of the work tree.

    Raises:
        UsageError: the environment or the configuration names none, or one that is not exact.
        GitError: git cannot say what the attributes are.
    """
    ordered = os.environ.get(ENVIRONMENT)
    if ordered:
        return parse_lossless(ordered, ENVIRONMENT)
    value = check_attr(workspace.git, [path], ATTRIBUTE).get(path, b"")
    if value in _NOT_SET:
        return workspace.settings.delta_type
    try:
        return parse_lossless(os.fsdecode(value), f"the attribute {ATTRIBUTE}")
    except UsageError as error:
        warn(f"'{show_path(path)}': {error.message}", "the attribute is ignored")
        return workspace.settings.delta_type
