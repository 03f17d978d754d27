"""Is a repository healthy? Every test that breaks something ends with this question."""

from __future__ import annotations

from coral_git.limits import DEFAULT_LIMITS, Limits
from coral_git.maintenance.findings import FsckReport
from coral_git.maintenance.fsck import check_store
from coral_git.pipeline.workspace import Workspace


def assert_store_healthy(directory: str, limits: Limits = DEFAULT_LIMITS) -> FsckReport:
    """Check that fsck finds nothing and that every manifest restores to its SHA-256.

    Args:
        directory: a work tree, or a bare repository.
        limits: the caps that the repository is used with.

    Returns:
        What was checked.

    Raises:
        AssertionError: something is wrong; the message lists it.
    """
    workspace = Workspace.open(directory, limits)
    try:
        report = check_store(workspace)
    finally:
        workspace.close()
    if report.findings:
        raise AssertionError("\n".join(["the store is not healthy:", *map(str, report.findings)]))
    return report
