"""Objects from the local store to a remote store: exactly what the pushed manifests name and it lacks.

The packs are made in a folder of the store, a bounded number of bytes at a time, sent, and removed. Each
batch is complete in itself, so a push that was interrupted goes on where it ended.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from coral_git import fsops
from coral_git.codecs.strategies import Strategy
from coral_git.errors import ObjectMissingError, RemoteError
from coral_git.limits import MIB
from coral_git.pipeline.closure import find_incomplete, stored_copies
from coral_git.pipeline.encode import Encoder
from coral_git.pipeline.fetch import fetch_objects
from coral_git.pipeline.history import NamedObjects
from coral_git.pipeline.inventory import Inventory, keep_index
from coral_git.pipeline.parallel import Workers
from coral_git.pipeline.part_source import PartSource
from coral_git.pipeline.stores import remote_stores
from coral_git.pipeline.transfer_plan import Shipment, batches, plan_shipments
from coral_git.pipeline.workspace import Workspace
from coral_git.remotes.base import PackUpload, RemoteStore
from coral_git.remotes.scratch import remove_tree
from coral_git.store.store import Store
from coral_git.types import ObjectId, PackId

BATCH_BYTES = 256 * MIB
"""Bytes of packs that are made before they are sent."""

_FOLDER = "outgoing"
_NAMED = 10

Sent = Callable[[int, int], None]
"""Told the bytes that were sent and about how many there are."""


@dataclass(frozen=True, slots=True)
class PushReport:
    """What a push did, or with ``dry_run`` would do.

    Attributes:
        remote: the remote store.
        named: objects that the pushed manifests name.
        sent: objects that were sent.
        packs: packs that were sent.
        sent_bytes: their length; without sending, what the objects take in the local store.
    """

    remote: str
    named: int
    sent: int
    packs: int
    sent_bytes: int


def push_objects(
    workspace: Workspace,
    inventory: Inventory,
    named: NamedObjects,
    *,
    dry_run: bool = False,
    progress: Sent | None = None,
    batch_bytes: int = BATCH_BYTES,
) -> PushReport:
    """Send what a remote store lacks of the objects that manifests name, and prove that it has them.

    Args:
        workspace: the repository.
        inventory: what the remote store has; what is sent is added to its packs.
        named: the objects, each with a place that names it.
        dry_run: only count.
        progress: told what was sent so far.
        batch_bytes: bytes of packs that are made before they are sent.

    Raises:
        ObjectMissingError: an object is neither here nor on any remote; it names tensor and file.
        RemoteError: the remote store failed, or does not have what was sent.
        StorageFullError: there is no space for the packs.
    """
    remote = inventory.remote
    lacking = [object_id for object_id in named if object_id not in inventory]
    _require_local(workspace, remote, named, lacking)
    copies = stored_copies(workspace.store, lacking)
    shipments = plan_shipments(copies, lacking, inventory, workspace.limits)
    total = sum(shipment.size for shipment in shipments)
    if dry_run or not lacking:
        return PushReport(remote.name, len(named), len(lacking), 0, total)
    sent: list[PackId] = []
    sent_bytes = done = 0
    for batch in batches(shipments, batch_bytes):
        with _outgoing_packs(workspace, batch) as uploads:
            remote.put_many(uploads)
            sent_bytes += sum(os.path.getsize(upload.path) for upload in uploads)
        for upload in uploads:
            keep_index(workspace, upload.pack, upload.index)
            sent.append(upload.pack)
        done += sum(shipment.size for shipment in batch)
        if progress is not None:
            progress(done, total)
    _prove(remote, sent)
    inventory.packs.update(sent)
    return PushReport(remote.name, len(named), len(lacking), len(sent), sent_bytes)


def _require_local(
    workspace: Workspace, remote: RemoteStore, named: NamedObjects, lacking: Sequence[ObjectId]
) -> None:
    """Everything that must be sent is here, or can be fetched from another remote store."""
    missing = find_incomplete(workspace.store, lacking)
    if missing:
        others = (other for other in remote_stores(workspace) if other.url != remote.url)
        missing = fetch_objects(workspace, missing, others)
    if not missing:
        return
    places = [named[object_id] for object_id in missing[:_NAMED]]
    more = f"\n  … and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
    lines = "".join(f"\n  {place}" for place in places)
    count = "1 object is" if len(missing) == 1 else f"{len(missing)} objects are"
    raise ObjectMissingError(
        f"{count} neither here nor on '{remote.name}':{lines}{more}",
        hint="run 'git coral fetch REMOTE' where they can be had, or 'git add' the file again",
    )


@contextlib.contextmanager
def _outgoing_packs(workspace: Workspace, batch: Sequence[Shipment]) -> Iterator[list[PackUpload]]:
    """Packs of a batch, in a folder that is gone after the block; so are those of pushes that were killed."""
    _sweep(workspace.store_root)
    folder = os.path.join(workspace.store_root, fsops.unique_name(_FOLDER))
    try:
        with Store.create(folder, workspace.limits, fsync=False) as outgoing:
            packs = _export(workspace, outgoing, batch)
            yield [_upload(outgoing, pack) for pack in packs]
    finally:
        remove_tree(folder)


def _sweep(store_root: str) -> None:
    """Remove the folders of processes that are gone."""
    with os.scandir(store_root) as entries:
        names = [entry.name for entry in entries if entry.name.startswith(f"{_FOLDER}-")]
    for name in names:
        owner = name.split("-")[1]
        if owner.isdecimal() and not fsops.process_is_alive(int(owner)):
            remove_tree(os.path.join(store_root, name))


def _export(workspace: Workspace, outgoing: Store, batch: Sequence[Shipment]) -> list[PackId]:
    """Write the objects into packs, in an order that depends on nothing but the request."""
    store = workspace.store
    with store.exporter(outgoing) as writer, Workers(workspace.settings.threads) as workers:
        for shipment in batch:
            if shipment.copied is not None:
                writer.copy(shipment.copied)
        encoder = Encoder(
            store, workers, strategy=Strategy(profile=workspace.settings.profile), store_all=True
        )
        encoder.store_parts((_source(store, one) for one in batch if one.copied is None), writer)
        return writer.finish()


def _source(store: Store, shipment: Shipment) -> PartSource:
    reader = store.reader(shipment.object_id)

    def read(start: int, size: int) -> bytes:
        return bytes(store.reader(shipment.object_id).read(start, size))

    return PartSource(read, reader.raw_length, reader.element, shipment.bases)


def _upload(outgoing: Store, pack: PackId) -> PackUpload:
    path = outgoing.layout.pack_path(pack)
    with open(outgoing.layout.index_path(pack), "rb") as index:
        return PackUpload(pack, path, index.read())


def _prove(remote: RemoteStore, sent: Sequence[PackId]) -> None:
    """Ask the remote store again; only what it lists counts. A pack is named by its bytes."""
    absent = len(set(sent) - remote.list_packs())
    if absent:
        raise RemoteError(
            f"'{remote.name}' accepted {len(sent)} packs and does not list {absent} of them",
            hint="push again; if it happens twice, somebody removes packs there",
        )
