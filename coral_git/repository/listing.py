"""The weight files of the index or of a commit."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from coral_git.errors import CoralError, UsageError
from coral_git.git.command import Git
from coral_git.git.revisions import TreeEntry
from coral_git.manifest.model import Manifest
from coral_git.pipeline.closure import find_incomplete
from coral_git.pipeline.manifests import StoredManifest, named_objects
from coral_git.pipeline.workspace import Workspace
from coral_git.repository.unfinished import indexed_files, is_unfinished, manifests_among, user_git


@dataclass(frozen=True, slots=True)
class ListedFile:
    """A weight file.

    Attributes:
        path: the path from the root of the repository.
        manifest: what git has for it.
        missing: how many objects of it are not in the local store.
        state: ``"ok"``, ``"unmerged"``, or, for files of the index, what the work tree has: ``"unfinished"``
            (still the manifest), ``"absent"`` (nothing). ``"missing"``: not ``ok``, and objects are missing.
    """

    path: bytes
    manifest: Manifest
    missing: int
    state: str


def list_weights(
    workspace: Workspace, revision: str | None = None, pathspecs: Sequence[str] = ()
) -> list[ListedFile]:
    """The weight files of the index, or of a commit or tree.

    Raises:
        UsageError: there is no such revision, or a pathspec matches nothing in the index.
    """
    if revision is not None:
        entries = tree_entries(workspace, revision, pathspecs)
        return [_listed(workspace, entry, stored) for entry, stored in manifests_among(workspace, entries)]
    found = indexed_files(workspace, pathspecs)
    files = [_listed(workspace, entry, stored, True) for entry, stored in found.manifests]
    files += [_listed(workspace, entry, stored) for entry, stored in found.unmerged]
    return sorted(files, key=lambda file: file.path)


def missing_objects(workspace: Workspace, manifest: Manifest) -> int:
    """How many objects of a file the local store cannot give back; a table that cannot be read is one."""
    try:
        named = named_objects(workspace, manifest)
    except CoralError:
        return 1
    return len(find_incomplete(workspace.store, named))


def tree_entries(workspace: Workspace, revision: str, pathspecs: Sequence[str] = ()) -> list[TreeEntry]:
    """The files of a commit or tree that pathspecs match, all of them without any.

    Raises:
        UsageError: there is no such revision.
    """
    git = user_git(workspace)
    tree = git.run(
        "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{tree}}", check=False
    )
    if not tree:
        raise UsageError(f"'{revision}' is no revision", hint="see 'git log --oneline --all'")
    selected = pathspecs or (":/",)
    output = git.run(
        "diff-tree", "-r", "-z", "--no-renames", _empty_tree(git), tree.decode().strip(), "--", *selected
    )
    fields = output.split(b"\0")
    entries = []
    for meta, path in zip(fields[::2], fields[1::2], strict=False):
        _, mode, _, oid, _ = meta.lstrip(b":").split(b" ")
        entries.append(TreeEntry(mode.decode(), oid.decode(), path))
    return entries


def split_revision(workspace: Workspace, words: Sequence[str]) -> tuple[str | None, tuple[str, ...]]:
    """Tell a revision at the beginning of the arguments from paths.

    The first word is a revision when git knows it as one and no file has its name.
    """
    if not words:
        return None, ()
    name = os.path.join(workspace.paths.work_tree or "", workspace.paths.prefix, words[0])
    if os.path.lexists(name) or not user_git(workspace).succeeds(
        "rev-parse", "--verify", "--quiet", "--end-of-options", f"{words[0]}^{{tree}}"
    ):
        return None, tuple(words)
    return words[0], tuple(words[1:])


def _empty_tree(git: Git) -> str:
    """The id of the tree without entries, which git knows although nobody has written it."""
    return git.run("hash-object", "-t", "tree", "--stdin").decode().strip()


def _listed(
    workspace: Workspace, entry: TreeEntry, stored: StoredManifest, in_work_tree: bool = False
) -> ListedFile:
    missing = missing_objects(workspace, stored.manifest)
    state = "unmerged" if entry.stage else "ok"
    if in_work_tree and workspace.paths.work_tree is not None:
        if is_unfinished(workspace, entry.path, stored.text):
            state = "missing" if missing else "unfinished"
        elif not os.path.lexists(os.path.join(os.fsencode(workspace.paths.work_tree), entry.path)):
            state = "absent"
    elif missing and state == "ok":
        state = "missing"
    return ListedFile(entry.path, stored.manifest, missing, state)
