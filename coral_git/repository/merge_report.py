"""What merge drivers did while git merged, told by them, and the trailers that record it in the commit."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import NamedTuple

from coral_git import fsops
from coral_git.manifest.escape import printable
from coral_git.merge.merge_file import FileMerge
from coral_git.merge.three_way import Outcome
from coral_git.pipeline.workspace import Workspace


class MergedFile(NamedTuple):
    """What became of a weight file in a merge.

    Attributes:
        path: the file, from the root.
        strategy: the default strategy, with its parameters.
        rules: the rules in force.
        outcomes: how many tensors met with which outcome.
        reason: why there is a conflict; empty where there is none.
    """

    path: str
    strategy: str
    rules: tuple[str, ...]
    outcomes: Mapping[str, int]
    reason: str = ""

    @property
    def counts(self) -> str:
        """The outcomes in words."""
        shown = [f"{self.outcomes[one]} {one}" for one in reversed(Outcome) if self.outcomes.get(one)]
        return ", ".join(shown) or "taken as a whole"


@contextmanager
def report_file(workspace: Workspace) -> Iterator[str]:
    """The path of a file for drivers to write to; it is gone in the end."""
    path = os.path.join(workspace.paths.git_dir, fsops.unique_name("coral-merge"))
    try:
        yield path
    finally:
        with suppress(FileNotFoundError):
            os.unlink(path)


def read_report(path: str) -> list[MergedFile]:
    """What drivers wrote; nothing where no driver ran."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            found = [json.loads(line) for line in file]
    except FileNotFoundError:
        return []
    return [
        MergedFile(one["path"], one["strategy"], tuple(one["rules"]), one["outcomes"], one["reason"])
        for one in found
    ]


def outcomes_of(result: FileMerge) -> dict[str, int]:
    """How many tensors met with which outcome."""
    return Counter(str(one.outcome) for one in result.plan.decisions) if result.plan else {}


def trailers(files: list[MergedFile]) -> list[str]:
    """What a merge commit records, so that the merge can be made again; one trailer per line."""
    strategies = dict.fromkeys(file.strategy for file in files)
    rules = dict.fromkeys(rule for file in files for rule in file.rules)
    lines = [f"Coral-Merge: {strategy}" for strategy in strategies]
    lines += [f"Coral-Merge-Rule: {printable(rule)}" for rule in rules]
    for file in files:
        by = f" by {file.strategy}" if len(strategies) > 1 else ""
        lines.append(f"Coral-Merge-Tensors: {printable(file.path)} {file.counts}{by}")
    return lines
