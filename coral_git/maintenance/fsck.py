"""Checking everything: packs, indexes, manifests, and that every file comes back with its SHA-256."""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import replace

from coral_git.errors import CoralError, FormatVersionError
from coral_git.maintenance.closure import close
from coral_git.maintenance.findings import Finding, FsckReport, Use, uses_of
from coral_git.maintenance.reachability import every_blob
from coral_git.maintenance.survey import Survey, take_survey
from coral_git.maintenance.whereabouts import find_blobs, indexed_blobs
from coral_git.pipeline.decode import expanded
from coral_git.pipeline.history import ManifestBlob, manifest_blobs, read_blob
from coral_git.pipeline.inventory import Inventory
from coral_git.pipeline.parallel import Workers
from coral_git.pipeline.stores import remote_stores
from coral_git.pipeline.verify import verify_manifest
from coral_git.pipeline.workspace import Workspace
from coral_git.store.location import PackInfo
from coral_git.store.verify import Problem
from coral_git.types import ObjectId

Progress = Callable[[str, int, int], None]
"""Told what is looked at, how much is done and how much there is."""


def check_store(workspace: Workspace, *, quick: bool = False, progress: Progress | None = None) -> FsckReport:
    """Check the store of a repository, and every manifest in git's object database.

    Nothing is changed, except that packs come back from the trash when a manifest needs them, and that a
    missing index is made from its pack.

    Args:
        workspace: the repository.
        quick: decode no object and restore no file; digests and checksums are compared all the same.
        progress: is told how far it is.

    Raises:
        GitError: git failed.
    """
    run = _Run(workspace, quick, progress or (lambda *_: None))
    run.check_packs()
    run.check_manifests()
    run.check_objects()
    if not quick:
        run.restore_files()
    run.name_uses()
    return run.report


class _Run:
    """One run of fsck."""

    def __init__(self, workspace: Workspace, quick: bool, progress: Progress) -> None:
        self.report = FsckReport()
        self._workspace = workspace
        self._store = workspace.store
        self._quick = quick
        self._progress = progress
        self._manifests: list[ManifestBlob] = []
        self._wrong: dict[ObjectId, str] = {}
        self._blobs: list[tuple[Finding, str]] = []

    def check_packs(self) -> None:
        """Every pack and its index."""
        infos = self._store.packs()
        total, done = sum(info.size for info in infos), 0
        for info in infos:
            self._progress(info.id.hex(), done, total)
            done += info.size
            self._remake_missing_index(info)
            for problem in self._store.verify(info.id, decode=not self._quick):
                self._note(problem)
        self.report.packs = len(infos)

    def _remake_missing_index(self, info: PackInfo) -> None:
        """A pack without an index is what a crash may leave, and nothing is wrong with it."""
        if not os.path.exists(self._store.layout.index_path(info.id)):
            with contextlib.suppress(CoralError, OSError):
                self._store.pack_objects(info.id)

    def _note(self, problem: Problem) -> None:
        self.report.findings.append(Finding(problem.kind, problem.message, problem.path, problem.object_id))
        if problem.object_id is not None:
            self._wrong.setdefault(problem.object_id, problem.message)

    def check_manifests(self) -> None:
        """Every blob that is a manifest or claims to be one."""
        for found in manifest_blobs(self._workspace, every_blob(self._workspace)):
            self._manifests.append(found)
            if found.trouble is not None and not found.objects:
                kind = "version" if isinstance(found.trouble, FormatVersionError) else "manifest"
                self._blobs.append((Finding(kind, found.trouble.message), found.blob.oid))
        self.report.manifests = sum(bool(found.objects) for found in self._manifests)

    def check_objects(self) -> None:
        """Every object that a manifest names is here or on a remote store, and so are its bases."""
        wanted = dict.fromkeys(one for found in self._manifests for one in found.objects)
        missing = self._store.find_missing(wanted)
        survey = take_survey(self._store)
        self.report.objects = len(survey.objects())
        self._check_chains(survey, wanted)
        if not missing:
            return
        indexed = indexed_blobs(self._workspace)
        needed = {one for found in self._manifests if found.blob.oid in indexed for one in found.objects}
        held = self._held_elsewhere([one for one in missing if one not in needed])
        self.report.elsewhere = len(held)
        for object_id in missing:
            if object_id not in held:
                message = f"object '{object_id.hex()}' is not in the store"
                self.report.findings.append(Finding("missing", message, object_id=object_id))
                self._wrong.setdefault(object_id, message)

    def _check_chains(self, survey: Survey, wanted: Iterable[ObjectId]) -> None:
        """Objects whose bases do not lead to a full copy, unless decoding has found them already."""
        closure = close((), survey.packs)
        present = survey.objects()
        for object_id in wanted:
            if object_id in present and object_id not in closure.chosen and object_id not in self._wrong:
                message = f"a base of object '{object_id.hex()}' is not in the store"
                self.report.findings.append(Finding("base", message, object_id=object_id))
                self._wrong[object_id] = message

    def _held_elsewhere(self, missing: list[ObjectId]) -> set[ObjectId]:
        """Those of the missing objects that a remote store has."""
        held: set[ObjectId] = set()
        stores = iter(remote_stores(self._workspace)) if missing else iter(())
        while len(held) < len(missing):
            try:
                remote = next(stores, None)
                if remote is None:
                    break
                inventory = Inventory(self._workspace, remote)
            except CoralError as error:
                self.report.warnings.append(f"a remote store was not asked: {error.message}")
                continue
            held.update(one for one in missing if one in inventory)
        return held

    def restore_files(self) -> None:
        """Restore every file whose objects are sound."""
        done = 0
        with Workers(self._workspace.settings.threads) as workers:
            for number, found in enumerate(self._manifests):
                self._progress(found.blob.oid, number, len(self._manifests))
                if found.trouble is None and not self._is_lacking(found):
                    done += self._restore(found, workers)
        self.report.restored = done

    def _is_lacking(self, found: ManifestBlob) -> bool:
        return any(one in self._wrong for one in found.objects) or (
            bool(self.report.elsewhere) and bool(self._store.find_missing(found.objects))
        )

    def _restore(self, found: ManifestBlob, workers: Workers) -> bool:
        manifest = read_blob(self._workspace, found.blob.oid)
        if manifest is None:
            return False
        try:
            verify_manifest(expanded(manifest, self._store), self._store, workers)
        except CoralError as error:
            self._blobs.append((Finding("restore", error.message), found.blob.oid))
            return False
        return True

    def name_uses(self) -> None:
        """Say for each finding which files and tensors it affects."""
        wrong = {one.object_id for one in self.report.findings if one.object_id is not None}
        naming: dict[ObjectId, list[str]] = defaultdict(list)
        for found in self._manifests if wrong else ():
            for object_id in wrong.intersection(found.objects):
                naming[object_id].append(found.blob.oid)
        blobs = dict.fromkeys(oid for oids in naming.values() for oid in oids)
        places = find_blobs(self._workspace, [*blobs, *(oid for _, oid in self._blobs)])
        findings = []
        for finding in self.report.findings:
            if finding.object_id is not None:
                oids = [oid for oid in naming.get(finding.object_id, ()) if oid in places]
                uses = uses_of(self._workspace, finding.object_id, oids, places)
                if finding.kind == "missing" and not uses:
                    continue  # only a blob that no commit and no index has names it
                findings.append(replace(finding, uses=uses, use_count=len(oids)))
            else:
                findings.append(finding)
        for finding, oid in self._blobs:
            if oid in places:
                findings.append(replace(finding, uses=(Use(places[oid]),), use_count=1))
        self.report.findings = findings
