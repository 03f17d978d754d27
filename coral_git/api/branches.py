"""The half of a repository that is about branches: making, leaving and merging them."""

from __future__ import annotations

from coral_git.api.merging import MergeCommit, Score, choose_strategy, merge_or_abort, strategy_text
from coral_git.api.writing import Writing
from coral_git.errors import UsageError
from coral_git.manifest.escape import printable


class Branches(Writing):
    """Branches as programs use them.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from coral_git import MergeStrategy, Repository
        >>> repo = Repository(tempfile.mkdtemp(), init=True)
        >>> def save(message, value):
        ...     ids = repo.stage_weights({"w": np.full(4, value, np.float32)})
        ...     return repo.commit(message)
        >>> base = save("base", 0)
        >>> repo.create_branch("exp")
        >>> ours = save("ours", 1)
        >>> repo.checkout("exp")
        >>> theirs = save("theirs", 3)
        >>> merged = repo.merge("main", strategy=MergeStrategy.WEIGHTED, merge_alpha=0.25)
        >>> merged.status, len(merged.parent_hashes), repo.get_weight("w").data[0].item()
        ('merged', 2, 1.5)
    """

    def create_branch(self, name: str, from_ref: str = "HEAD") -> None:
        """Make a branch.

        Args:
            name: its name.
            from_ref: the revision that it begins at.

        Raises:
            GitError: git refuses: there is one of that name, or no such commit.
        """
        self._workspace.git.run("branch", "--", name, from_ref)

    def delete_branch(self, name: str, *, force: bool = False) -> None:
        """Delete a branch. Its commits can still be had by their ids until git prunes them.

        Args:
            name: the branch.
            force: whether a branch is deleted whose commits are in no other one.

        Raises:
            UsageError: there is no such branch.
            GitError: git refuses: it is checked out, or, without ``force``, not merged.
        """
        git = self._workspace.git
        if not git.succeeds("rev-parse", "--verify", "--quiet", f"refs/heads/{name}"):
            raise UsageError(f"there is no branch '{printable(name)}'", hint="see Repository.list_branches")
        git.run("branch", "--quiet", "-D" if force else "-d", "--", name)

    def checkout(self, target: str) -> None:
        """Check out a branch, a tag or a commit, with its weight files.

        Raises:
            GitError: git refuses, e.g. because changes would be lost.
            LockedError: another program is writing.
        """
        with self._writing("check out"):
            words = ("checkout", "--quiet", target, "--")
            self._workspace.git.run(*words)
            self._reopen()

    def merge(
        self,
        source_branch: str,
        message: str = "",
        strategy: str = "",
        merge_alpha: float | None = None,
        validation_fn: Score | None = None,
        *,
        ties_density: float | None = None,
        dare_drop_rate: float | None = None,
        task_scaling: float | None = None,
    ) -> MergeCommit:
        """Merge a branch into the one that is checked out, tensor by tensor, or change nothing.

        What only one side changed, added or removed is taken from that side, as git does with files.

        Args:
            source_branch: any revision.
            message: of the commit; git's own by default.
            strategy: what becomes of a tensor that both sides changed: a ``MergeStrategy``, or a name with
                parameters such as ``"ties:density=0.3"``; by default what the settings say, which is
                ``fail`` where they say nothing.
            merge_alpha: the share of ours in ``weighted`` and ``slerp``, 0 to 1.
            validation_fn: scores weights by name (``dict[str, WeightTensor]``); more is better. With
                ``greedy-soup`` the best one of ours, theirs and their mean is taken; with any other strategy
                a result that is worse than ours is refused.
            ties_density: the share of the values of a difference that ``ties`` keeps, above 0 to 1.
            dare_drop_rate: the share that ``dare-ties`` and ``dare-linear`` drop at random, 0 to below 1.
            task_scaling: λ, by which a strategy of differences multiplies their sum.

        Returns:
            The commit that HEAD names now; ``status`` says whether it is a merge.

        Raises:
            MergeConflictError: a tensor needs a decision; its ``conflicts`` lists them all.
            UsageError: there is no such commit or strategy, or the strategy takes no such parameter.
            PolicyError: the result is worse than ours by ``validation_fn``.
            GitError: git refuses, e.g. because changes in the work tree would be lost.
            LockedError: another program is writing.
        """
        arguments = {
            "merge_alpha": merge_alpha,
            "ties_density": ties_density,
            "dare_drop_rate": dare_drop_rate,
            "task_scaling": task_scaling,
        }
        wanted = strategy_text(strategy, arguments)
        with self._writing("merge"):
            chosen, scores = choose_strategy(
                self._workspace, source_branch, self._file, wanted, validation_fn
            )
            try:
                result = merge_or_abort(self._workspace, source_branch, chosen, message)
            finally:
                self._reopen()
        made = self.get_commit(result.commit)
        return MergeCommit(
            made.commit_hash, made.parent_hashes, made.metadata, result.status, tuple(result.files), scores
        )
