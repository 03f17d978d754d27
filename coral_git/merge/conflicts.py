"""The versions of a weight file in conflict, wherever they can still be found.

Usually git has them in its index. Where a git without the merge driver merged the manifests line by line,
they are rebuilt from its conflict markers, or taken from the parents of the merge. A manifest names the hash
of its own text, so what was rebuilt wrongly is not taken for a version.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

from coral_git.errors import CoralError, InvalidManifestError
from coral_git.git.objects import blob_oid
from coral_git.git.revisions import TreeEntry
from coral_git.manifest.damage import has_conflict_markers, restore_hint
from coral_git.manifest.entries import Manifest
from coral_git.manifest.parse import claims_manifest, parse
from coral_git.pipeline.messages import show_path
from coral_git.pipeline.workspace import Workspace

_REGULAR = "100644"
_COMMON, _OURS, _BASE, _THEIRS = b">>>>>>>", b"<<<<<<<", b"|||||||", b"======="


class Version(NamedTuple):
    """One version of a file.

    Attributes:
        oid: the id of its blob, in hexadecimal.
        mode: e.g. ``"100644"``.
        text: the blob; empty where it is too long for a manifest.
        manifest: what the text says; None where it is no valid manifest.
    """

    oid: str
    mode: str
    text: bytes
    manifest: Manifest | None


class Conflict(NamedTuple):
    """A file of which two versions are to become one.

    Attributes:
        path: the file, relative to the root of the work tree.
        base: the common ancestor; None where there is none.
        ours: our version; None where we deleted it.
        theirs: their version; None where they deleted it.
        is_unmerged: whether git's index has it as a conflict.
    """

    path: bytes
    base: Version | None
    ours: Version | None
    theirs: Version | None
    is_unmerged: bool

    @property
    def stages(self) -> tuple[str, str, str]:
        """The ids of base, ours and theirs; empty where there is none."""
        base, ours, theirs = (one.oid if one else "" for one in (self.base, self.ours, self.theirs))
        return base, ours, theirs

    @property
    def versions(self) -> list[Version]:
        """The versions that there are."""
        return [one for one in (self.base, self.ours, self.theirs) if one is not None]

    @property
    def sides(self) -> list[Manifest]:
        """The manifests of ours and theirs; fewer than two where one is deleted or not valid."""
        return [one.manifest for one in (self.ours, self.theirs) if one is not None and one.manifest]

    @property
    def mode(self) -> str:
        """The mode of the file: that of ours, where we have it."""
        return self.versions[-1].mode if self.ours is None else self.ours.mode

    @property
    def obstacle(self) -> str:
        """Why the versions cannot be merged tensor by tensor; empty where they can."""
        for name, version in (("we", self.ours), ("they", self.theirs)):
            if version is None:
                return f"{name} deleted it"
        for name, version in (("our", self.ours), ("their", self.theirs)):
            if version is not None and version.manifest is None:
                return f"{name} version is no valid manifest"
        return ""

    def taken(self, strategy: str) -> Version | None:
        """The version that ``ours``, ``theirs`` or ``base`` stands for."""
        return {"ours": self.ours, "theirs": self.theirs, "base": self.base}[strategy]


def from_index(workspace: Workspace, path: bytes, entries: Sequence[TreeEntry]) -> Conflict:
    """The versions that git's index has.

    Args:
        workspace: the repository.
        path: the file.
        entries: its unmerged entries.
    """
    stages = {entry.stage: _version(workspace, entry.oid, entry.mode) for entry in entries}
    return Conflict(path, stages.get(1), stages.get(2), stages.get(3), is_unmerged=True)


def from_text(workspace: Workspace, path: bytes, text: bytes, mode: str = _REGULAR) -> Conflict:
    """The versions behind a broken manifest.

    Args:
        workspace: the repository.
        path: the file.
        text: a manifest with conflict markers, or one in which lines of two versions are mixed.
        mode: of the file.

    Raises:
        InvalidManifestError: they cannot be told.
    """
    base = ours = theirs = None
    if has_conflict_markers(text):
        base, ours, theirs = (_rebuilt(workspace, piece, mode) for piece in split_markers(text))
    if base is not None and ours is not None and theirs is not None:
        return Conflict(path, base, ours, theirs, is_unmerged=False)
    origin = _origin(workspace, path, blob_oid(text, workspace.paths.object_format).hex())
    if ours is not None and theirs is not None:
        return Conflict(path, origin.base if origin else None, ours, theirs, is_unmerged=False)
    if origin is None:
        raise InvalidManifestError(
            f"'{show_path(path)}' is a broken manifest, and no merge was found that made it",
            hint=restore_hint(text),
        )
    return origin


def is_broken(workspace: Workspace, text: bytes) -> bool:
    """Whether a text wants to be a manifest and is none; one of a newer version is not broken."""
    if not claims_manifest(text):
        return False
    try:
        parse(text, workspace.limits)
    except InvalidManifestError:
        return True
    except CoralError:
        return False
    return False


def split_markers(text: bytes) -> tuple[bytes, bytes, bytes]:
    """Base, ours and theirs of a text with git's conflict markers; base is empty where it is not there.

    Longer markers, which git writes into a base that was a conflict itself, are lines like others.
    """
    pieces: dict[bytes, list[bytes]] = {_BASE: [], _OURS: [], _THEIRS: []}
    section, has_base = _COMMON, False
    for line in text.splitlines(keepends=True):
        mark = line[: len(_OURS)]
        if mark in (_COMMON, _OURS, _BASE, _THEIRS) and line[len(mark) : len(mark) + 1] in (b" ", b"\n", b""):
            section = mark
            has_base = has_base or mark == _BASE
            continue
        for name in pieces if section == _COMMON else (section,):
            pieces[name].append(line)
    base, ours, theirs = (b"".join(lines) for lines in pieces.values())
    return base if has_base else b"", ours, theirs


def _rebuilt(workspace: Workspace, text: bytes, mode: str) -> Version | None:
    manifest = _parsed(workspace, text)
    if manifest is None:
        return None
    return Version(blob_oid(text, workspace.paths.object_format).hex(), mode, text, manifest)


def _version(workspace: Workspace, oid: str, mode: str) -> Version:
    found = workspace.objects.blob(oid.encode(), max_size=workspace.limits.manifest_bytes)
    text = found[1] if found is not None else b""
    manifest = _parsed(workspace, text) if mode.startswith("100") else None
    return Version(oid, mode, text, manifest)


def _parsed(workspace: Workspace, text: bytes) -> Manifest | None:
    try:
        return parse(text, workspace.limits)
    except CoralError:
        return None


def _origin(workspace: Workspace, path: bytes, oid: str) -> Conflict | None:
    """The versions of the merge that made a blob: the one that is going on, or one in the history of HEAD."""
    parents = _merging(workspace, path, oid) or _parents_of_origin(workspace, path, oid)
    if len(parents) != 2:
        return None
    answer = workspace.git.run("merge-base", *parents, check=False).decode().split()
    base = _version_in(workspace, answer[0], path) if answer else None
    ours, theirs = (_version_in(workspace, parent, path) for parent in parents)
    if ours is None and theirs is None:
        return None
    return Conflict(path, base if base and base.manifest else None, ours, theirs, is_unmerged=False)


def _merging(workspace: Workspace, path: bytes, oid: str) -> list[str]:
    """Both commits of a merge that is going on, unless HEAD had the blob before it."""
    answer = workspace.git.run("rev-parse", "--verify", "--quiet", "MERGE_HEAD", check=False)
    if not answer or _blob_in(workspace, "HEAD", path) == oid:
        return []
    return ["HEAD", answer.decode().strip()]


def _parents_of_origin(workspace: Workspace, path: bytes, oid: str) -> list[str]:
    """The parents of the newest commit that has a blob at a path none of them has it at."""
    if not workspace.git.succeeds("rev-parse", "--verify", "--quiet", "HEAD"):
        return []
    with workspace.git.stream("rev-list", "HEAD", "--", f":(top,literal){os.fsdecode(path)}") as commits:
        for line in commits:
            commit = line.decode().strip()
            if _blob_in(workspace, commit, path) != oid:
                continue
            parents = workspace.git.run("rev-parse", f"{commit}^@").decode().split()
            if all(_blob_in(workspace, parent, path) != oid for parent in parents):
                return parents
    return []


def _version_in(workspace: Workspace, commit: str, path: bytes) -> Version | None:
    oid = _blob_in(workspace, commit, path)
    return _version(workspace, oid, _REGULAR) if oid else None


def _blob_in(workspace: Workspace, commit: str, path: bytes) -> str:
    """The id of a file of a commit; empty where it is not there."""
    found = workspace.objects.info(commit.encode() + b":" + path)
    return found[0] if found is not None else ""
