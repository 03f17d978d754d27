"""What was settled of a conflict before all of it was: a small file in the git directory.

The merge driver and ``git coral resolve`` write down which strategy each tensor got, for a path and the blobs
of its three versions; where those are other ones, nothing is settled. ``docs/format/resolved.md`` describes
the file. Losing it costs typing a command again.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from coral_git import fsops
from coral_git.errors import UsageError, from_os_error
from coral_git.git.revisions import list_index
from coral_git.merge.choices import TAKING, Choice, Choices, parse_choice
from coral_git.merge.conflicts import Conflict
from coral_git.merge.three_way import Outcome
from coral_git.pipeline.workspace import Workspace

if TYPE_CHECKING:  # it brings all that a merge needs
    from coral_git.merge.merge_file import FileMerge

FILE_NAME = "coral-resolved.json"
_VERSION = 1


class Settled(NamedTuple):
    """What was settled.

    Attributes:
        tensors: the choice for each tensor that needs no decision any more.
        rest: one of ``TAKING``, for what is no tensor; empty where nothing was settled.
    """

    tensors: Mapping[str, Choice] = {}
    rest: str = ""


def recall(workspace: Workspace, conflict: Conflict) -> Settled:
    """What was settled of a conflict; nothing where its versions are other ones."""
    record = _read(workspace).get(os.fsdecode(conflict.path))
    try:
        return _parse(record, conflict.stages)
    except (UsageError, KeyError, TypeError, AttributeError):
        return Settled()


def remember(
    workspace: Workspace, path: bytes, stages: tuple[str, str, str], merged: FileMerge, choices: Choices
) -> None:
    """Write down what a merge that ended in a conflict has settled.

    Args:
        workspace: the repository.
        path: the file.
        stages: the ids of the blobs of base, ours and theirs; empty where there is none.
        merged: the merge.
        choices: what decided.

    Raises:
        CoralError: the file cannot be written.
    """
    bad = {one.name for one in merged.bad}
    chosen: dict[str, list[str]] = {}
    for one in merged.plan.decisions if merged.plan else ():
        if one.choice is not None and one.outcome is not Outcome.CONFLICT and one.change.name not in bad:
            chosen.setdefault(str(one.choice), []).append(one.change.name)
    record = {"stages": list(stages), "rest": choices.rest, "tensors": chosen}
    _write(workspace, {**_read(workspace), os.fsdecode(path): record})


def forget(workspace: Workspace, path: bytes) -> None:
    """Drop what was settled of a file, and of files that are no longer in conflict.

    Raises:
        CoralError: the file cannot be written.
    """
    if os.path.exists(_place(workspace)):
        _write(workspace, _others(workspace, path))


def _parse(record: dict[str, Any] | None, stages: tuple[str, str, str]) -> Settled:
    """A record of the file.

    Raises:
        UsageError, KeyError, TypeError, AttributeError: it is none.
    """
    if record is None or tuple(record["stages"]) != stages:
        return Settled()
    tensors = {
        str(name): choice
        for text, names in record["tensors"].items()
        for choice in [parse_choice(text, FILE_NAME)]
        for name in names
    }
    return Settled(tensors, record["rest"] if record["rest"] in TAKING else "")


def _others(workspace: Workspace, path: bytes) -> dict[str, Any]:
    """The records of other paths, as far as these are still in conflict between the same versions."""
    now: dict[str, list[str]] = {}
    for entry in list_index(workspace.git):
        if entry.stage:
            now.setdefault(os.fsdecode(entry.path), ["", "", ""])[entry.stage - 1] = entry.oid
    return {
        name: record
        for name, record in _read(workspace).items()
        if os.fsencode(name) != path and isinstance(record, dict) and record.get("stages") == now.get(name)
    }


def _place(workspace: Workspace) -> str:
    return os.path.join(workspace.paths.git_dir, FILE_NAME)


def _read(workspace: Workspace) -> dict[str, Any]:
    try:
        with open(_place(workspace), "rb") as file:
            found = json.loads(file.read())
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(found, dict) or found.get("version") != _VERSION:
        return {}
    files = found.get("files")
    return files if isinstance(files, dict) else {}


def _write(workspace: Workspace, files: dict[str, Any]) -> None:
    place = _place(workspace)
    try:
        if files:
            text = json.dumps({"version": _VERSION, "files": files}, indent=1, sort_keys=True)
            fsops.replace_file(place, f"{text}\n".encode("ascii"))
        else:
            with contextlib.suppress(FileNotFoundError):
                fsops.remove(place)
    except OSError as error:
        raise from_os_error(error, f"write '{place}'") from error
