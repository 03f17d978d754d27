"""git merging everything but weights: contested ones stay ours, and are named, to be computed afterwards."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from coral_git import fsops
from coral_git.git.drivers import MERGE_STRATEGIES
from coral_git.pipeline.workspace import Workspace


class KeptOurs:
    """What git did not merge.

    Attributes:
        options: of git, with which its merge drivers leave ours and write down the path.
    """

    def __init__(self, record: str) -> None:
        self._record = record
        driver = "printf '%%s\\0' %P >>" + shlex.quote(record).replace("%", "%%")
        names = ("coral", *(f"coral-{strategy}" for strategy in MERGE_STRATEGIES))
        self.options = [word for name in names for word in ("-c", f"merge.{name}.driver={driver}")]

    @property
    def paths(self) -> set[bytes]:
        """The weight files that several sides changed, by the names that git merged them under."""
        try:
            with open(self._record, "rb") as file:
                return set(filter(None, file.read().split(b"\0")))
        except FileNotFoundError:
            return set()


@contextmanager
def keeping_ours(workspace: Workspace) -> Iterator[KeptOurs]:
    """Drivers for commands of git that merge files which are no weights."""
    record = os.path.join(workspace.paths.git_dir, fsops.unique_name("coral-kept"))
    try:
        yield KeptOurs(record)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(record)
