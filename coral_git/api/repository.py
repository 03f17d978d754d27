"""A repository of weights for programs, on top of real git.

The names are those of the original Coral. Whatever is done here, git and ``git coral`` see: a commit is git's
commit, a tag git's tag, and the weights lie in an ordinary file that ``git checkout`` writes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Self

from coral_git.api.arrays import tensor_data
from coral_git.api.delta import DeltaConfig
from coral_git.api.revisions import Revisions
from coral_git.api.versions import Commit, Version
from coral_git.api.weights import WeightTensor
from coral_git.errors import UsageError
from coral_git.formats.base import TensorData
from coral_git.formats.safetensors_writer import safetensors_header
from coral_git.git.attributes import check_attr, track_in
from coral_git.git.revisions import has_commits
from coral_git.history.facts import check_label, metric_name, trailer_lines
from coral_git.history.tags import NewTag, make_tag
from coral_git.maintenance.gc import GcReport, collect_garbage
from coral_git.manifest.escape import printable
from coral_git.merge.settings import Wanted
from coral_git.pipeline.clean import store_source
from coral_git.pipeline.manifests import read_manifest
from coral_git.pipeline.memory_source import MemorySource
from coral_git.pipeline.workspace import Workspace
from coral_git.repository.environment import describe_environment
from coral_git.repository.installing import initialise
from coral_git.repository.merging import MergeOptions, MergeResult, merge_branch
from coral_git.store.locks import exclusive_lock

DEFAULT_FILE = "model.safetensors"


class Repository(Revisions):
    """A repository of weights.

    Reading is safe from several threads, each call on its own. One program at a time writes.

    Args:
        path: its work tree, or a folder in it.
        init: whether to make the repository where there is none, and to set coral-git up in it.
        delta_config: how tensors are stored.
        file: the weight file that tensors go into, from the root of the work tree.

    Raises:
        NotARepositoryError: there is none, and ``init`` is not set.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> repo = Repository(tempfile.mkdtemp(), init=True)
        >>> ids = repo.stage_weights({"layer1": np.zeros((2, 3), np.float32)})
        >>> first = repo.commit("base", metrics={"accuracy": 0.5}, tags=["baseline"])
        >>> repo.get_weight("layer1").shape
        (2, 3)
        >>> [commit.metadata.message for commit in repo.find_commits(metric_filter={"accuracy": (">", 0.4)})]
        ['base']
    """

    def __init__(
        self,
        path: str | os.PathLike[str] = ".",
        init: bool = False,
        *,
        delta_config: DeltaConfig | None = None,
        file: str = DEFAULT_FILE,
    ) -> None:
        directory = os.path.abspath(os.fspath(path))
        if init:
            for _ in initialise(directory):
                pass
        self._directory = directory
        self._file = file
        self._config = delta_config
        self._workspace = self.new_workspace()
        if init:
            self._track()

    @property
    def path(self) -> str:
        """The root of the work tree; the git directory of a bare repository."""
        return self._workspace.paths.work_tree or self._workspace.paths.git_dir

    @property
    def file(self) -> str:
        """The weight file that tensors go into, from the root of the work tree."""
        return self._file

    @property
    def delta_config(self) -> DeltaConfig | None:
        """How tensors are stored, where that was said."""
        return self._config

    # Writing

    def stage_weights(
        self, weights: Mapping[str, Any], *, file: str | None = None, replace: bool = False
    ) -> dict[str, str]:
        """Put tensors into the index, as ``git add`` would; no file of the work tree is needed.

        A file of the work tree that is as the index has it follows; one that the user changed stays as it is.

        Args:
            weights: by name: arrays of numpy, tensors of torch, or ``WeightTensor``.
            file: the weight file, instead of that of the repository.
            replace: whether tensors that the file has and that are not given are dropped; else they stay.

        Returns:
            For each tensor the id of its (first) object in hexadecimal; empty for a tensor without values.

        Raises:
            UsageError: a dtype cannot be stored, or coral-git does not keep that file.
            LockedError: another program is writing.
        """
        path = file or self._file
        given = {name: _as_data(name, value) for name, value in weights.items()}
        with self._writing("stage weights"):
            self._check_tracked(path)
            known = {} if replace else {one.name: one for one in self._index_tensors(path)}
            header, ordered = safetensors_header(list({**known, **given}.values()), {})
            text = store_source(self._workspace, os.fsencode(path), MemorySource(header, ordered))
            git = self._workspace.git
            follows = self._is_as_staged(path)
            blob = git.run("hash-object", "-w", "--stdin", "--no-filters", input=text).decode().strip()
            git.run("update-index", "--add", "--cacheinfo", f"100644,{blob},{path}")
            if follows:
                git.run("checkout", "--quiet", "--", path)
            self._workspace.objects.close()
            staged = {one.name: one for one in self._stored(f":{path}").tensors}
        return {name: staged[name].objects[0].hex() if staged[name].objects else "" for name in given}

    def commit(
        self,
        message: str,
        *,
        author: str | None = None,
        email: str | None = None,
        tags: Sequence[str] = (),
        metrics: Mapping[str, float] | None = None,
        environment: bool = False,
        allow_empty: bool = False,
    ) -> Commit:
        """Commit what is staged, with trailers that say what was measured.

        Args:
            message: its message.
            author: name of the author; that of git's configuration by default.
            email: address of the author.
            tags: labels.
            metrics: values by name.
            environment: whether to say which Python, torch, CUDA and GPU there are.
            allow_empty: whether a commit is made though nothing changed.

        Raises:
            UsageError: nothing is staged, a metric has no valid name, or of author and email only one is
                given.
            GitError: git refuses, e.g. because a hook does.
        """
        if (author is None) != (email is None):
            raise UsageError("an author has a name and an address")
        measured = {metric_name(name): float(value) for name, value in (metrics or {}).items()}
        facts = describe_environment(self._workspace.git) if environment else {}
        lines = trailer_lines(measured, map(check_label, tags), facts)
        options = [word for line in lines for word in ("--trailer", line)]
        options += ["--author", f"{author} <{email}>"] if author is not None else []
        options += ["--allow-empty"] if allow_empty else []
        with self._writing("commit"):
            if not allow_empty and self._has_nothing_staged():
                raise UsageError("nothing to commit", hint="stage weights first, or say allow_empty=True")
            self._workspace.git.run("commit", "--quiet", "-F", "-", *options, input=message.encode())
            self._workspace.objects.close()
        return self.get_commit("HEAD")

    def create_branch(self, name: str, from_ref: str = "HEAD") -> None:
        """Make a branch.

        Raises:
            GitError: git refuses: there is one of that name, or no such commit.
        """
        self._workspace.git.run("branch", "--", name, from_ref)

    def checkout(self, target: str) -> None:
        """Check out a branch, a tag or a commit, with its weight files.

        Raises:
            GitError: git refuses, e.g. because changes would be lost.
        """
        with self._writing("check out"):
            words = ("checkout", "--quiet", target, "--")
            self._workspace.git.run(*words)
            self._reopen()

    def merge(
        self,
        source_branch: str,
        message: str = "",
        *,
        strategy: str = "",
        merge_alpha: float | None = None,
    ) -> MergeResult:
        """Merge a branch into the one that is checked out, tensor by tensor.

        Args:
            source_branch: any revision.
            message: of the commit; git's own by default.
            strategy: what becomes of a tensor that both sides changed: a ``MergeStrategy``, or a name with
                parameters such as ``"ties:density=0.3"``; by default what the settings say.
            merge_alpha: the share of ours in ``weighted`` and ``slerp``, 0 to 1.

        Raises:
            UsageError: there is no such commit or strategy.
        """
        wanted = Wanted(strategy=str(strategy))
        if merge_alpha is not None:
            wanted = Wanted(strategy=f"{strategy or 'weighted'}:alpha={merge_alpha}")
        with self._writing("merge"):
            result = merge_branch(
                self._workspace, source_branch, MergeOptions(wanted=wanted, message=message)
            )
            self._reopen()
        return result

    def tag_version(
        self,
        name: str,
        description: str = "",
        *,
        metrics: Mapping[str, float] | None = None,
        commit_ref: str = "HEAD",
        force: bool = False,
    ) -> Version:
        """Make an annotated tag with metrics.

        Raises:
            UsageError: there is such a tag already, or no such commit.
        """
        measured = {metric_name(key): float(value) for key, value in (metrics or {}).items()}
        make_tag(self._workspace.git, NewTag(name, commit_ref, description, measured, force=force))
        return next(one for one in self.list_tags(name) if one.name == name)

    def gc(self, *, dry_run: bool = False) -> GcReport:
        """Free what no version needs any more; see ``git coral gc``."""
        return collect_garbage(self._workspace, dry_run=dry_run)

    def new_workspace(self) -> Workspace:
        """The repository as the engine sees it, with the settings of this one; whoever asks closes it."""
        workspace = Workspace.open(self._directory)
        if self._config is not None:
            workspace.settings = workspace.settings._replace(
                delta_type=self._config.delta_type,
                profile=self._config.profile,
                similarity_threshold=self._config.similarity_threshold,
            )
        return workspace

    def close(self) -> None:
        """End child processes and close files."""
        self._workspace.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _reopen(self) -> None:
        self._workspace.close()
        self._workspace = self.new_workspace()

    def _track(self) -> None:
        """Let coral-git keep the file, where no attribute says so yet."""
        root = self._workspace.paths.work_tree
        if root is None or self._is_tracked(self._file):
            return
        pattern = "*" + os.path.splitext(self._file)[1]
        track_in(root, os.fsencode(pattern))
        self._workspace.git.run("add", "--", ".gitattributes")

    def _is_tracked(self, path: str) -> bool:
        key = os.fsencode(path)
        return check_attr(self._workspace.git, [key]).get(key) == b"coral"

    def _check_tracked(self, path: str) -> None:
        if not self._is_tracked(path):
            raise UsageError(f"'{printable(path)}' is not tracked", hint="git coral track 'PATTERN'")

    def _has_nothing_staged(self) -> bool:
        git = self._workspace.git
        if not has_commits(git):
            return not git.run("ls-files", "--cached", "-z")
        return git.succeeds("diff-index", "--cached", "--quiet", "HEAD")

    def _is_as_staged(self, path: str) -> bool:
        """Whether the file is in the work tree and as the index has it."""
        root = self._workspace.paths.work_tree
        if root is None or not os.path.lexists(os.path.join(root, path)):
            return False
        self._workspace.git.run("update-index", "-q", "--refresh", check=False)
        return self._workspace.git.succeeds("diff-files", "--quiet", "--", path)

    def _index_tensors(self, path: str) -> list[TensorData]:
        """The tensors that the file in the index has; none where there is no such file."""
        if read_manifest(self._workspace, b":" + os.fsencode(path)) is None:
            return []
        return [weight.source for weight in self.get_all_weights(file=path).values()]

    @contextmanager
    def _writing(self, purpose: str) -> Iterator[None]:
        path = os.path.join(self._workspace.paths.git_dir, "coral-write.lock")
        with exclusive_lock(path, purpose):
            yield


def _as_data(name: str, value: Any) -> TensorData:
    if isinstance(value, WeightTensor):
        return value.source._replace(name=name)
    return tensor_data(name, value)
