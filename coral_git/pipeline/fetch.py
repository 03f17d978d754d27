"""Objects from remote stores into the local one: what a checkout misses, or what a range of history names."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from coral_git import fsops
from coral_git.errors import CoralError, RemoteError
from coral_git.manifest.model import Manifest, object_ids
from coral_git.pipeline.inventory import Inventory
from coral_git.pipeline.messages import say, warn
from coral_git.pipeline.stores import remote_stores
from coral_git.pipeline.workspace import Workspace
from coral_git.remotes.base import PackDownload, RemoteStore
from coral_git.types import ObjectId, PackId

_BATCH_PACKS = 16


def fetch_missing(
    workspace: Workspace,
    files: Sequence[tuple[bytes, Manifest]],
    remotes: Sequence[RemoteStore] | None = None,
    *,
    quiet: bool = False,
) -> list[ObjectId]:
    """Bring what files lack, from every remote store in turn, until nothing is missing.

    Table objects are fetched first, because they name the rest.

    Args:
        workspace: the repository.
        files: paths and their manifests.
        remotes: the remote stores to ask; by default all that are configured.
        quiet: whether nothing is printed about unreachable remotes.

    Returns:
        The objects that are still missing.
    """
    tables = [table.object_id for _, manifest in files for table in manifest.tables]
    missing = fetch_objects(workspace, tables, remotes, quiet=quiet) if tables else []
    wanted: list[ObjectId] = []
    for _, manifest in files:
        wanted += named_objects(workspace, manifest, set(missing))
    return missing + fetch_objects(workspace, wanted, remotes, quiet=quiet)


def named_objects(workspace: Workspace, manifest: Manifest, missing: set[ObjectId]) -> Iterable[ObjectId]:
    """Every object of a file, through its tables where these are here."""
    from coral_git.pipeline.decode import expanded

    if any(table.object_id in missing for table in manifest.tables):
        return object_ids(manifest)
    tables = [table.object_id for table in manifest.tables]
    return [*tables, *object_ids(expanded(manifest, workspace.store))]


def fetch_objects(
    workspace: Workspace,
    wanted: Iterable[ObjectId],
    remotes: Sequence[RemoteStore] | None = None,
    *,
    quiet: bool = False,
) -> list[ObjectId]:
    """Bring objects into the local store.

    Returns:
        Those that no remote store has.
    """
    missing = workspace.store.find_missing(wanted)
    if not missing:
        return []
    for remote in remote_stores(workspace) if remotes is None else remotes:
        try:
            _fetch_from(workspace, Inventory(workspace, remote), missing)
        except RemoteError as error:
            if not quiet:
                warn(error.message, error.hint)
        missing = workspace.store.find_missing(missing)
        if not missing:
            break
    return missing


def _fetch_from(workspace: Workspace, inventory: Inventory, missing: Sequence[ObjectId]) -> None:
    packs = inventory.packs_for(missing, _local(workspace, inventory, missing))
    if not packs:
        return
    say(f"fetching {len(packs)} pack{'s' if len(packs) != 1 else ''} from {inventory.remote.name}")
    for start in range(0, len(packs), _BATCH_PACKS):
        receive_packs(workspace, inventory.remote, packs[start : start + _BATCH_PACKS])


def _local(workspace: Workspace, inventory: Inventory, missing: Sequence[ObjectId]) -> list[ObjectId]:
    """Bases of wanted objects that are at hand already."""
    bases = inventory.bases_of(missing)
    absent = set(workspace.store.find_missing(bases))
    return [base for base in bases if base not in absent]


def receive_packs(workspace: Workspace, remote: RemoteStore, packs: Sequence[PackId]) -> None:
    """Download packs into quarantine, check them completely and publish them.

    Raises:
        IntegrityError: what came is not what its digests say; nothing of that pack was published.
        RemoteError: the download failed; packs that were complete before stay.
    """
    incoming = workspace.store.layout.incoming
    downloads = [PackDownload(pack, os.path.join(incoming, fsops.unique_name("fetch"))) for pack in packs]
    try:
        remote.get_packs(downloads)
        _import(workspace, downloads)
    finally:
        for download in downloads:
            if os.path.exists(download.path):
                fsops.remove(download.path)


def _import(workspace: Workspace, downloads: Sequence[PackDownload]) -> None:
    for download in downloads:
        try:
            workspace.store.import_pack(download.path, expected=download.pack)
        except CoralError as error:
            raise type(error)(
                f"received pack {download.pack.hex()}: {error.message}", hint=error.hint
            ) from error
