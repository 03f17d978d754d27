"""What a remote store has: the union of the indexes of its packs, asked anew and read once.

An index is named by its pack and never changes, so those that were fetched before are kept in the store.
They are hints: what is fetched is checked against its digests.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from coral_git import fsops
from coral_git.errors import CoralError
from coral_git.pipeline.workspace import Workspace
from coral_git.remotes.base import RemoteStore
from coral_git.store.location import Location
from coral_git.store.pack_index import decode_index
from coral_git.types import ObjectId, PackId

_CACHE = "remote-indexes"


class Inventory:
    """The objects of one remote store.

    Args:
        workspace: the repository, in whose store the indexes are kept.
        remote: the remote store; it is asked at once.

    Attributes:
        remote: the remote store.
        packs: the packs it has.

    Raises:
        RemoteError: the remote store cannot be asked.
    """

    def __init__(self, workspace: Workspace, remote: RemoteStore) -> None:
        self.remote = remote
        self.packs = remote.list_packs()
        self._objects: dict[ObjectId, Location] = {}
        for pack, data in _indexes(workspace, remote, self.packs):
            self._add(pack, data)

    def __contains__(self, object_id: ObjectId) -> bool:
        return object_id in self._objects

    def packs_for(self, wanted: Iterable[ObjectId], local: Iterable[ObjectId] = ()) -> list[PackId]:
        """The packs that hold the wanted objects and, all the way down, their bases.

        Args:
            wanted: the objects; those that are not held here are left out.
            local: objects that are at hand already and need not be fetched.
        """
        packs: dict[PackId, None] = {}
        seen = set(local)
        queue = list(wanted)
        while queue:
            object_id = queue.pop()
            held = self._objects.get(object_id)
            if object_id in seen or held is None:
                continue
            seen.add(object_id)
            packs[held.pack] = None
            if held.base is not None:
                queue.append(held.base)
        return list(packs)

    def bases_of(self, wanted: Iterable[ObjectId]) -> list[ObjectId]:
        """Every base that the wanted objects need here, all the way down."""
        bases: dict[ObjectId, None] = {}
        queue = list(wanted)
        while queue:
            held = self._objects.get(queue.pop())
            if held is not None and held.base is not None and held.base not in bases:
                bases[held.base] = None
                queue.append(held.base)
        return list(bases)

    def _add(self, pack: PackId, data: bytes) -> None:
        for record in decode_index(data, pack):
            known = self._objects.get(record.object_id)
            if known is None or (known.base is not None and record.base is None):
                self._objects[record.object_id] = record


def _indexes(
    workspace: Workspace, remote: RemoteStore, packs: Iterable[PackId]
) -> Iterator[tuple[PackId, bytes]]:
    folder = os.path.join(workspace.store_root, _CACHE)
    unknown = []
    for pack in packs:
        data = _read(os.path.join(folder, f"{pack.hex()}.idx"), pack)
        if data is None:
            unknown.append(pack)
        else:
            yield pack, data
    if not unknown:
        return
    fsops.make_directory(folder)
    for pack, data in remote.get_indexes(unknown):
        decode_index(data, pack)
        fsops.replace_file(os.path.join(folder, f"{pack.hex()}.idx"), data)
        yield pack, data


def _read(path: str, pack: PackId) -> bytes | None:
    try:
        with open(path, "rb") as file:
            data = file.read()
        decode_index(data, pack)
    except (OSError, CoralError):
        return None
    return data
