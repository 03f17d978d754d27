"""What takes the space of the store: which refs, versions and tensors, and what nobody but one of them needs.

Every commit is visited once, with the set of refs that reach it as the bits of a number. The versions of
files that a commit brought in get its bits, the objects that a version names get those of the version, and
the bases of deltas those of the deltas: an object belongs to one ref alone when it has just one bit.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from coral_git.codecs.registry import codec_by_id
from coral_git.errors import CoralError
from coral_git.git.revisions import list_index
from coral_git.history.changes import ManifestReader
from coral_git.history.commits import walk
from coral_git.maintenance.closure import close
from coral_git.maintenance.survey import Survey, take_survey
from coral_git.manifest.entries import Manifest
from coral_git.manifest.model import object_ids
from coral_git.pipeline.history import read_blob
from coral_git.pipeline.workspace import Workspace
from coral_git.store.location import Location
from coral_git.types import ObjectId

_WINDOW = 64
_MANY = 10_000
INDEX = "(index)"
REMOTES = "(remote-tracking branches)"
OTHERS = "(other refs)"
_KINDS = {
    "refs/heads/": "branch",
    "refs/tags/": "tag",
    "refs/coral/runs/": "run",
    "refs/coral/checkpoints/": "checkpoint",
    "refs/remotes/": "remote",
}


class RefUsage(NamedTuple):
    """What a ref keeps.

    Attributes:
        name: its short name.
        kind: ``"branch"``, ``"tag"``, ``"run"``, ``"checkpoint"``, ``"remote"``, ``"index"`` or ``"other"``.
        versions: how many versions of files its history has.
        raw_bytes: their lengths together.
        stored_bytes: what their objects take, with the bases of these.
        unique_bytes: how much of it nothing else needs: what dropping the ref would free.
    """

    name: str
    kind: str
    versions: int
    raw_bytes: int
    stored_bytes: int
    unique_bytes: int


class CodecUsage(NamedTuple):
    """What a codec made of the objects that it was chosen for."""

    name: str
    objects: int
    raw_bytes: int
    stored_bytes: int


class PieceUsage(NamedTuple):
    """What a file of a revision, or a tensor of it, takes.

    Attributes:
        path: the file.
        name: the tensor; empty for the whole file.
        raw_bytes: its length.
        stored_bytes: what its objects take.
        unique_bytes: how much of it no other version of any file names, or needs as a base.
        missing: how many of its objects are not in the store.
    """

    path: str
    name: str
    raw_bytes: int
    stored_bytes: int
    unique_bytes: int
    missing: int


class Reason(NamedTuple):
    """Why an object is kept.

    Attributes:
        object_id: the object.
        stored_bytes: what it takes.
        raw_bytes: its length.
        codec: how it is stored.
        owner: file and tensor that name it, if any does.
        versions: how many versions of files name it.
        serves: how many objects are stored as deltas of it.
        refs: the refs that need it.
    """

    object_id: ObjectId
    stored_bytes: int
    raw_bytes: int
    codec: str
    owner: str
    versions: int
    serves: int
    refs: tuple[str, ...]


class StoreUsage(NamedTuple):
    """The store as a whole.

    Attributes:
        packs: how many packs there are.
        pack_bytes: what they take.
        trash_bytes: what lies in the trash.
        versions: how many versions of files git names.
        raw_bytes: their lengths together.
        live_bytes: what the objects that they need take.
        garbage_bytes: what other entries of packs take: of objects that nothing needs, or further copies.
        missing: how many objects are named and not here.
    """

    packs: int
    pack_bytes: int
    trash_bytes: int
    versions: int
    raw_bytes: int
    live_bytes: int
    garbage_bytes: int
    missing: int


class Usage:
    """What every ref needs; made once, asked for different views.

    Args:
        workspace: the repository.
        with_remotes: whether remote-tracking branches are told apart.
    """

    def __init__(self, workspace: Workspace, *, with_remotes: bool = False) -> None:
        self._workspace = workspace
        self._reader = ManifestReader(workspace)
        self._names: list[tuple[str, str]] = []
        self._blobs = self._reached(self._tips(with_remotes))
        self._sizes: dict[str, int] = {}
        self._owners: dict[ObjectId, str] = {}
        self._named: dict[ObjectId, int] = defaultdict(int)
        self._count: dict[ObjectId, int] = defaultdict(int)
        self._read_manifests()
        self._survey: Survey = take_survey(workspace.store)
        closure = close(self._named, self._survey.packs)
        self._chosen = {one: place for one, place in closure.chosen.items() if one in closure.kept}
        self._serves: dict[ObjectId, int] = defaultdict(int)
        self._needed = self._with_bases()

    @property
    def store(self) -> StoreUsage:
        """The totals."""
        live = sum(self._chosen[one].entry_length for one in self._needed if one in self._chosen)
        entries = sum(place.entry_length for state in self._survey.packs for place in state.entries)
        return StoreUsage(
            packs=len(self._survey.packs),
            pack_bytes=sum(state.info.size for state in self._survey.packs),
            trash_bytes=sum(state.info.size for state in self._survey.trash),
            versions=len(self._sizes),
            raw_bytes=sum(self._sizes.values()),
            live_bytes=live,
            garbage_bytes=entries - live,
            missing=sum(one not in self._chosen for one in self._named),
        )

    def refs(self) -> list[RefUsage]:
        """What each ref keeps."""
        stored, unique = [0] * len(self._names), [0] * len(self._names)
        for object_id, mask in self._needed.items():
            place = self._chosen.get(object_id)
            if place is None:
                continue
            for number in _bits(mask):
                stored[number] += place.entry_length
            if mask.bit_count() == 1:
                unique[mask.bit_length() - 1] += place.entry_length
        versions, raw = [0] * len(self._names), [0] * len(self._names)
        for blob, size in self._sizes.items():
            for number in _bits(self._blobs[blob]):
                versions[number] += 1
                raw[number] += size
        rows = zip(self._names, versions, raw, stored, unique, strict=True)
        return [RefUsage(name, kind, *numbers) for (name, kind), *numbers in rows]

    def codecs(self) -> list[CodecUsage]:
        """What each codec made of what is needed, the one with most bytes first."""
        found: dict[int, list[Location]] = defaultdict(list)
        for object_id in self._needed:
            if object_id in self._chosen:
                found[self._chosen[object_id].codec].append(self._chosen[object_id])
        rows = [
            CodecUsage(
                codec_name(codec),
                len(places),
                sum(place.raw_length for place in places),
                sum(place.entry_length for place in places),
            )
            for codec, places in found.items()
        ]
        return sorted(rows, key=lambda row: -row.stored_bytes)

    def pieces(self, manifests: Iterable[tuple[bytes, Manifest]], with_tensors: bool) -> list[PieceUsage]:
        """What files take, and the tensors in them."""
        rows = []
        for path, manifest in manifests:
            shown = os.fsdecode(path)
            rows.append(self._piece(shown, "", manifest.size, object_ids(manifest)))
            listed = manifest.tensors if with_tensors else ()
            rows += [self._piece(shown, one.name, one.nbytes, one.objects) for one in listed]
        return rows

    def reasons(self, wanted: Iterable[ObjectId] | None = None) -> list[Reason]:
        """Why objects are kept, the largest first.

        Args:
            wanted: the objects; all that are needed by default.
        """
        asked = self._needed if wanted is None else dict.fromkeys(wanted)
        places = sorted(
            (self._chosen[one] for one in asked if one in self._chosen), key=lambda place: -place.entry_length
        )
        return [
            Reason(
                object_id=place.object_id,
                stored_bytes=place.entry_length,
                raw_bytes=place.raw_length,
                codec=codec_name(place.codec),
                owner=self._owners.get(place.object_id, ""),
                versions=self._count.get(place.object_id, 0),
                serves=self._serves.get(place.object_id, 0),
                refs=tuple(self._names[number][0] for number in _bits(self._needed[place.object_id])),
            )
            for place in places
        ]

    def _piece(self, path: str, name: str, size: int, objects: Sequence[ObjectId]) -> PieceUsage:
        ids = list(dict.fromkeys(objects))
        here = {one: self._chosen[one].entry_length for one in ids if one in self._chosen}
        alone = sum(
            length
            for one, length in here.items()
            if self._count.get(one, 0) <= 1 and not self._serves.get(one)
        )
        return PieceUsage(path, name, size, sum(here.values()), alone, len(ids) - len(here))

    def _tips(self, with_remotes: bool) -> dict[str, int]:
        """The commits that refs name, with the bits of these refs."""
        git = self._workspace.git
        tips: dict[str, int] = defaultdict(int)
        numbers: dict[str, int] = {}
        lines = git.run("for-each-ref", "--format=%(objectname) %(*objectname) %(refname)").decode(
            "utf-8", "replace"
        )
        for line in lines.splitlines():
            oid, peeled, ref = line.split(" ", 2)
            if ref.startswith(("refs/coral/store/", "refs/notes/", "refs/coral/registry/")):
                continue
            prefix = next((one for one in _KINDS if ref.startswith(one)), "")
            name, kind = ref.removeprefix(prefix), _KINDS.get(prefix, "other")
            if kind == "other":
                name = OTHERS
            elif kind == "remote" and not with_remotes:
                name = REMOTES
            number = numbers.setdefault(f"{kind} {name}", len(numbers))
            if number == len(self._names):
                self._names.append((name, kind))
            tips[peeled or oid] |= 1 << number
        head = git.run("rev-parse", "--verify", "--quiet", "HEAD", check=False).decode().strip()
        if head and head not in tips:
            self._names.append(("HEAD", "other"))
            tips[head] |= 1 << len(self._names) - 1
        return tips

    def _reached(self, tips: Mapping[str, int]) -> dict[str, int]:
        """Blobs with the bits of the refs whose history has them."""
        reached = dict(tips)
        blobs: dict[str, int] = defaultdict(int)
        if tips:
            for commit in walk(self._workspace.git, ("--topo-order", *tips)):
                bits = reached.pop(commit.oid, 0)
                for parent in commit.parents:
                    reached[parent] = reached.get(parent, 0) | bits
                for file in commit.files:
                    if file.new:
                        blobs[file.new] |= bits
        if self._workspace.paths.work_tree is not None:
            self._names.append((INDEX, "index"))
            for entry in list_index(self._workspace.git):
                blobs[entry.oid] |= 1 << len(self._names) - 1
        return blobs

    def _read_manifests(self) -> None:
        blobs = list(self._blobs)
        for start in range(0, len(blobs), _WINDOW):
            window = blobs[start : start + _WINDOW]
            manifests = self._reader.among(window)
            for blob in window:
                manifest = self._reader.read(blob) if blob in manifests else None
                if manifest is not None:
                    self._count_version(blob, manifest)

    def _count_version(self, blob: str, manifest: Manifest) -> None:
        self._sizes[blob] = manifest.size
        mask = self._blobs[blob]
        for tensor in manifest.tensors:
            for object_id in tensor.objects:
                self._owners.setdefault(object_id, tensor.name)
        ids = object_ids(manifest)
        if manifest.tensor_count is None or manifest.tensor_count > _MANY:  # its lists may be in tables
            raw = read_blob(self._workspace, blob)
            ids = (*ids, *(table.object_id for table in raw.tables)) if raw is not None else ids
        for object_id in ids:
            self._named[object_id] |= mask
            self._count[object_id] += 1

    def _with_bases(self) -> dict[ObjectId, int]:
        """What is named, and all the bases of it, with the bits of the refs that need them."""
        needed = dict(self._named)
        waiting = list(needed)
        while waiting:
            object_id = waiting.pop()
            place = self._chosen.get(object_id)
            base = place.base if place is not None else None
            if base is not None and needed.get(base, 0) | needed[object_id] != needed.get(base, 0):
                needed[base] = needed.get(base, 0) | needed[object_id]
                waiting.append(base)
        for object_id in needed:
            place = self._chosen.get(object_id)
            if place is not None and place.base is not None:
                self._serves[place.base] += 1
        return needed


def codec_name(codec: int) -> str:
    """The name of a codec; its number where it is not known."""
    try:
        return codec_by_id(codec).name
    except CoralError:
        return f"codec {codec}"


def _bits(mask: int) -> list[int]:
    return [number for number in range(mask.bit_length()) if mask >> number & 1]
