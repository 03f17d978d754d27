"""Who last changed the tensors of a file, and by how much."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple

from coral_git.diff.compare import Versions, Wanted, compare, needed_objects
from coral_git.diff.model import Figures
from coral_git.diff.version import StoredVersion
from coral_git.errors import UsageError
from coral_git.git.revisions import resolve_commit
from coral_git.history.commits import Commit, one_commit
from coral_git.history.origins import Origin, find_origins
from coral_git.manifest.entries import Manifest, TensorEntry
from coral_git.pipeline.fetch import fetch_objects
from coral_git.pipeline.parallel import Workers
from coral_git.pipeline.workspace import Workspace
from coral_git.repository.spec import split_spec, stored_manifest
from coral_git.types import FileDigest


class Blame(NamedTuple):
    """What is known about a tensor.

    Attributes:
        origin: where it comes from.
        commit: the commit that made it what it is.
        figures: of its change there; None where it was new, or nothing was measured.
    """

    origin: Origin
    commit: Commit
    figures: Figures | None


def blame(
    workspace: Workspace, revision: str, path: str, is_wanted: Callable[[str], bool], *, with_figures: bool
) -> list[Blame]:
    """The origin of each tensor of a file, in file order.

    Args:
        workspace: the repository.
        revision: any commit.
        path: the file, from where the user stands.
        is_wanted: which names are asked about.
        with_figures: whether changes are measured, for which tensors are read.

    Raises:
        UsageError: there is no such file of weights, or it has no tensors.
    """
    commit = resolve_commit(workspace.git, revision)
    spec = f"{commit}:./{path}"
    manifest = stored_manifest(workspace, spec)
    if manifest.tensor_count is None:
        raise UsageError(f"no tensors are known in '{path}'")
    tensors = [tensor for tensor in manifest.tensors if is_wanted(tensor.name)]
    origins = find_origins(workspace, commit, split_spec(workspace, spec)[1], tensors)
    figures = _measure(workspace, origins) if with_figures else {}
    commits = {one: one_commit(workspace.git, one) for one in dict.fromkeys(one.commit for one in origins)}
    return [Blame(one, commits[one.commit], figures.get(one.tensor.name)) for one in origins]


def _measure(workspace: Workspace, origins: list[Origin]) -> dict[str, Figures]:
    """The figures of tensors that had another version before."""
    known = [one for one in origins if one.old is not None]
    old = _file_of([one.old._replace(name=one.tensor.name) for one in known if one.old is not None])
    new = _file_of([one.tensor for one in known])
    path = os.fsencode("")
    store = workspace.store
    versions = Versions(path, path, StoredVersion(old, store), StoredVersion(new, store))
    wanted = Wanted()
    missing = store.find_missing(needed_objects(versions, wanted))
    if missing:
        fetch_objects(workspace, missing)
    with Workers(workspace.settings.threads) as workers:
        found = compare(versions, wanted, workers, store)
    return {one.name: one.figures for one in found.tensors if one.figures is not None}


def _file_of(tensors: list[TensorEntry]) -> Manifest:
    """A file that would have just these tensors."""
    size = sum(tensor.nbytes for tensor in tensors)
    return Manifest("", size, FileDigest(bytes(32)), tensor_count=len(tensors), tensors=tuple(tensors))
