"""Making the commits of packs and indexes in a scratch repository."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from coral_git.errors import IntegrityError
from coral_git.remotes.base import PackUpload
from coral_git.remotes.gitpack import GitPackWriter, object_name
from coral_git.remotes.scratch import Scratch
from coral_git.remotes.snapshot import PART_BYTES, Kind, RefNames, commit_bytes, tree_bytes
from coral_git.types import PackId

Content = Callable[[], Iterable[bytes]]
"""Gives an object's content, in one piece or as the parts of a file, each time it is called."""


@dataclass(frozen=True, slots=True)
class Commits:
    """What a push creates.

    Attributes:
        packs: refs of packs, each with the id of its commit.
        indexes: the same of their indexes.
    """

    packs: Mapping[str, str]
    indexes: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _File:
    """A pack or an index on its way into objects."""

    kind: Kind
    pack: PackId
    content: Content
    parts: tuple[str, ...]


def build_commits(scratch: Scratch, names: RefNames, uploads: Sequence[PackUpload]) -> Commits:
    """Store packs and indexes in the scratch repository.

    Everything is read twice: a git pack starts with the number of its objects, and equal parts must be in it
    only once.

    Raises:
        IntegrityError: a file is not the pack it is named for; a wrong ref could never be corrected.
        OSError: a pack cannot be read, or the scratch repository cannot be written.
    """
    packs = [_plan_pack(upload, scratch.object_format) for upload in uploads]
    indexes = [_plan_index(upload, scratch.object_format) for upload in uploads]
    commits: dict[str, str] = {}
    small: dict[str, tuple[str, bytes]] = {}
    for file in [*packs, *indexes]:
        tree = tree_bytes(file.parts)
        tree_id = object_name("tree", tree, scratch.object_format)
        commit = commit_bytes(file.kind, file.pack, tree_id)
        commit_id = object_name("commit", commit, scratch.object_format)
        small[tree_id] = ("tree", tree)
        small[commit_id] = ("commit", commit)
        commits[names.ref(file.kind, file.pack)] = commit_id
    _write(scratch, [*packs, *indexes], small)
    of_packs = {names.ref("pack", upload.pack) for upload in uploads}
    return Commits(
        {ref: commit for ref, commit in commits.items() if ref in of_packs},
        {ref: commit for ref, commit in commits.items() if ref not in of_packs},
    )


def _write(scratch: Scratch, files: Sequence[_File], small: Mapping[str, tuple[str, bytes]]) -> None:
    wanted = {part for file in files for part in file.parts}
    path = os.path.join(scratch.path, "objects", "pack", "pack-coral.pack")
    with GitPackWriter(path, len(small) + len(wanted), scratch.object_format) as writer:
        for kind, data in small.values():
            writer.add(kind, data)
        for file in files:
            for name, part in zip(file.parts, file.content(), strict=True):
                if name in wanted:
                    wanted.remove(name)
                    writer.add("blob", part)
    scratch.git.run("index-pack", path)


def _plan_pack(upload: PackUpload, object_format: str) -> _File:
    digest = hashlib.sha256()
    parts = []
    for part in _read_parts(upload.path):
        digest.update(part)
        parts.append(object_name("blob", part, object_format))
    if digest.digest() != upload.pack:
        raise IntegrityError(
            f"the pack {upload.path!r} is damaged: its bytes have another SHA-256",
            hint="run 'git coral fsck'",
        )
    return _File("pack", upload.pack, lambda: _read_parts(upload.path), tuple(parts))


def _plan_index(upload: PackUpload, object_format: str) -> _File:
    parts = tuple(object_name("blob", part, object_format) for part in _cut(upload.index))
    return _File("idx", upload.pack, lambda: _cut(upload.index), parts)


def _read_parts(path: str) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while part := file.read(PART_BYTES):
            yield part


def _cut(data: bytes) -> Iterator[bytes]:
    for start in range(0, len(data), PART_BYTES):
        yield data[start : start + PART_BYTES]
