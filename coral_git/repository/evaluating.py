"""Candidates for a merge, scored by a command of the user.

A candidate is a strategy with parameters, or a set of branches. Its weights are computed into the store and
written to a folder of its own; nothing in the work tree changes. The score is the last number that the
command prints.
"""

from __future__ import annotations

import itertools
import os
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from coral_git import fsops
from coral_git.errors import CoralError, UsageError, from_os_error
from coral_git.git.command import run_for_user
from coral_git.git.revisions import resolve_commit
from coral_git.manifest.entries import Manifest
from coral_git.manifest.parse import parse
from coral_git.merge.choices import Choice
from coral_git.merge.merge_file import merge_file
from coral_git.merge.parameters import Parameters
from coral_git.merge.settings import Wanted, choices_with, read_choices
from coral_git.pipeline.decode import expanded, write_file
from coral_git.pipeline.messages import show_path
from coral_git.pipeline.missing import bring_objects
from coral_git.pipeline.parallel import Workers
from coral_git.pipeline.workspace import Workspace
from coral_git.repository.merge_preview import Versions, changed_weights, common_ancestor

_NUMBER = re.compile(rb"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_MOST = 10_000


class Score(NamedTuple):
    """What a candidate is worth.

    Attributes:
        name: the candidate, e.g. ``alpha=0.3`` or ``ours``.
        value: what the command said.
    """

    name: str
    value: float


class Evaluation(NamedTuple):
    """How candidates are scored.

    Attributes:
        command: a line for the shell; ``{model}`` stands for the file, or the folder where there are several.
        maximize: whether more is better.
        allow_nonfinite: whether candidates with new infinities and NaNs are scored.
    """

    command: str
    maximize: bool = True
    allow_nonfinite: bool = False

    def is_better(self, one: float, other: float) -> bool:
        """Whether a value is better than another one."""
        return one > other if self.maximize else one < other


def parse_sweep(text: str) -> tuple[str, list[float]]:
    """A parameter and its values: ``alpha=0:1:0.1``, both ends included, or ``alpha=0.2,0.5``.

    Raises:
        UsageError: it is neither.
    """
    name, _, values = text.partition("=")
    hint = "--sweep alpha=0:1:0.1"
    try:
        if ":" not in values:
            return name, [float(one) for one in values.split(",")]
        start, end, step = map(float, values.split(":"))
        count = round((end - start) / step)
        if not 0 <= count < _MOST or not name:
            raise ValueError
        return name, [round(start + number * step, 12) for number in range(count + 1)]
    except (ValueError, ZeroDivisionError, OverflowError):
        raise UsageError(f"bad sweep {text!a}", hint=hint) from None


def grid(
    wanted: Wanted, strategies: Sequence[str], sweeps: Sequence[tuple[str, list[float]]]
) -> list[tuple[str, Wanted]]:
    """Every combination of strategies and swept parameters, with its name.

    Raises:
        UsageError: there are too many.
    """
    names = [name for name, _ in sweeps]
    found = []
    for strategy in strategies or (wanted.strategy,):
        for values in itertools.product(*(values for _, values in sweeps)):
            swept = {name: f"{value:g}" for name, value in zip(names, values, strict=True)}
            words = [strategy] if len(strategies) > 1 else []
            words += [f"{key}={value}" for key, value in swept.items()]
            candidate = wanted._replace(strategy=strategy, parameters={**wanted.parameters, **swept})
            found.append((" ".join(words) or strategy or "merged", candidate))
    if len(found) > _MOST:
        raise UsageError(f"{len(found)} candidates are too many", hint=f"{_MOST} at most")
    return found


class Candidates:
    """Computes and scores candidates.

    Args:
        workspace: the repository.
        branches: what is merged into HEAD.
        evaluation: how candidates are scored.
        tell: is called with each score.
    """

    def __init__(
        self,
        workspace: Workspace,
        branches: Sequence[str],
        evaluation: Evaluation,
        tell: Callable[[Score], None],
    ) -> None:
        self._workspace = workspace
        self._evaluation = evaluation
        self._tell = tell
        self._commits = [resolve_commit(workspace.git, one) for one in ("HEAD", *branches)]
        base = common_ancestor(workspace.git, self._commits)
        every = changed_weights(workspace, base, self._commits)
        self._files = [one for one in every if one.changed and None not in one.sides]
        if not self._files:
            raise UsageError("there are no weights to merge and to score")
        self.scores: list[Score] = []

    def side(self, number: int, name: str) -> float:
        """The score of a side as it is; HEAD is 0."""
        chosen = [(one.path, one.sides[number]) for one in self._files]
        return self._score(name, [(path, side) for path, side in chosen if side is not None])

    def merged(self, name: str, wanted: Wanted) -> float:
        """The score of a merge of all sides.

        Raises:
            CoralError: it would be a conflict.
        """
        return self._score(name, [(one.path, self._merge(one, wanted)) for one in self._files])

    def soup(self, members: Sequence[int]) -> float:
        """The score of the mean of some of the sides."""
        wanted = Wanted(str(soup_choice(members, len(self._commits))))
        return self._score(
            f"soup {'+'.join(map(str, members))}",
            [(one.path, self._merge(one, wanted, everyone=True)) for one in self._files],
        )

    def _merge(self, versions: Versions, wanted: Wanted, *, everyone: bool = False) -> Manifest:
        workspace = self._workspace
        choices = choices_with(workspace, read_choices(workspace, versions.path), wanted)
        sides = [side for side in versions.sides if side is not None]
        result = merge_file(
            workspace, versions.path, versions.base, sides, choices._replace(everyone=everyone)
        )
        if result.reason:
            raise CoralError(
                f"'{show_path(versions.path)}': {result.reason}", hint="name a strategy: --strategy average"
            )
        return parse(result.text, workspace.limits)

    def _score(self, name: str, files: Sequence[tuple[bytes, Manifest]]) -> float:
        with _written(self._workspace, files) as place:
            line = self._evaluation.command.replace("{model}", shlex.quote(place))
            code, said = run_for_user(line, self._workspace.paths.work_tree or ".")
        if code:
            raise CoralError(f"the command failed ({code}) for {name}: {line}")
        numbers = _NUMBER.findall(said)
        if not numbers:
            raise CoralError(f"the command printed no number for {name}: {line}")
        score = Score(name, float(numbers[-1]))
        self.scores.append(score)
        self._tell(score)
        return score.value


def soup_choice(members: Sequence[int], sides: int) -> Choice:
    """The mean of some of the sides."""
    weights = tuple(1.0 if number in members else 0.0 for number in range(sides))
    return Choice("weighted", Parameters(weights=weights))


def greedy_soup(candidates: Candidates, names: Sequence[str], evaluation: Evaluation) -> list[int]:
    """Which sides a greedy soup has: the best one, then each that does not make the mean worse.

    After Wortsman et al., "Model soups" (arXiv 2203.05482), algorithm 1.

    Args:
        candidates: computes and scores.
        names: of the sides, ours first.
        evaluation: what is better.
    """
    scores = [candidates.side(number, name) for number, name in enumerate(names)]
    order = sorted(range(len(names)), key=lambda number: scores[number], reverse=evaluation.maximize)
    members, best = [order[0]], scores[order[0]]
    for number in order[1:]:
        value = candidates.soup([*members, number])
        if not evaluation.is_better(best, value):
            members, best = [*members, number], value
    return members


@contextmanager
def _written(workspace: Workspace, files: Sequence[tuple[bytes, Manifest]]) -> Iterator[str]:
    """A folder with weight files, or the file where there is one; it is gone in the end."""
    folder = os.path.join(workspace.paths.git_dir, fsops.unique_name("coral-eval"))
    made: list[str] = []
    try:
        for path, manifest in files:
            if bring_objects(workspace, [(path, manifest)]):
                raise CoralError(f"'{show_path(path)}' lacks objects", hint="git coral fetch")
            place = os.path.join(folder, os.fsdecode(path))
            fsops.make_directory(os.path.dirname(place))
            made.append(place)
            with Workers(workspace.settings.threads) as workers:
                fd = fsops.create_exclusive(place)
                try:
                    write_file(expanded(manifest, workspace.store), workspace.store, fd, workers, place)
                finally:
                    os.close(fd)
        yield made[0] if len(made) == 1 else folder
    except OSError as error:
        raise from_os_error(error, "write a candidate") from error
    finally:
        _remove(folder)


def _remove(folder: str) -> None:
    for place, folders, names in os.walk(folder, topdown=False):
        for name in names:
            os.unlink(os.path.join(place, name))
        for name in folders:
            os.rmdir(os.path.join(place, name))
    if os.path.isdir(folder):
        os.rmdir(folder)
