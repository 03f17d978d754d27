"""Files written straight into the work tree, and git's index told about it.

Used when git has finished and waits for the filter, and by ``git coral checkout``. A file is replaced only
while it still holds what was expected, its manifest; an interrupted run leaves valid manifests.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from coral_git import fsops
from coral_git.errors import CoralError, ObjectMissingError, from_os_error
from coral_git.git.index import patch_index
from coral_git.git.objects import blob_oid
from coral_git.git.worktree import Expected, WorkTreeFile, require_space
from coral_git.manifest.model import Manifest, object_ids
from coral_git.pipeline import statcache
from coral_git.pipeline.closure import find_incomplete
from coral_git.pipeline.decode import expanded, write_file
from coral_git.pipeline.manifests import expanded_or_none, objects_of
from coral_git.pipeline.messages import missing_message, warn
from coral_git.pipeline.missing import bring_objects
from coral_git.pipeline.parallel import Workers
from coral_git.pipeline.verify import verify_digest
from coral_git.pipeline.workspace import Workspace
from coral_git.types import ObjectId

Progress = Callable[[str, int, int], None]
"""Told the path in hand, the bytes written so far and the bytes in all."""


class Pending(NamedTuple):
    """A file that still has to be written.

    Attributes:
        path: the path as git names it.
        text: its manifest as git has it.
        manifest: what the text says.
        expected: what the work-tree file must hold to be replaced; its manifest by default.
        executable: whether the file is to be executable; None keeps what the work tree has.
    """

    path: bytes
    text: bytes
    manifest: Manifest
    expected: Expected | None = None
    executable: bool | None = None


class Outcome:
    """What became of the pending files, by path.

    Attributes:
        written: files that are complete now.
        changed: files that somebody else has written to, before or just after they were replaced; git is told
            nothing of them.
        failed: files that stay manifests, with the reason.
    """

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.changed: list[bytes] = []
        self.failed: dict[bytes, CoralError] = {}


def write_pending(
    workspace: Workspace, files: Iterable[Pending], progress: Progress | None = None
) -> Outcome:
    """Write files into the work tree, the biggest first, fetching what is missing before.

    Nothing is raised for one bad file: it stays a manifest and is named in the outcome.

    Raises:
        KeyboardInterrupt: the user pressed Ctrl-C; files not yet written stay manifests.
    """
    outcome = Outcome()
    order = [file for file in files if _is_readable(workspace, file, outcome)]
    order.sort(key=lambda file: -file.manifest.size)
    missing = _fetch(workspace, order)
    settled: dict[bytes, tuple[bytes, os.stat_result]] = {}
    total = sum(file.manifest.size for file in order)
    done = 0
    try:
        with Workers(workspace.settings.threads) as workers:
            for file in order:
                if progress is not None:
                    progress(os.fsdecode(file.path), done, total)
                _write_one(workspace, file, missing, workers, outcome, settled)
                done += file.manifest.size
    finally:
        tell_git(workspace, settled)
    return outcome


def _is_readable(workspace: Workspace, file: Pending, outcome: Outcome) -> bool:
    """Whether what a manifest names can be told; a damaged table concerns that file only."""
    try:
        expanded(file.manifest, workspace.store)
    except ObjectMissingError:
        return True  # it may come from a remote store
    except CoralError as error:
        outcome.failed[file.path] = error
        return False
    except OSError as error:
        outcome.failed[file.path] = from_os_error(error, "read its table")
        return False
    return True


def _fetch(workspace: Workspace, files: Sequence[Pending]) -> set[ObjectId]:
    """Bring what is missing, and say what cannot be had; an error is told and keeps no other file waiting."""
    try:
        return set(bring_objects(workspace, [(file.path, file.manifest) for file in files]))
    except CoralError as error:
        warn(error.message, error.hint)
    except OSError as error:
        warn(from_os_error(error, "fetch what is missing").message)
    named = (objects_of(file.manifest, expanded_or_none(workspace, file.manifest)) for file in files)
    return set(find_incomplete(workspace.store, (one for objects in named for one in objects)))


def _write_one(
    workspace: Workspace,
    file: Pending,
    missing: set[ObjectId],
    workers: Workers,
    outcome: Outcome,
    settled: dict[bytes, tuple[bytes, os.stat_result]],
) -> None:
    try:
        status = _write(workspace, file, missing, workers)
    except CoralError as error:
        outcome.failed[file.path] = error
        return
    except OSError as error:
        outcome.failed[file.path] = from_os_error(error, "write it")
        return
    if status is None:
        outcome.changed.append(file.path)
        return
    outcome.written.append(file.path)
    settled[file.path] = blob_oid(file.text, workspace.paths.object_format), status
    statcache.remember(workspace.store.cache, file.path, status, file.text)


def _write(
    workspace: Workspace, file: Pending, missing: set[ObjectId], workers: Workers
) -> os.stat_result | None:
    """Write one file; None when the work tree has something else there now."""
    root = workspace.paths.work_tree
    assert root is not None
    manifest = expanded(file.manifest, workspace.store)
    lacking = [one for one in object_ids(manifest) if one in missing] if missing else []
    if lacking:
        raise missing_message(file.path, manifest, lacking)
    require_space(root, manifest.size)
    git_dir, index = workspace.paths.git_dir, workspace.paths.index_path
    with WorkTreeFile(root, file.path, git_dir=git_dir, executable=file.executable, index=index) as target:
        fsops.reserve(target.fd, manifest.size, os.fsdecode(file.path))
        write_file(manifest, workspace.store, target.fd, workers, os.fsdecode(file.path))
        if workspace.settings.verify_full:
            verify_digest(target.fd, manifest)
        return target.commit(file.text if file.expected is None else file.expected)


def tell_git(workspace: Workspace, settled: Mapping[bytes, tuple[bytes, os.stat_result]]) -> None:
    """Make git's index know files that we wrote.

    Args:
        workspace: the repository.
        settled: path → raw id of its blob, and the stat data of the file, old enough to be believed.
    """
    if not settled:
        return
    hash_length = 32 if workspace.paths.object_format == "sha256" else 20
    try:
        patched = patch_index(
            workspace.paths.index_path, settled, hash_length, munge=_munges(workspace, settled)
        )
        if len(patched) < len(settled):
            _let_git_look({path: item[0] for path, item in settled.items() if path not in patched}, workspace)
    except CoralError as error:
        warn(
            f"git's index could not be told of {len(settled)} files, which 'git status' may show as modified:"
            f" {error.message}",
            "git coral checkout -- PATH",
        )


def _munges(workspace: Workspace, settled: Mapping[bytes, tuple[bytes, os.stat_result]]) -> bool:
    """How git writes sizes that are a multiple of 4 GiB; it is asked only when there is one."""
    if all(status.st_size & 0xFFFF_FFFF for _, status in settled.values()):
        return True
    return workspace.git.version >= (2, 43)


def _let_git_look(blobs: Mapping[bytes, bytes], workspace: Workspace) -> None:
    """Where the index could not be patched (it is split, or locked), have git compare the files anew.

    The stat data in the index are those of the manifest, and git takes a file of another size for modified
    without a look at it. An entry that is written anew has none.
    """
    listed = workspace.git.run("ls-files", "-s", "-z", "--full-name", "--", ":/")
    lines = []
    for line in listed.split(b"\0"):
        meta, _, path = line.partition(b"\t")
        fields = meta.split(b" ")
        if path in blobs and fields[1:] == [blobs[path].hex().encode(), b"0"]:
            lines.append(line + b"\0")
    if lines:
        workspace.git.run("update-index", "-z", "--index-info", input=b"".join(lines))
