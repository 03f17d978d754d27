"""What a remote store has: the union of the indexes of its packs, asked anew and read once.

An index is named by its pack and never changes, so those that were fetched before are kept in the store.
They are hints: what is fetched is checked against its digests.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from coral_git import fsops
from coral_git.errors import CoralError
from coral_git.pipeline.closure import complete_copies
from coral_git.pipeline.messages import warn
from coral_git.pipeline.workspace import Workspace
from coral_git.remotes.base import RemoteStore
from coral_git.store.location import Location
from coral_git.store.pack_index import decode_index
from coral_git.types import ObjectId, PackId

_CACHE = "remote-indexes"


class Inventory:
    """The objects of one remote store. Those whose bases are not there as well do not count.

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
        self._copies: dict[ObjectId, list[Location]] = {}
        self._contents: dict[PackId, list[ObjectId]] = {}
        self._sizes: dict[PackId, int] = {}
        for pack, records in _indexes(workspace, remote, sorted(self.packs)):
            self._contents[pack] = [record.object_id for record in records]
            self._sizes[pack] = sum(record.entry_length for record in records)
            for record in records:
                self._copies.setdefault(record.object_id, []).append(record)
        self._complete = complete_copies(self._copies)

    def __contains__(self, object_id: object) -> bool:
        return object_id in self._complete

    def size_of(self, pack: PackId) -> int:
        """The bytes that the objects of a pack take."""
        return self._sizes.get(pack, 0)

    def packs_for(self, wanted: Iterable[ObjectId], local: Iterable[ObjectId] = ()) -> list[PackId]:
        """The packs that hold the wanted objects and, all the way down, the bases of all that they hold.

        So a store that takes in whole packs can decode whatever is in them. Bases tend to come first.

        Args:
            wanted: the objects; those that cannot be had here are left out.
            local: objects that are at hand already.
        """
        roots = set(local)
        chosen = complete_copies(self._copies, roots) if roots else self._complete
        packs: dict[PackId, None] = {}
        seen: set[ObjectId] = set()
        queue = list(wanted)
        while queue:
            object_id = queue.pop()
            held = chosen.get(object_id)
            if held is None or object_id in seen:
                continue
            seen.add(object_id)
            if held.base is not None and held.base not in roots:
                queue.append(held.base)
            if held.pack not in packs:
                packs[held.pack] = None
                queue += self._contents[held.pack]
        return list(reversed(packs))

    def bases_of(self, wanted: Iterable[ObjectId]) -> list[ObjectId]:
        """Every base that copies of the wanted objects here have, all the way down."""
        bases: dict[ObjectId, None] = {}
        queue = list(wanted)
        while queue:
            for copy in self._copies.get(queue.pop(), ()):
                if copy.base is not None and copy.base not in bases:
                    bases[copy.base] = None
                    queue.append(copy.base)
        return list(bases)


def keep_index(workspace: Workspace, pack: PackId, data: bytes) -> None:
    """Remember the index of a pack that a remote store has, so that it need not be fetched."""
    folder = os.path.join(workspace.store_root, _CACHE)
    fsops.make_directory(folder)
    fsops.replace_file(os.path.join(folder, f"{pack.hex()}.idx"), data)


def _indexes(
    workspace: Workspace, remote: RemoteStore, packs: Iterable[PackId]
) -> Iterator[tuple[PackId, list[Location]]]:
    """The entries of packs. One whose index is damaged is left out, so that it does no harm to the others."""
    folder = os.path.join(workspace.store_root, _CACHE)
    unknown = []
    for pack in packs:
        known = _read(os.path.join(folder, f"{pack.hex()}.idx"), pack)
        if known is None:
            unknown.append(pack)
        else:
            yield pack, known
    if not unknown:
        return
    for pack, data in remote.get_indexes(unknown):
        try:
            records = decode_index(data, pack)
        except CoralError as error:
            warn(f"{remote.name}: {error.message}", error.hint)
            continue
        keep_index(workspace, pack, data)
        yield pack, records


def _read(path: str, pack: PackId) -> list[Location] | None:
    try:
        with open(path, "rb") as file:
            return decode_index(file.read(), pack)
    except (OSError, CoralError):
        return None
