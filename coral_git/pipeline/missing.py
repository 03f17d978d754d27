"""What files lack in the local store. The machinery of remote stores is imported only when something does."""

from __future__ import annotations

from collections.abc import Sequence

from coral_git.errors import ObjectMissingError
from coral_git.manifest.model import Manifest, object_ids
from coral_git.pipeline.closure import find_incomplete
from coral_git.pipeline.decode import expanded
from coral_git.pipeline.workspace import Workspace
from coral_git.types import ObjectId


def bring_objects(workspace: Workspace, files: Sequence[tuple[bytes, Manifest]]) -> list[ObjectId]:
    """Fetch what files lack from every remote store that is configured.

    Args:
        workspace: the repository.
        files: paths and their manifests.

    Returns:
        The objects that cannot be had.
    """
    if all(_is_complete(workspace, manifest) for _, manifest in files):
        return []
    from coral_git.pipeline.fetch import fetch_missing

    return fetch_missing(workspace, files)


def _is_complete(workspace: Workspace, manifest: Manifest) -> bool:
    try:
        whole = expanded(manifest, workspace.store)
    except ObjectMissingError:
        return False
    return not find_incomplete(workspace.store, object_ids(whole))
