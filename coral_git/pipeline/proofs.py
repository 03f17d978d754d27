"""Commits whose objects a remote store was proven to have, so that the next push looks at new commits only.

A proof holds as long as the remote store lists the packs that it rests on. It is a hint kept in the store;
without it the whole history is looked at.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from coral_git import fsops
from coral_git.pipeline.workspace import Workspace
from coral_git.remotes.base import RemoteStore
from coral_git.types import PackId, parse_id

_FOLDER = "remote-proofs"
_HEADER = "coral proof 1"
_MOST_TIPS = 64
_OID_LENGTHS = (40, 64)


@dataclass(frozen=True, slots=True)
class Proof:
    """What is known of a remote store.

    Attributes:
        tips: commits and tags; everything that their history names was there, or they name nothing.
        packs: the packs that were there then.
    """

    tips: tuple[str, ...] = ()
    packs: frozenset[PackId] = frozenset()


def read_proof(workspace: Workspace, remote: RemoteStore) -> Proof:
    """The proof that was kept, as far as its commits are here; an empty one otherwise."""
    if _is_shallow(workspace):
        return Proof()
    try:
        with open(_path(workspace, remote), encoding="ascii") as file:
            header, *lines = file.read().split("\n")
    except (OSError, ValueError):
        return Proof()
    if header != _HEADER:
        return Proof()
    tips = [line[4:] for line in lines if line.startswith("tip ") and is_oid(line[4:])]
    packs = [parse_id(line[5:]) for line in lines if line.startswith("pack ")]
    here = tuple(oid for oid, _, _ in workspace.objects.sizes(tips))
    return Proof(here, frozenset(PackId(pack) for pack in packs if pack is not None))


def keep_proof(
    workspace: Workspace, remote: RemoteStore, old: Proof, tips: Sequence[str], packs: Iterable[PackId]
) -> None:
    """Remember what a push has proven.

    Args:
        workspace: the repository.
        remote: the remote store.
        old: the proof on which the push rested, empty if on none.
        tips: what was pushed; nothing is remembered unless all are ids.
        packs: the packs that the remote store has now.
    """
    if _is_shallow(workspace) or not all(map(is_oid, tips)):
        return
    newest_first = list(dict.fromkeys([*tips, *old.tips]))[:_MOST_TIPS]
    lines = [
        _HEADER,
        *(f"tip {tip}" for tip in newest_first),
        *(f"pack {pack.hex()}" for pack in sorted(packs)),
    ]
    path = _path(workspace, remote)
    fsops.make_directory(os.path.dirname(path))
    fsops.replace_file(path, "\n".join([*lines, ""]).encode())


def is_oid(text: str) -> bool:
    """Whether a text is the id of a git object."""
    return len(text) in _OID_LENGTHS and not set(text) - set("0123456789abcdef")


def _path(workspace: Workspace, remote: RemoteStore) -> str:
    place = f"{remote.url}\0{workspace.settings.ref_prefix}".encode("utf-8", "surrogateescape")
    return os.path.join(workspace.store_root, _FOLDER, hashlib.sha256(place).hexdigest())


def _is_shallow(workspace: Workspace) -> bool:
    """Whether the history here ends early, so that it says nothing about what comes before."""
    return os.path.exists(os.path.join(workspace.paths.common_dir, "shallow"))
