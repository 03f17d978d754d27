"""What merging branches would do to the weights, without doing it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from coral_git.git.command import Git
from coral_git.git.revisions import resolve_commit
from coral_git.manifest.entries import Manifest
from coral_git.merge.decide import Decision
from coral_git.merge.merge_file import FileMerge, plan_file
from coral_git.merge.settings import Wanted, choices_with, read_choices
from coral_git.merge.three_way import Outcome
from coral_git.pipeline.manifests import read_manifest
from coral_git.pipeline.workspace import Workspace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from coral_git.merge.compare import Distance


class Versions(NamedTuple):
    """A weight file in the commits that are merged.

    Attributes:
        path: the file, from the root.
        base: its manifest in the common ancestor; None where it is not there.
        sides: those in the commits, ours first; None where it is not there.
    """

    path: bytes
    base: Manifest | None
    sides: tuple[Manifest | None, ...]

    @property
    def changed(self) -> list[Manifest]:
        """The versions that differ from the common ancestor."""
        own = None if self.base is None else self.base.sha256
        return [side for side in self.sides if side is not None and side.sha256 != own]


class Preview(NamedTuple):
    """What would become of a file.

    Attributes:
        path: the file, from the root.
        strategy: the default strategy that would be in force.
        result: the plan, or why there would be a conflict.
        distances: what the sides did to the tensors that changed, by name.
    """

    path: bytes
    strategy: str
    result: FileMerge
    distances: dict[str, Distance]


def common_ancestor(git: Git, commits: Sequence[str]) -> str:
    """The best common ancestor of commits; empty where there is none."""
    return git.run("merge-base", "--octopus", *commits, check=False).decode().strip()


def changed_weights(workspace: Workspace, base: str, commits: Sequence[str]) -> Iterator[Versions]:
    """Every weight file that at least one commit has otherwise than the common ancestor.

    Args:
        workspace: the repository.
        base: the common ancestor; empty where there is none.
        commits: the ids of the commits that are merged, ours first.
    """
    start = base or workspace.git.run("hash-object", "-t", "tree", "--stdin").decode().strip()
    paths: dict[bytes, None] = {}
    for commit in commits:
        names = workspace.git.run("diff-tree", "-r", "-z", "--name-only", "--no-renames", start, commit)
        paths.update(dict.fromkeys(filter(None, names.split(b"\0"))))
    for path in paths:
        found = [_manifest(workspace, revision, path) for revision in (base, *commits)]
        if any(found):
            yield Versions(path, found[0], tuple(found[1:]))


def preview(workspace: Workspace, branches: Sequence[str], wanted: Wanted) -> Iterator[Preview]:
    """What merging branches into HEAD would do to each weight file that several of them changed.

    Args:
        workspace: the repository.
        branches: any revisions.
        wanted: what the user asks for.

    Raises:
        UsageError: there is no such commit, or what is asked cannot be understood.
        ObjectMissingError: objects are missing and cannot be fetched.
    """
    commits = [resolve_commit(workspace.git, one) for one in ("HEAD", *branches)]
    base = common_ancestor(workspace.git, commits)
    for versions in changed_weights(workspace, base, commits):
        if len(versions.changed) < 2 or None in versions.sides:
            continue
        sides = [side for side in versions.sides if side is not None]
        choices = choices_with(workspace, read_choices(workspace, versions.path), wanted)
        result = plan_file(workspace, versions.path, versions.base, sides, choices)
        yield Preview(versions.path, str(choices.default), result, _distances(workspace, result))


def _distances(workspace: Workspace, result: FileMerge) -> dict[str, Distance]:
    if result.plan is None:
        return {}
    from coral_git.merge.compare import measure  # imports numpy

    manifests = (result.plan.base, *result.plan.sides)
    return {one.change.name: measure(one.change, manifests, workspace.store) for one in changed(result)}


def changed(result: FileMerge) -> list[Decision]:
    """The tensors that somebody changed."""
    decisions = () if result.plan is None else result.plan.decisions
    return [one for one in decisions if one.outcome is not Outcome.UNCHANGED]


def _manifest(workspace: Workspace, revision: str, path: bytes) -> Manifest | None:
    found = read_manifest(workspace, revision.encode() + b":" + path) if revision else None
    return None if found is None else found.manifest
