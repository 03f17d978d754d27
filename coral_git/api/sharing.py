"""The half of a repository that is about other ones: remotes, push, fetch, pull, clone."""

from __future__ import annotations

import os

from coral_git.api.branches import Branches
from coral_git.api.merging import MergeCommit
from coral_git.errors import UsageError
from coral_git.git.revisions import has_commits
from coral_git.manifest.escape import printable
from coral_git.pipeline.stores import git_remotes
from coral_git.repository.cloning import clone, guess_directory
from coral_git.repository.fetching import FetchReport, require_complete
from coral_git.repository.fetching import fetch as fetch_objects
from coral_git.repository.pulling import finish
from coral_git.repository.pushing import push_silently


def clone_silently(url: str, path: str | None, branch: str | None) -> str:
    """Clone a repository and write its models; nothing is printed. Gives the directory.

    Raises:
        GitError: git refuses.
        ObjectMissingError: weights cannot be had; the clone is there.
    """
    place = os.path.abspath(guess_directory(url) if path is None else path)
    options = ["--branch", branch] if branch else []
    for _ in clone([*options, "--", url, place], quiet=True):
        pass
    return place


class Sharing(Branches):
    """What travels between repositories; weights lie on any git remote, or in a store beside it.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from coral_git import Repository
        >>> hub = Repository(tempfile.mkdtemp(), init=True)
        >>> repo = Repository(tempfile.mkdtemp(), init=True)
        >>> ids = repo.stage_weights({"w": np.ones(3, np.float32)})
        >>> first = repo.commit("base")
        >>> repo.create_branch("exp")
        >>> repo.add_remote("origin", hub.path)
        >>> repo.push("origin", "exp")
        >>> clone = Repository.clone(hub.path, tempfile.mkdtemp(), branch="exp")
        >>> clone.current_branch, clone.get_weight("w").data.tolist()
        ('exp', [1.0, 1.0, 1.0])
    """

    def add_remote(self, name: str, url: str) -> None:
        """Add a git remote; weights travel with its branches. ``git coral remote`` adds other stores.

        Raises:
            UsageError: there is one of that name already.
            GitError: git does not take the name.
        """
        if name in self.list_remotes():
            raise UsageError(
                f"there is a remote '{printable(name)}' already", hint="Repository.remove_remote"
            )
        self._workspace.git.run("remote", "add", "--", name, url)
        self._reopen()

    def remove_remote(self, name: str) -> None:
        """Remove a git remote and what git remembers of its branches; nothing happens to the other side.

        Raises:
            UsageError: there is none of that name.
        """
        self._remote(name)
        self._workspace.git.run("remote", "remove", "--", name)
        self._reopen()

    def list_remotes(self) -> dict[str, str]:
        """The URLs of the git remotes by name."""
        config = self._workspace.config
        return {name: config.get(f"remote.{name}.url") or "" for name in git_remotes(self._workspace)}

    def push(
        self,
        remote: str = "origin",
        branch: str | None = None,
        *,
        tags: bool = False,
        everything: bool = False,
        force: bool = False,
    ) -> None:
        """Send a branch: its weights first, then its history, so that nobody sees one without the other.

        Args:
            remote: a git remote.
            branch: the branch; the one that is checked out by default.
            tags: whether all tags are sent too.
            everything: whether all branches are sent instead.
            force: whether commits of the other side may be lost.

        Raises:
            UsageError: there is no such remote, or no branch is checked out.
            ObjectMissingError: weights are missing here; nothing was pushed.
            RemoteError: the other side refused the weights; nothing was pushed.
            GitError: git refuses, e.g. because the other side has commits that are not here.
        """
        words = ["--force"] if force else []
        words += ["--tags"] if tags else []
        words += ["--all"] if everything else []
        refs = [] if everything else [branch or self._checked_out()]
        push_silently(self._workspace, [*words, "--end-of-options", self._remote(remote), *refs])

    def fetch(self, remote: str = "origin", *branches: str) -> FetchReport:
        """Bring the history of a remote, and the weights of branches that are named.

        Weights of others come when they are read.

        Args:
            remote: a git remote.
            branches: branches of it whose weights are brought as well.

        Returns:
            How many objects the branches name, and how many of them were not here.

        Raises:
            UsageError: there is no such remote.
            GitError: git cannot fetch.
            ObjectMissingError: weights cannot be had.
        """
        self._workspace.git.run("fetch", "--quiet", "--end-of-options", self._remote(remote))
        if not branches:
            return FetchReport(0, 0)
        report = fetch_objects(self._workspace, [remote, *branches], quiet=True)
        require_complete(report)
        return report

    def pull(self, remote: str = "origin", branch: str | None = None, *, strategy: str = "") -> MergeCommit:
        """Bring a branch of a remote and merge it into the one that is checked out.

        Args:
            remote: a git remote.
            branch: its branch; the one that is called as the one that is checked out by default.
            strategy: as for ``merge``, where both sides have new commits.

        Raises:
            UsageError: there is no such remote or branch.
            MergeConflictError: both sides changed a tensor; nothing was merged.
            GitError: git cannot fetch, or refuses to merge.
            ObjectMissingError: weights cannot be had.
            LockedError: another program is writing.
        """
        self.fetch(remote)
        name = f"refs/remotes/{remote}/{branch or self._checked_out()}"
        if has_commits(self._workspace.git):
            merged = self.merge(name, strategy=strategy)
        else:
            merged = self._begin_with(name)
        finish(self._workspace)
        return merged

    def _begin_with(self, name: str) -> MergeCommit:
        """Let a branch without commits begin where another one is."""
        with self._writing("pull"):
            self._workspace.git.run("merge", "--quiet", "--ff-only", name)
            self._reopen()
        made = self.get_commit("HEAD")
        return MergeCommit(made.commit_hash, made.parent_hashes, made.metadata, "fast-forward")

    def _remote(self, name: str) -> str:
        if name not in self.list_remotes():
            raise UsageError(f"there is no remote '{printable(name)}'", hint="see Repository.add_remote")
        return name

    def _checked_out(self) -> str:
        name = self.current_branch
        if name is None:
            raise UsageError("no branch is checked out", hint="name one")
        return name
