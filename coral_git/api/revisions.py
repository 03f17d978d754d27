"""What a repository of weights has in its revisions: tensors, commits, tags. Nothing is checked out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase

from coral_git.api.differences import WeightsDiff, compare_revisions
from coral_git.api.versions import Commit, Version, commit_of, version_of
from coral_git.api.weights import WeightTensor
from coral_git.errors import UsageError
from coral_git.git.revisions import has_commits, resolve_commit
from coral_git.history.commits import one_commit, walk
from coral_git.history.selection import ALL_BRANCHES
from coral_git.history.tags import list_tags
from coral_git.manifest.entries import Manifest
from coral_git.manifest.escape import printable
from coral_git.pipeline.tensors import stored_tensors
from coral_git.pipeline.workspace import Workspace
from coral_git.repository.printing import bring
from coral_git.repository.spec import stored_manifest

_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    ">": lambda one, two: one > two,
    ">=": lambda one, two: one >= two,
    "<": lambda one, two: one < two,
    "<=": lambda one, two: one <= two,
    "==": lambda one, two: one == two,
    "!=": lambda one, two: one != two,
}


class Revisions:
    """The reading half of a repository; safe from several threads."""

    _workspace: Workspace
    _file: str

    def get_weight(self, name: str, commit_ref: str = "", *, file: str | None = None) -> WeightTensor:
        """A tensor of any revision, read when its values are needed; only its objects are fetched.

        Args:
            name: the tensor.
            commit_ref: any revision; the index by default.
            file: the weight file, instead of that of the repository.

        Raises:
            UsageError: there is no such revision, file or tensor.
            ObjectMissingError: an object is missing and cannot be fetched.
        """
        manifest = self._stored(f"{commit_ref}:{file or self._file}")
        entry = next((one for one in manifest.tensors if one.name == name), None)
        if entry is None:
            raise UsageError(f"there is no tensor '{printable(name)}'", hint="see Repository.list_weights")
        bring(self._workspace, entry.objects, f"tensor '{printable(name)}'")
        found = stored_tensors(manifest._replace(tensors=(entry,)), self._workspace.store)
        return WeightTensor(stored=found[0], name=name)

    def get_all_weights(self, commit_ref: str = "", *, file: str | None = None) -> dict[str, WeightTensor]:
        """Every tensor of a file of a revision, each read when its values are needed."""
        manifest = self._stored(f"{commit_ref}:{file or self._file}")
        wanted = tuple(part for one in manifest.tensors for part in one.objects)
        bring(self._workspace, wanted, f"'{printable(file or self._file)}'")
        stored = stored_tensors(manifest, self._workspace.store)
        return {one.name: WeightTensor(stored=one, name=one.name) for one in stored}

    def list_weights(self, commit_ref: str = "", *, file: str | None = None) -> list[str]:
        """The names of the tensors of a file of a revision, in file order."""
        return [one.name for one in self._stored(f"{commit_ref}:{file or self._file}").tensors]

    def get_commit(self, commit_ref: str) -> Commit:
        """A commit.

        Raises:
            UsageError: there is none.
        """
        return commit_of(one_commit(self._workspace.git, resolve_commit(self._workspace.git, commit_ref)))

    def log(self, max_commits: int | None = 10, branch: str = "HEAD") -> list[Commit]:
        """The last commits of a branch, the latest first."""
        if branch == "HEAD" and not has_commits(self._workspace.git):
            return []
        limit = () if max_commits is None else (f"--max-count={max_commits}",)
        return [commit_of(one) for one in walk(self._workspace.git, (*limit, branch))]

    def find_commits(
        self,
        *,
        metric_filter: Mapping[str, tuple[str, float]] | None = None,
        tag_filter: Sequence[str] = (),
        branch: str | None = None,
    ) -> list[Commit]:
        """Commits by what is said about them, of all branches and tags by default.

        Args:
            metric_filter: for each metric a comparison (``">"``, ``">="``, ``"<"``, ``"<="``, ``"=="`` or
                ``"!="``) and a value; all must hold.
            tag_filter: labels, or names of tags; all must be there.
            branch: only the history of this revision.

        Raises:
            UsageError: a comparison is unknown.
        """
        conditions = dict(metric_filter or {})
        unknown = [sign for sign, _ in conditions.values() if sign not in _COMPARISONS]
        if unknown:
            raise UsageError(f"unknown comparison {unknown[0]!a}", hint=f"one of {' '.join(_COMPARISONS)}")
        found = []
        for one in walk(self._workspace.git, ALL_BRANCHES if branch is None else (branch,)):
            metrics = one.facts.metrics
            fits = all(
                name in metrics and _COMPARISONS[sign](metrics[name], value)
                for name, (sign, value) in conditions.items()
            )
            if fits and all(tag in one.facts.labels or f"tag: {tag}" in one.refs for tag in tag_filter):
                found.append(commit_of(one))
        return found

    def list_tags(self, pattern: str = "*") -> list[Version]:
        """Annotated and plain tags whose names match a glob, by name as versions count."""
        return [version_of(tag) for tag in list_tags(self._workspace.git) if fnmatchcase(tag.name, pattern)]

    def list_versions(self, pattern: str = "*") -> list[Version]:
        """The versions that were tagged, as ``list_tags``."""
        return self.list_tags(pattern)

    def get_version(self, name: str) -> Version:
        """A version that was tagged.

        Args:
            name: the name of the tag, or the id of the tag object in hexadecimal.

        Raises:
            UsageError: there is none.
        """
        tags = self.list_tags()
        found = [one for one in tags if one.name == name] or [one for one in tags if one.version_id == name]
        if not found:
            raise UsageError(f"there is no version '{printable(name)}'", hint="see Repository.list_versions")
        return found[0]

    def diff(
        self, from_ref: str, to_ref: str = "HEAD", *, file: str | None = None, figures: bool = True
    ) -> WeightsDiff:
        """What differs between two revisions of a weight file, tensor by tensor; nothing is checked out.

        Args:
            from_ref: any revision: a branch, a tag, a commit.
            to_ref: another one; empty for the index.
            file: the weight file, instead of that of the repository.
            figures: whether the values of tensors that changed are read and measured; their objects are
                fetched then, and no others.

        Raises:
            UsageError: there is no such revision.
            IntegrityError: an object is damaged.

        Example:
            >>> import tempfile
            >>> import numpy as np
            >>> from coral_git import Repository
            >>> repo = Repository(tempfile.mkdtemp(), init=True)
            >>> ids = repo.stage_weights({"a": np.zeros(4, np.float32), "b": np.ones(4, np.float32)})
            >>> first = repo.commit("one")
            >>> ids = repo.stage_weights({"b": np.full(4, 3, np.float32), "c": np.ones(2, np.float32)})
            >>> second = repo.commit("two")
            >>> found = repo.diff("HEAD~1")
            >>> list(found.added), list(found.modified), found.same
            (['c'], ['b'], 1)
            >>> found.modified["b"].figures.max_delta
            2.0
        """
        return compare_revisions(self._workspace, file or self._file, from_ref, to_ref, figures=figures)

    @property
    def current_branch(self) -> str | None:
        """The branch that is checked out, with or without commits; None where a commit is."""
        git = self._workspace.git
        return (
            git.run("symbolic-ref", "--quiet", "--short", "HEAD", check=False)
            .decode("utf-8", "surrogateescape")
            .strip()
            or None
        )

    def list_branches(self) -> list[str]:
        """The names of the branches."""
        names = self._workspace.git.run("for-each-ref", "--format=%(refname:short)", "refs/heads/")
        return names.decode("utf-8", "replace").splitlines()

    def _stored(self, spec: str) -> Manifest:
        return stored_manifest(self._workspace, spec)
