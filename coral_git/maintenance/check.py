"""The check for continuous integration: are the weights in commits manifests, and are their objects there?

A merge on a hosting site runs no filter, no hook and no merge driver; a commit made where coral-git is not
installed has raw weights in it. This finds both.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from coral_git.errors import CoralError, FormatVersionError
from coral_git.git.revisions import TreeEntry, has_commits, list_commits, resolve_commit
from coral_git.maintenance.commit_attributes import open_attributes
from coral_git.manifest.escape import printable
from coral_git.manifest.model import Manifest, object_ids
from coral_git.manifest.parse import claims_manifest, parse
from coral_git.pipeline.decode import expanded
from coral_git.pipeline.fetch import fetch_objects
from coral_git.pipeline.inventory import Inventory
from coral_git.pipeline.messages import owner_of
from coral_git.pipeline.stores import git_remotes, open_store, stores_for_push
from coral_git.pipeline.workspace import Workspace
from coral_git.remotes.base import RemoteStore
from coral_git.types import ObjectId

_NAMED = 5


@dataclass(frozen=True, slots=True)
class Complaint:
    """Something that is wrong with a file of a commit.

    Attributes:
        kind: ``raw`` (weights in git itself), ``manifest`` (a broken one), ``version`` (a newer one), or
            ``missing`` (objects).
        commit: the first commit of the range that has the file like that.
        path: the path of the file.
        message: what is wrong.
        parts: tensors and other parts that are affected, for ``missing``.
        objects: the objects, for ``missing``.
    """

    kind: str
    commit: str
    path: bytes
    message: str
    parts: tuple[str, ...] = ()
    objects: tuple[ObjectId, ...] = ()

    def __str__(self) -> str:
        return f"{self.commit[:12]} {printable(os.fsdecode(self.path))}: {printable(self.message)}"

    def as_json(self) -> dict[str, object]:
        """The complaint for programs."""
        return {
            "kind": self.kind,
            "commit": self.commit,
            "file": os.fsdecode(self.path),
            "message": self.message,
            "parts": list(self.parts),
            "objects": [object_id.hex() for object_id in self.objects],
        }


@dataclass(slots=True)
class CheckReport:
    """What was checked and found.

    Attributes:
        commits: commits that were checked.
        files: different versions of weight files in them.
        objects: different objects that these name.
        complaints: what is wrong.
    """

    commits: int = 0
    files: int = 0
    objects: int = 0
    complaints: list[Complaint] = field(default_factory=list)


def check_commits(
    workspace: Workspace, ranges: Sequence[str] = (), *, remote: str = "", complete: bool = False
) -> CheckReport:
    """Check the weight files of some commits.

    Args:
        workspace: the repository; bare ones and clones without any object do too.
        ranges: ``main..topic`` and the like, ``^main``, ``--all``, or single commits; by default HEAD.
        remote: a git remote, an added store, a URL or a directory that may have the objects.
        complete: whether that remote must have every object, even if it is here.

    Raises:
        UsageError: a range or the remote cannot be understood.
        RemoteError: the remote cannot be asked.
    """
    commits = _commits(workspace, ranges)
    places = [Inventory(workspace, store) for store in _stores(workspace, remote)] if remote else []
    run = _Run(workspace, places, complete)
    with open_attributes(workspace) as attributes:
        for commit in commits:
            for entry in attributes.tracked_files(commit):
                run.check_file(commit, entry)
    run.report.commits = len(commits)
    return run.report


def _commits(workspace: Workspace, ranges: Sequence[str]) -> list[str]:
    if not ranges:
        return [resolve_commit(workspace.git, "HEAD")] if has_commits(workspace.git) else []
    if any(".." in one or one.startswith(("^", "-")) for one in ranges):
        return list_commits(workspace.git, ranges)
    return [resolve_commit(workspace.git, one) for one in ranges]


def _stores(workspace: Workspace, remote: str) -> list[RemoteStore]:
    """The remote stores that are meant: where a push to a git remote would bring the objects."""
    if remote in git_remotes(workspace):
        return stores_for_push(workspace, remote)
    return [open_store(workspace, remote)]


class _Run:
    """One check of one or many commits; every version of a file is looked at once."""

    def __init__(self, workspace: Workspace, places: Sequence[Inventory], complete: bool) -> None:
        self.report = CheckReport()
        self._workspace = workspace
        self._places = places
        self._complete = complete
        self._seen: set[tuple[str, bytes]] = set()
        self._objects: dict[ObjectId, bool] = {}

    def check_file(self, commit: str, entry: TreeEntry) -> None:
        """Check one weight file of a commit."""
        if (entry.oid, entry.path) in self._seen:
            return
        self._seen.add((entry.oid, entry.path))
        self.report.files += 1
        found = self._workspace.objects.info(entry.oid.encode())
        if found is None:
            self._complain("missing", commit, entry, "git does not have this blob")
        elif found[2]:
            self._check_content(commit, entry, found[2])

    def _check_content(self, commit: str, entry: TreeEntry, size: int) -> None:
        limit = self._workspace.limits.manifest_bytes
        content = self._workspace.objects.blob(entry.oid.encode(), max_size=limit)
        if content is None or not claims_manifest(content[1]):
            self._complain("raw", commit, entry, f"{size} bytes of raw weights are in git itself")
            return
        try:
            manifest = parse(content[1], self._workspace.limits)
        except FormatVersionError as error:
            self._complain("version", commit, entry, error.message)
        except CoralError as error:
            self._complain("manifest", commit, entry, error.message)
        else:
            self._check_objects(commit, entry, manifest)

    def _check_objects(self, commit: str, entry: TreeEntry, manifest: Manifest) -> None:
        tables = [table.object_id for table in manifest.tables]
        if tables and self._places:
            fetch_objects(self._workspace, tables, [place.remote for place in self._places], quiet=True)
        try:
            whole = expanded(manifest, self._workspace.store)
        except CoralError:
            whole = manifest
        wanted = dict.fromkeys((*tables, *object_ids(whole)))
        self._look_up([one for one in wanted if one not in self._objects])
        lacking = tuple(one for one in wanted if not self._objects[one])
        self.report.objects = len(self._objects)
        if lacking:
            owners = (owner_of(whole, one) or owner_of(manifest, one) or "object" for one in lacking)
            parts = tuple(dict.fromkeys(owners))
            self.report.complaints.append(
                Complaint("missing", commit, entry.path, self._describe(lacking, parts), parts, lacking)
            )

    def _look_up(self, wanted: Collection[ObjectId]) -> None:
        """Find out which objects are where they must be."""
        remote = {one for one in wanted if any(one in place for place in self._places)}
        if self._complete and self._places:
            self._objects.update((one, one in remote) for one in wanted)
            return
        absent = set(self._workspace.store.find_missing(one for one in wanted if one not in remote))
        self._objects.update((one, one not in absent) for one in wanted)

    def _describe(self, lacking: Sequence[ObjectId], parts: Sequence[str]) -> str:
        names = " and ".join(place.remote.name for place in self._places)
        where = "here" if not names else f"on {names}" if self._complete else f"here or on {names}"
        shown = ", ".join(parts[:_NAMED])
        more = f" and {len(parts) - _NAMED} more" if len(parts) > _NAMED else ""
        verb = "1 object is" if len(lacking) == 1 else f"{len(lacking)} objects are"
        return f"{verb} not {where}: {shown}{more}"

    def _complain(self, kind: str, commit: str, entry: TreeEntry, message: str) -> None:
        self.report.complaints.append(Complaint(kind, commit, entry.path, message))
