"""What a commit would change in the weight files, and what is not as it should be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from coral_git.git.revisions import TreeEntry, has_commits
from coral_git.history.changes import Change, compare
from coral_git.manifest.model import Manifest
from coral_git.pipeline.closure import find_incomplete
from coral_git.pipeline.manifests import StoredManifest, expanded_or_none, objects_of, read_manifest
from coral_git.pipeline.workspace import Workspace
from coral_git.repository.unfinished import indexed_files, is_unfinished, user_git


@dataclass(frozen=True, slots=True)
class FileStatus:
    """The status of a weight file.

    Attributes:
        path: the path from the root.
        tensors: how many tensors it has; None for a file without known format.
        change: against HEAD; None while a table object is missing.
        raw_bytes: length of the file.
        stored_bytes: what its objects take in the local store.
        missing: how many of its objects are not in the local store.
        is_sparse: whether a sparse checkout leaves the file out; then nothing is wrong when objects miss.
        state: ``"clean"``; or how the work tree differs from the index: ``"unfinished"`` (still the
            manifest), ``"modified"``, ``"deleted"``, ``"unmerged"``.
    """

    path: bytes
    tensors: int | None
    change: Change | None
    raw_bytes: int
    stored_bytes: int
    missing: int
    is_sparse: bool
    state: str

    @property
    def is_problem(self) -> bool:
        """Whether the file is not, or cannot be, in the work tree."""
        return self.state == "unfinished" or (bool(self.missing) and not self.is_sparse)


def read_status(workspace: Workspace, pathspecs: Sequence[str] = ()) -> list[FileStatus]:
    """The status of the weight files of the index that pathspecs match, all of them without any.

    Raises:
        UsageError: a pathspec matches nothing.
    """
    found = indexed_files(workspace, pathspecs)
    work_tree = _work_tree_states(workspace, pathspecs)
    sparse = _left_out(workspace)
    has_head = has_commits(workspace.git)
    files = []
    for entry, stored in [*found.manifests, *found.unmerged]:
        if entry.stage:
            state = "unmerged"
        elif is_unfinished(workspace, entry.path, stored.text):
            state = "unfinished"
        else:
            state = work_tree.get(entry.path, "clean")
        files.append(_file_status(workspace, entry, stored, has_head, entry.path in sparse, state))
    return sorted(files, key=lambda file: file.path)


def _file_status(
    workspace: Workspace,
    entry: TreeEntry,
    stored: StoredManifest,
    has_head: bool,
    is_sparse: bool,
    state: str,
) -> FileStatus:
    whole = expanded_or_none(workspace, stored.manifest)
    named = objects_of(stored.manifest, whole)
    missing = find_incomplete(workspace.store, named)
    places = workspace.store.locations(named)
    return FileStatus(
        path=entry.path,
        tensors=stored.manifest.tensor_count,
        change=_change(workspace, entry.path, stored, whole, has_head),
        raw_bytes=stored.manifest.size,
        stored_bytes=sum(found[0].entry_length for found in places.values() if found),
        missing=len(missing),
        is_sparse=is_sparse,
        state=state,
    )


def _change(
    workspace: Workspace, path: bytes, stored: StoredManifest, whole: Manifest | None, has_head: bool
) -> Change | None:
    head = read_manifest(workspace, b"HEAD:" + path) if has_head else None
    old = expanded_or_none(workspace, head.manifest) if head else None
    if whole is None or (head is not None and old is None):
        return None
    return compare(whole, old)


def _work_tree_states(workspace: Workspace, pathspecs: Sequence[str]) -> dict[bytes, str]:
    """The paths whose work-tree file differs from the index, as git sees it."""
    if workspace.paths.work_tree is None:
        return {}
    output = user_git(workspace).run(
        "--no-optional-locks", "status", "--porcelain=v1", "-z", "--no-renames", "--untracked-files=no",
        "--ignore-submodules=all", "--", *(pathspecs or (":/",)),
    )  # fmt: skip
    words = {b"M": "modified", b"T": "modified", b"D": "deleted"}
    lines = (line for line in output.split(b"\0") if line)
    return {line[3:]: words[line[1:2]] for line in lines if line[1:2] in words}


def _left_out(workspace: Workspace) -> set[bytes]:
    """The paths that a sparse checkout leaves out of the work tree."""
    if not workspace.config.get_bool("core.sparseCheckout"):
        return set()
    output = workspace.git.run("ls-files", "-t", "-z", "--full-name")
    return {line[2:] for line in output.split(b"\0") if line.startswith((b"S ", b"s "))}
