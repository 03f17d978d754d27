"""Objects from the local store to a remote store: exactly what the pushed manifests name and it lacks.

A delta is sent as it is stored when its base is on the remote or part of the same push; otherwise the base
may be private, and the object is encoded anew. The packs are made beside the store, sent, and removed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from coral_git import fsops
from coral_git.errors import ObjectMissingError, RemoteError
from coral_git.pipeline.encode import Encoder, PartSource
from coral_git.pipeline.fetch import fetch_objects
from coral_git.pipeline.history import NamedObjects
from coral_git.pipeline.inventory import Inventory
from coral_git.pipeline.parallel import Workers
from coral_git.pipeline.stores import remote_stores
from coral_git.pipeline.workspace import Workspace
from coral_git.remotes.base import PackUpload, RemoteStore
from coral_git.store.store import Store
from coral_git.store.writer import PackWriter
from coral_git.types import ObjectId, PackId

_NAMED = 10


@dataclass(frozen=True, slots=True)
class PushReport:
    """What a push did.

    Attributes:
        remote: the remote store.
        named: objects that the pushed manifests name.
        sent: objects that were sent.
        packs: packs that were sent.
        sent_bytes: their length.
    """

    remote: str
    named: int
    sent: int
    packs: int
    sent_bytes: int


def push_objects(
    workspace: Workspace, remote: RemoteStore, named: NamedObjects, *, dry_run: bool = False
) -> PushReport:
    """Send what a remote store lacks of the objects that manifests name, and prove that it has them.

    Args:
        workspace: the repository.
        remote: the remote store.
        named: the objects, each with a place that names it.
        dry_run: only count.

    Raises:
        ObjectMissingError: an object is neither here nor on any remote; it names tensor and file.
        RemoteError: the remote store failed, or does not have what was sent.
    """
    inventory = Inventory(workspace, remote)
    lacking = [object_id for object_id in named if object_id not in inventory]
    _require_local(workspace, remote, named, lacking)
    if dry_run or not lacking:
        return PushReport(remote.name, len(named), len(lacking), 0, 0)
    folder = os.path.join(workspace.store_root, fsops.unique_name("outgoing"))
    try:
        with Store.create(folder, workspace.limits, fsync=False) as outgoing:
            packs = _export(workspace, outgoing, lacking, inventory)
            uploads = [_upload(outgoing, pack) for pack in packs]
            sent_bytes = sum(os.path.getsize(upload.path) for upload in uploads)
            remote.put_many(uploads)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    _prove(workspace, remote, lacking)
    return PushReport(remote.name, len(named), len(lacking), len(packs), sent_bytes)


def _require_local(
    workspace: Workspace, remote: RemoteStore, named: NamedObjects, lacking: Sequence[ObjectId]
) -> None:
    """Everything that must be sent is here, or can be fetched from another remote store."""
    missing = workspace.store.find_missing(lacking)
    if missing:
        others = [other for other in remote_stores(workspace) if other.url != remote.url]
        missing = fetch_objects(workspace, missing, others)
    if not missing:
        return
    places = [named[object_id] for object_id in missing[:_NAMED]]
    more = f"\n  … and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
    lines = "".join(f"\n  {place}" for place in places)
    raise ObjectMissingError(
        f"{len(missing)} objects are neither here nor on '{remote.name}':{lines}{more}",
        hint="run 'git coral fetch REMOTE' where they can be had, or 'git coral add' the file again",
    )


def _export(
    workspace: Workspace, outgoing: Store, lacking: Sequence[ObjectId], inventory: Inventory
) -> list[PackId]:
    """Write the objects into packs of their own, in an order that depends on nothing but the request."""
    store = workspace.store
    sendable = set(lacking)
    anew: list[ObjectId] = []
    with store.exporter(outgoing) as writer, Workers(workspace.settings.threads) as workers:
        for object_id in lacking:
            location = store.chain(object_id)[0]  # along shortest chains, so that no cycle can be sent
            if location.base is None or location.base in sendable or location.base in inventory:
                writer.copy(location)
            else:
                anew.append(object_id)
        _encode_anew(store, anew, writer, workers)
        return writer.finish()


def _encode_anew(store: Store, object_ids: Iterable[ObjectId], writer: PackWriter, workers: Workers) -> None:
    encoder = Encoder(store, workers, store_all=True)
    encoder.store_parts(_sources(store, object_ids), writer)


def _sources(store: Store, object_ids: Iterable[ObjectId]) -> Iterator[PartSource]:
    for object_id in object_ids:
        element = store.locate(object_id).element
        reader = store.reader(object_id)
        length = reader.raw_length

        def read(start: int, size: int, wanted: ObjectId = object_id) -> bytes:
            return bytes(store.reader(wanted).read(start, size))

        yield PartSource(read, length, element)


def _upload(outgoing: Store, pack: PackId) -> PackUpload:
    path = outgoing.layout.pack_path(pack)
    with open(outgoing.layout.index_path(pack), "rb") as index:
        return PackUpload(pack, path, index.read())


def _prove(workspace: Workspace, remote: RemoteStore, sent: Sequence[ObjectId]) -> None:
    """Ask the remote store again; only what it lists counts."""
    inventory = Inventory(workspace, remote)
    absent = sum(object_id not in inventory for object_id in sent)
    if absent:
        raise RemoteError(
            f"'{remote.name}' accepted the packs and does not list {absent} of {len(sent)} objects",
            hint="push again; if it happens twice, somebody removes packs there",
        )
