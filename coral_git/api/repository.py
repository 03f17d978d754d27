"""A repository of weights for programs, on top of real git.

The names are those of the original Coral. Whatever is done here, git and ``git coral`` see: a commit is git's
commit, a tag git's tag, and the weights lie in an ordinary file that ``git checkout`` writes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Self

from coral_git.api.arrays import tensor_data
from coral_git.api.delta import DeltaConfig
from coral_git.api.sharing import Sharing, clone_silently
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
from coral_git.pipeline.clean import store_source
from coral_git.pipeline.manifests import read_manifest
from coral_git.pipeline.memory_source import MemorySource
from coral_git.repository.environment import describe_environment
from coral_git.repository.installing import initialise

DEFAULT_FILE = "model.safetensors"


class Repository(Sharing):
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

    @classmethod
    def clone(
        cls,
        url: str | os.PathLike[str],
        path: str | os.PathLike[str] | None = None,
        *,
        branch: str | None = None,
        delta_config: DeltaConfig | None = None,
        file: str = DEFAULT_FILE,
    ) -> Self:
        """Clone a repository, with the weights of the branch that is checked out.

        Args:
            url: what ``git clone`` takes.
            path: the new directory; named after the URL by default.
            branch: the branch or tag to check out, instead of the one that the other side names.
            delta_config: how tensors are stored.
            file: the weight file that tensors go into.

        Raises:
            GitError: git refuses: there is no such repository or branch, or the directory is not empty.
            ObjectMissingError: weights cannot be had; the clone is there.
        """
        place = clone_silently(os.fspath(url), None if path is None else os.fspath(path), branch)
        return cls(place, delta_config=delta_config, file=file)

    @property
    def delta_config(self) -> DeltaConfig | None:
        """How tensors are stored, where that was said."""
        return self._config

    def stage_weights(
        self,
        weights: Mapping[str, Any],
        *,
        file: str | None = None,
        replace: bool = False,
        delta_config: DeltaConfig | None = None,
    ) -> dict[str, str]:
        """Put tensors into the index, as ``git add`` would; no file of the work tree is needed.

        A file of the work tree that is as the index has it follows; one that the user changed stays as it is.

        Args:
            weights: by name: arrays of numpy, tensors of torch, or ``WeightTensor``.
            file: the weight file, instead of that of the repository.
            replace: whether tensors that the file has and that are not given are dropped; else they stay.
            delta_config: how these tensors are stored, instead of what the repository was opened with.

        Returns:
            For each tensor the id of its (first) object in hexadecimal; empty for a tensor without values.

        Raises:
            UsageError: a dtype cannot be stored, or coral-git does not keep that file.
            LockedError: another program is writing.
        """
        path = file or self._file
        if not isinstance(weights, Mapping):
            raise UsageError(
                f"a {type(weights).__name__} is no mapping of names to arrays", hint="e.g. model.state_dict()"
            )
        odd = [name for name in weights if not isinstance(name, str)]
        if odd:
            raise UsageError(f"the name of a tensor is a text, not {odd[0]!a}")
        given = {name: _as_data(name, value) for name, value in weights.items()}
        with self._writing("stage weights"):
            self._check_tracked(path)
            known = {} if replace else {one.name: one for one in self._index_tensors(path)}
            header, ordered = safetensors_header(list({**known, **given}.values()), {})
            text = self._store(path, MemorySource(header, ordered), delta_config)
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
        author: str | None = None,
        email: str | None = None,
        tags: Sequence[str] = (),
        *,
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
            LockedError: another program is writing.
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

    def tag_version(
        self,
        name: str,
        description: str = "",
        metrics: Mapping[str, float] | None = None,
        commit_ref: str = "HEAD",
        *,
        force: bool = False,
    ) -> Version:
        """Make an annotated tag with metrics.

        Args:
            name: its name.
            description: first line of its message; the name by default.
            metrics: values by name.
            commit_ref: the revision that it names.
            force: whether a tag of that name is moved.

        Raises:
            UsageError: there is such a tag already, or no such commit.
        """
        measured = {metric_name(key): float(value) for key, value in (metrics or {}).items()}
        make_tag(self._workspace.git, NewTag(name, commit_ref, description, measured, force=force))
        return self.get_version(name)

    def gc(self, *, dry_run: bool = False) -> GcReport:
        """Free what no version needs any more; see ``git coral gc``."""
        return collect_garbage(self._workspace, dry_run=dry_run)

    def _store(self, path: str, source: MemorySource, config: DeltaConfig | None) -> bytes:
        """The manifest of a file, whose objects are stored now."""
        workspace = self._workspace if config is None else self.new_workspace(config)
        try:
            return store_source(workspace, os.fsencode(path), source)
        finally:
            if workspace is not self._workspace:
                workspace.close()

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


def _as_data(name: str, value: Any) -> TensorData:
    if isinstance(value, WeightTensor):
        return value.source._replace(name=name)
    return tensor_data(name, value)
