"""Which commit last changed each tensor of a file.

Like ``git blame``: a tensor is handed on to a parent that has the same one; where no parent has it, the
commit made it. So a tensor that came in by a merge is traced to the side that it came from. Only manifests
are read.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import NamedTuple

from coral_git.git.command import Git
from coral_git.history.changes import ManifestReader
from coral_git.manifest.entries import Manifest, TensorEntry
from coral_git.pipeline.workspace import Workspace


class Origin(NamedTuple):
    """Where a tensor comes from.

    Attributes:
        tensor: as it is in the revision that was asked about.
        commit: the id of the commit that made it what it is.
        path: where the file is in that commit.
        name: the name of the tensor there.
        old: as the parent has it; None where it has none of that name.
        parent: the id of that parent; empty where there is none.
        old_path: where the file is in that parent.
    """

    tensor: TensorEntry
    commit: str
    path: bytes
    name: str
    old: TensorEntry | None
    parent: str
    old_path: bytes


_Task = tuple[str, bytes, dict[str, TensorEntry]]
"""A commit, the path of the file in it, and the tensors to follow from there."""


class _Parent(NamedTuple):
    """A parent that has the file, and by content its tensors whose names the commit does not have."""

    oid: str
    path: bytes
    by_name: dict[str, TensorEntry]
    gone: dict[tuple[object, ...], TensorEntry]


def find_origins(
    workspace: Workspace, commit: str, path: bytes, tensors: Iterable[TensorEntry]
) -> list[Origin]:
    """The origin of each tensor, in the order given.

    Args:
        workspace: the repository.
        commit: the id of a commit that has the file.
        path: the file, from the root.
        tensors: tensors of the file there.
    """
    search = _Search(workspace)
    wanted = list(tensors)
    waiting = [(commit, path, {tensor.name: tensor for tensor in wanted})]
    while waiting:
        waiting += search.trace(*waiting.pop())
    return [search.found[tensor.name] for tensor in wanted]


class _Search:
    """One question; what is known grows in ``found``."""

    def __init__(self, workspace: Workspace) -> None:
        self._git = workspace.git
        self._reader = ManifestReader(workspace)
        self._objects = workspace.objects
        self.found: dict[str, Origin] = {}

    def trace(self, start: str, path: bytes, tensors: dict[str, TensorEntry]) -> list[_Task]:
        """Follow tensors along the commits that touch a path.

        Args:
            start: the first commit.
            path: the path in it.
            tensors: what is followed: by their names in the end, as they are in the first commit.

        Returns:
            What has to be followed elsewhere, because the file had another name before.
        """
        pending: dict[str, dict[str, TensorEntry]] = {}
        elsewhere: list[_Task] = []
        for number, (commit, parents) in enumerate(_touching(self._git, start, path)):
            here = pending.pop(commit, None) if number else tensors
            if not here:
                if not pending:
                    break
                continue
            manifest = self._manifest(commit, path)
            names = {tensor.name for tensor in manifest.tensors} if manifest else set()
            known = [found for parent in parents if (found := self._parent(parent, path, names))]
            if not known:
                renamed = self._before_rename(commit, path, names)
                known = [renamed] if renamed else []
            for goal, tensor in here.items():
                self._hand_on(goal, tensor, commit, path, known, pending, elsewhere)
        return elsewhere

    def _hand_on(
        self,
        goal: str,
        tensor: TensorEntry,
        commit: str,
        path: bytes,
        parents: list[_Parent],
        pending: dict[str, dict[str, TensorEntry]],
        elsewhere: list[_Task],
    ) -> None:
        """To a parent that has the same tensor; else the commit is its origin."""
        for parent in parents:
            same = parent.by_name.get(tensor.name)
            if same is None and tensor.objects:
                same = parent.gone.get(tensor[1:])
            if same is not None and same[1:] == tensor[1:]:
                if parent.path == path:
                    pending.setdefault(parent.oid, {})[goal] = same
                else:
                    elsewhere.append((parent.oid, parent.path, {goal: same}))
                return
        before = parents[0] if parents else None
        old = before.by_name.get(tensor.name) if before else None
        entry = tensor._replace(name=goal)
        self.found[goal] = Origin(
            entry,
            commit,
            path,
            tensor.name,
            old,
            before.oid if before else "",
            before.path if before else path,
        )

    def _manifest(self, commit: str, path: bytes) -> Manifest | None:
        found = self._objects.info(commit.encode() + b":" + path)
        return self._reader.read(found[0]) if found is not None and found[1] == "blob" else None

    def _parent(self, commit: str, path: bytes, names: set[str]) -> _Parent | None:
        manifest = self._manifest(commit, path)
        if manifest is None:
            return None
        by_name = {tensor.name: tensor for tensor in manifest.tensors}
        gone: dict[tuple[object, ...], TensorEntry] = {
            tensor[1:]: tensor for tensor in reversed(manifest.tensors) if tensor.name not in names
        }
        return _Parent(commit, path, by_name, gone)

    def _before_rename(self, commit: str, path: bytes, names: set[str]) -> _Parent | None:
        """The first parent of a commit that gave the file its name."""
        words = ("-r", "-z", "-M", "--diff-filter=R", "--name-status", "--no-commit-id", f"{commit}^", commit)
        fields = self._git.run("diff-tree", *words, check=False).split(b"\0")
        for _, old, new in zip(fields[::3], fields[1::3], fields[2::3], strict=False):
            if new == path:
                parent = self._git.run("rev-parse", f"{commit}^").decode().strip()
                return self._parent(parent, old, names)
        return None


def _touching(git: Git, start: str, path: bytes) -> Iterable[tuple[str, list[str]]]:
    """The commits that touch a path, and, for each, its parents among them.

    The first one has the file as the start has it; it is another commit where the start does not touch it.
    """
    options = ("--topo-order", "--parents", "--full-history", "--simplify-merges")
    with git.stream("--literal-pathspecs", "rev-list", *options, start, "--", os.fsdecode(path)) as output:
        for line in output:
            commit, *parents = line.decode().split()
            yield commit, parents
