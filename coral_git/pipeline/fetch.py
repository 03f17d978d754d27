"""Objects from remote stores into the local one: what a checkout misses, or what a range of history names."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from coral_git import fsops
from coral_git.errors import CoralError, FormatVersionError, IntegrityError, PolicyError, RemoteError
from coral_git.manifest.model import Manifest
from coral_git.pipeline.closure import find_incomplete
from coral_git.pipeline.inventory import Inventory
from coral_git.pipeline.manifests import named_objects
from coral_git.pipeline.messages import say, warn
from coral_git.pipeline.progress import Progress, format_size
from coral_git.pipeline.stores import remote_stores
from coral_git.pipeline.workspace import Workspace
from coral_git.remotes.base import PackDownload, RemoteStore
from coral_git.types import ObjectId, PackId

_BATCH_PACKS = 16
_DAMAGE = (IntegrityError, FormatVersionError)
_BAD_PACK = (*_DAMAGE, PolicyError)
"""What is wrong with one pack of a remote store and says nothing about the others."""


def fetch_missing(
    workspace: Workspace,
    files: Sequence[tuple[bytes, Manifest]],
    remotes: Iterable[RemoteStore] | None = None,
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
    asked = None if remotes is None else list(remotes)
    tables = [table.object_id for _, manifest in files for table in manifest.tables]
    missing = fetch_objects(workspace, tables, asked, quiet=quiet) if tables else []
    wanted: list[ObjectId] = []
    for _, manifest in files:
        wanted += [one for one in named_objects(workspace, manifest) if one not in missing]
    still = fetch_objects(workspace, wanted, asked, quiet=quiet)
    return list(dict.fromkeys(missing + still))


def fetch_objects(
    workspace: Workspace,
    wanted: Iterable[ObjectId],
    remotes: Iterable[RemoteStore] | None = None,
    *,
    quiet: bool = False,
) -> list[ObjectId]:
    """Bring objects, and what is needed to decode them, into the local store.

    Args:
        workspace: the repository.
        wanted: the objects.
        remotes: the remote stores to ask, one after the other; by default all that are configured.
        quiet: whether nothing is printed.

    Returns:
        Those that no remote store has.

    Raises:
        IntegrityError: a remote store has wrong bytes for an object, and no other one has the right ones.
        FormatVersionError: a remote store has what only a newer version can read, and no other one has it.
        StorageFullError: there is no space left.
    """
    missing = find_incomplete(workspace.store, wanted)
    if not missing:
        return []
    damage: CoralError | None = None
    for remote in remote_stores(workspace) if remotes is None else remotes:
        try:
            _fetch_from(workspace, Inventory(workspace, remote), missing, quiet)
        except _DAMAGE as error:
            damage = error
        except (RemoteError, PolicyError) as error:
            if not quiet:
                warn(error.message, error.hint)
        missing = find_incomplete(workspace.store, missing)
        if not missing:
            break
    if missing and damage is not None:
        raise damage
    return missing


def _fetch_from(workspace: Workspace, inventory: Inventory, missing: Sequence[ObjectId], quiet: bool) -> None:
    bases = inventory.bases_of(missing)
    incomplete = set(find_incomplete(workspace.store, bases))
    local = [base for base in bases if base not in incomplete]
    here = {info.id for info in workspace.store.packs()}
    packs = [pack for pack in inventory.packs_for(missing, local) if pack not in here]
    if not packs:
        return
    name = inventory.remote.name
    total = sum(inventory.size_of(pack) for pack in packs)
    if not quiet:
        say(f"fetching {len(packs)} pack{'s' if len(packs) != 1 else ''} ({format_size(total)}) from {name}")
    done = 0
    damage: CoralError | None = None
    with Progress("fetching", quiet=quiet) as progress:
        for start in range(0, len(packs), _BATCH_PACKS):
            batch = packs[start : start + _BATCH_PACKS]
            progress.update(name, done, total)
            try:
                receive_packs(workspace, inventory.remote, batch)
            except _BAD_PACK as error:
                damage = error
            done += sum(inventory.size_of(pack) for pack in batch)
    if damage is not None:
        raise damage


def receive_packs(workspace: Workspace, remote: RemoteStore, packs: Sequence[PackId]) -> None:
    """Download packs into quarantine, check them completely and publish them.

    Raises:
        IntegrityError: what came is not what its digests say; nothing of that pack was published, and all
            others were.
        RemoteError: the download failed; packs that were complete before stay.
    """
    layout = workspace.store.layout
    downloads = [PackDownload(pack, layout.incoming_path("fetch")) for pack in packs]
    try:
        try:
            damage = _download(remote, downloads)
        except CoralError:
            _import(workspace, downloads)
            raise
        _import(workspace, downloads)
        if damage is not None:
            raise damage
    finally:
        for download in downloads:
            if os.path.exists(download.path):
                fsops.remove(download.path)


def _download(remote: RemoteStore, downloads: Sequence[PackDownload]) -> CoralError | None:
    """Get packs; where one of them is bad, the others one by one. Gives the error of a bad one."""
    try:
        remote.get_packs(downloads)
    except _BAD_PACK as error:
        damage: CoralError = error
    else:
        return None
    for download in downloads:
        if not os.path.exists(download.path):
            try:
                remote.get_packs([download])
            except _BAD_PACK as error:
                damage = error
            except RemoteError:
                break  # what is bad is the more important news
    return damage


def _import(workspace: Workspace, downloads: Sequence[PackDownload]) -> None:
    """Publish the packs that came, the good ones also where another one is wrong."""
    failed: CoralError | None = None
    for download in downloads:
        if not os.path.exists(download.path):
            continue
        try:
            workspace.store.import_pack(download.path, expected=download.pack)
        except _BAD_PACK as error:
            error.message = f"received pack {download.pack.hex()}: {error.message}"
            failed = error
    if failed is not None:
        raise failed
