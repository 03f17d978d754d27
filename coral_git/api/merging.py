"""Merges for programs: what is asked for, what came out, candidates that a function scores, conflicts."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from coral_git.api.strategies import MergeStrategy
from coral_git.api.versions import Commit
from coral_git.api.weights import WeightTensor
from coral_git.errors import GitError, MergeConflictError, PolicyError, UsageError
from coral_git.git.revisions import list_index, resolve_commit
from coral_git.manifest.entries import Manifest
from coral_git.manifest.escape import printable
from coral_git.manifest.model import object_ids
from coral_git.manifest.parse import parse
from coral_git.merge.choices import TAKING
from coral_git.merge.merge_file import merge_file, plan_file
from coral_git.merge.settings import Wanted, choices_with, read_choices
from coral_git.merge.strategies import registry
from coral_git.pipeline.decode import expanded
from coral_git.pipeline.tensors import stored_tensors
from coral_git.pipeline.workspace import Workspace
from coral_git.repository.conflicts import find_conflicts
from coral_git.repository.merge_preview import Versions, changed_weights, common_ancestor
from coral_git.repository.merge_report import MergedFile
from coral_git.repository.merging import MergeOptions, MergeResult, merge_branch
from coral_git.repository.printing import bring

Score = Callable[[dict[str, WeightTensor]], float]
"""Scores weights by name; more is better."""

_SHOWN = 3
_TAKES = {
    "merge_alpha": ("alpha", "weighted"),
    "ties_density": ("density", "ties"),
    "dare_drop_rate": ("density", "dare-ties"),
    "task_scaling": ("scale", "task-arithmetic"),
}
"""Arguments of the original Coral: our parameter, and the strategy that is meant when none is named."""
_DARE = ("dare-ties", "dare-linear")
_SCORED = (str(MergeStrategy.GREEDY_SOUP),)


@dataclass(frozen=True)
class MergeCommit(Commit):
    """The commit that HEAD names after a merge, and what was done.

    Attributes:
        status: ``"merged"``, ``"fast-forward"`` or ``"up to date"``.
        files: the weight files that both sides changed, with the outcomes of their tensors.
        scores: what the function said of the candidates, by name; empty without one.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from coral_git import Repository
        >>> repo = Repository(tempfile.mkdtemp(), init=True)
        >>> ids = repo.stage_weights({"w": np.zeros(3)})
        >>> first = repo.commit("one")
        >>> repo.create_branch("same")
        >>> made = repo.merge("same")
        >>> made.status, made.commit_hash == first.commit_hash, made.files
        ('up to date', True, ())
    """

    status: str = "merged"
    files: tuple[MergedFile, ...] = ()
    scores: Mapping[str, float] = field(default_factory=dict)


def strategy_text(strategy: str, arguments: Mapping[str, float | None]) -> str:
    """A strategy with its parameters, as settings and commands name it; empty for what is configured.

    Args:
        strategy: a ``MergeStrategy``, its name also as the original Coral spells it (``"dare_ties"``),
            with parameters after a colon if need be; empty for the one that the arguments are about.
        arguments: ``merge_alpha``, ``ties_density``, ``dare_drop_rate``, ``task_scaling``, or None.

    Raises:
        UsageError: the strategy takes no such parameter, or a share is none.

    Example:
        >>> strategy_text("TIES", {"ties_density": 0.3, "task_scaling": None})
        'ties:density=0.3'
        >>> strategy_text("", {"dare_drop_rate": 0.75})
        'dare-ties:density=0.25'
    """
    name, colon, rest = str(strategy).partition(":")
    name = name.lower().replace("_", "-")
    given = {key: value for key, value in arguments.items() if value is not None}
    if not name and given:
        name = _TAKES[next(iter(given))][1]
    words = [rest] if colon else []
    for key, value in given.items():
        parameter = _TAKES[key][0]
        if not _takes(name, key):
            raise UsageError(f"the strategy '{printable(name)}' takes no {key}")
        if key == "dare_drop_rate" and not 0 <= value < 1:
            raise UsageError(f"bad dare_drop_rate {value!r}: it is at least 0 and below 1")
        words.append(f"{parameter}={round(1 - value, 12) if key == 'dare_drop_rate' else value}")
    return f"{name}:{','.join(words)}" if words else name


def _takes(strategy: str, argument: str) -> bool:
    """Whether an argument of the original Coral is about a strategy."""
    if strategy in (*TAKING, *_SCORED):
        return False
    if argument in ("dare_drop_rate", "ties_density") and (argument == "dare_drop_rate") != (
        strategy in _DARE
    ):
        return False
    return _TAKES[argument][0] in registry.strategy_by_name(strategy).parameters


def choose_strategy(
    workspace: Workspace, branch: str, path: str, strategy: str, score: Score | None
) -> tuple[str, dict[str, float]]:
    """The strategy of a merge, and the scores that it was chosen by.

    ``greedy-soup`` takes the better one of both sides, and the mean of both where it is not worse (after
    Wortsman et al., arXiv 2203.05482, algorithm 1). With any other strategy the result has to be at least as
    good as ours. Candidates are computed as the merge itself would be: block by block, into the store.

    Args:
        workspace: the repository.
        branch: what is merged into HEAD.
        path: the weight file that is scored.
        strategy: as ``strategy_text`` gives it.
        score: the function; None for no scores.

    Raises:
        UsageError: ``greedy-soup`` without a function.
        PolicyError: the result would be worse than ours.
        MergeConflictError: a candidate cannot be computed.
    """
    is_soup = strategy in _SCORED
    if score is None:
        if is_soup:
            raise UsageError(f"'{strategy}' needs a validation_fn", hint="a function of weights by name")
        return strategy, {}
    versions = _versions(workspace, branch, path)
    if versions is None:
        return ("ours" if is_soup else strategy), {}
    if is_soup:
        return _greedy_soup(workspace, versions, score)
    ours = float(score(_weights(workspace, versions.sides[0])))
    merged = float(score(_candidate(workspace, versions, strategy)))
    if not merged >= ours:
        raise PolicyError(
            f"the merged weights score {merged:g}, ours {ours:g}; nothing was merged",
            hint="another strategy, or no validation_fn",
        )
    return strategy, {"ours": ours, "merged": merged}


def _greedy_soup(workspace: Workspace, versions: Versions, score: Score) -> tuple[str, dict[str, float]]:
    scores = {name: float(score(_candidate(workspace, versions, name))) for name in ("ours", "theirs")}
    best = "ours" if scores["ours"] >= scores["theirs"] else "theirs"
    scores["average"] = float(score(_candidate(workspace, versions, "average")))
    return ("average" if scores["average"] >= scores[best] else best), scores


def _versions(workspace: Workspace, branch: str, path: str) -> Versions | None:
    """The versions of a file that both sides have; None where there is nothing to merge."""
    commits = [resolve_commit(workspace.git, one) for one in ("HEAD", branch)]
    base = common_ancestor(workspace.git, commits)
    if base in commits:
        return None
    found = changed_weights(workspace, base, commits)
    return next((one for one in found if os.fsdecode(one.path) == path and None not in one.sides), None)


def _candidate(workspace: Workspace, versions: Versions, strategy: str) -> dict[str, WeightTensor]:
    choices = choices_with(workspace, read_choices(workspace, versions.path), Wanted(strategy=strategy))
    sides = [side for side in versions.sides if side is not None]
    result = merge_file(workspace, versions.path, versions.base, sides, choices)
    if result.reason:
        names = [one.change.name for one in result.plan.conflicts] if result.plan else []
        raise _conflict_error(names, {os.fsdecode(versions.path): result.reason})
    return _weights(workspace, parse(result.text, workspace.limits))


def _weights(workspace: Workspace, manifest: Manifest | None) -> dict[str, WeightTensor]:
    """The tensors of a version, each read when its values are needed."""
    assert manifest is not None
    bring(workspace, tuple(table.object_id for table in manifest.tables), "the file")
    whole = expanded(manifest, workspace.store)
    bring(workspace, object_ids(whole), "the file")
    return {
        one.name: WeightTensor(stored=one, name=one.name) for one in stored_tensors(whole, workspace.store)
    }


def merge_or_abort(workspace: Workspace, branch: str, strategy: str, message: str) -> MergeResult:
    """Merge a branch, or leave everything as it was; nothing is printed.

    Raises:
        UsageError: there is no such commit or strategy.
        MergeConflictError: somebody has to decide; it lists the tensors.
        GitError: git or a hook refuses.
    """
    options = MergeOptions(wanted=Wanted(strategy=strategy), message=message, quiet=True)
    merging = os.path.join(workspace.paths.git_dir, "MERGE_HEAD")
    is_ours = not os.path.exists(merging)
    try:
        result = merge_branch(workspace, branch, options)
    except GitError:
        if is_ours and os.path.exists(merging):
            workspace.git.run("merge", "--abort")
        raise
    if result.status == "conflict":
        _refuse(workspace, result, options.wanted)
    return result


def _refuse(workspace: Workspace, result: MergeResult, wanted: Wanted) -> NoReturn:
    """Undo a merge in conflict, and say what is contested."""
    workspace.objects.close()  # it has the index of before
    reasons = {one.path: one.reason for one in result.files if one.reason}
    names = dict.fromkeys(_contested(workspace, wanted))
    for entry in list_index(workspace.git):
        if entry.stage:
            reasons.setdefault(os.fsdecode(entry.path), "both sides changed it")
    workspace.git.run("merge", "--abort")
    raise _conflict_error(list(names), reasons)


def _contested(workspace: Workspace, wanted: Wanted) -> Iterator[str]:
    """The tensors in the unmerged files that nobody could decide about."""
    for one in find_conflicts(workspace, ()):
        if one.is_unmerged and not one.obstacle:
            choices = choices_with(workspace, read_choices(workspace, one.path), wanted)
            base = one.base.manifest if one.base else None
            plan = plan_file(workspace, one.path, base, one.sides, choices).plan
            yield from (decision.change.name for decision in plan.conflicts) if plan else ()


def _conflict_error(names: Sequence[str], files: Mapping[str, str]) -> MergeConflictError:
    shown = ", ".join(f"'{printable(name)}'" for name in names[:_SHOWN])
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    if names:
        message = f"{len(names)} tensor{'s' if len(names) != 1 else ''} in conflict: {shown}{more}"
    else:
        message = "; ".join(f"'{printable(path)}': {reason}" for path, reason in files.items())
    return MergeConflictError(
        f"{message}; nothing was merged", names, files, hint="name a strategy, e.g. MergeStrategy.AVERAGE"
    )
