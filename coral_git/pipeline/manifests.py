"""Manifests in git's object database: the previous version of a path, and what a blob names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from coral_git.errors import CoralError, ObjectMissingError
from coral_git.manifest.model import Manifest, object_ids
from coral_git.manifest.parse import is_manifest_start, parse
from coral_git.pipeline.decode import expanded
from coral_git.pipeline.workspace import Workspace
from coral_git.types import ObjectId


class StoredManifest(NamedTuple):
    """A manifest as git has it.

    Attributes:
        oid: the id of the blob, in hexadecimal.
        text: its bytes.
        manifest: what they say; long lists may be in table objects.
    """

    oid: str
    text: bytes
    manifest: Manifest


def read_manifest(workspace: Workspace, revision: bytes) -> StoredManifest | None:
    """The manifest that a git revision such as ``b":path"`` names; None where there is no valid one."""
    found = workspace.objects.blob(revision, max_size=workspace.limits.manifest_bytes)
    if found is None:
        return None
    oid, text = found
    if not is_manifest_start(text):
        return None
    try:
        return StoredManifest(oid, text, parse(text, workspace.limits))
    except CoralError:
        return None


def previous_manifests(workspace: Workspace, path: bytes) -> Iterator[StoredManifest]:
    """The manifests of a path in the index and in HEAD, as far as there are any, without repetition."""
    seen = set()
    for prefix in (b":", b"HEAD:"):
        stored = read_manifest(workspace, prefix + path)
        if stored is not None and stored.oid not in seen:
            seen.add(stored.oid)
            yield stored


def expanded_or_none(workspace: Workspace, manifest: Manifest) -> Manifest | None:
    """The expanded manifest, or None when one of its table objects is not here."""
    try:
        return expanded(manifest, workspace.store)
    except CoralError:
        return None


def named_objects(workspace: Workspace, manifest: Manifest) -> tuple[ObjectId, ...]:
    """Every object of a file: its tables, and what these name as far as they are here.

    Raises:
        CoralError: a table is damaged.
    """
    try:
        whole: Manifest | None = expanded(manifest, workspace.store)
    except ObjectMissingError:
        whole = None
    return objects_of(manifest, whole)


def objects_of(manifest: Manifest, whole: Manifest | None) -> tuple[ObjectId, ...]:
    """Every object of a manifest and of its expanded form, each once, the tables first."""
    tables = tuple(table.object_id for table in manifest.tables)
    named = object_ids(manifest if whole is None else whole)
    return tuple(dict.fromkeys(tables + named))
