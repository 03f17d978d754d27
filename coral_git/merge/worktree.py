"""Objects that the file in the work tree has: reading them there is quicker than decoding them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from coral_git.manifest.entries import Manifest
from coral_git.manifest.model import placements
from coral_git.pipeline.part_source import ReadRange, read_ranges
from coral_git.pipeline.source import open_regular
from coral_git.pipeline.workspace import Workspace
from coral_git.types import ObjectId


@contextmanager
def objects_in_work_tree(
    workspace: Workspace, path: bytes, sides: Sequence[Manifest]
) -> Iterator[Mapping[ObjectId, ReadRange]]:
    """What the file in the work tree has if it is one of the sides, which its length suggests.

    The bytes may be others all the same: whoever reads them compares them with their ids.

    Args:
        workspace: the repository.
        path: the file, relative to the root of the work tree.
        sides: the versions that the work tree may have, expanded.
    """
    root = workspace.paths.work_tree
    file = None if root is None else open_regular(os.path.join(os.fsencode(root), path))
    if file is None:
        yield {}
        return
    try:
        side = next((side for side in sides if side.size == file.size), None)
        if side is None:
            yield {}
        else:
            parts = placements(side, workspace.limits)
            yield {part.object_id: read_ranges(file, part.ranges) for part in parts}
    finally:
        file.close()
