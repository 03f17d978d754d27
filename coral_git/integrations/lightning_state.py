"""Checkpoints of Lightning as files of a run, and the small files that stand for them. No pickle."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import torch

from coral_git import fsops
from coral_git.errors import UsageError, from_os_error
from coral_git.formats.base import TensorData
from coral_git.integrations.checkpoint_config import STATE_FILE
from coral_git.integrations.kept import SavedCheckpoint, saved_tensors
from coral_git.integrations.measured import numbers_of
from coral_git.integrations.models import as_torch, copied
from coral_git.integrations.recorder import Snapshot
from coral_git.integrations.sources import source_of
from coral_git.integrations.state import flatten, read_state
from coral_git.pipeline.source import open_regular
from coral_git.pipeline.workspace import Workspace

SCHEME = "coral:"
"""How a path begins that names a commit."""

_FIRST_LINE = "coral checkpoint 1"
_LONGEST = 4096
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


class Reference(NamedTuple):
    """What a small file at the path of a checkpoint says.

    Attributes:
        run: the name of the run.
        step: the number of the checkpoint.
        commit: the id of its commit.
    """

    run: str
    step: int
    commit: str


def write_reference(path: str, reference: Reference) -> None:
    """Write the small file, in one step.

    Raises:
        CoralError: the file system refused.
    """
    text = f"{_FIRST_LINE}\nrun {reference.run}\nstep {reference.step}\ncommit {reference.commit}\n"
    try:
        fsops.make_directory(os.path.dirname(os.path.abspath(path)))
        fsops.replace_file(path, text.encode())
    except OSError as error:
        raise from_os_error(error, f"write '{path}'") from error


def read_reference(path: str) -> Reference | None:
    """What a file says, or the one that a link leads to; None where there is none, or something else."""
    return _read(os.path.realpath(path))[0]


def sole_reference(path: str) -> Reference | None:
    """What a file says, if nothing else needs its checkpoint when the file is gone; else None.

    What a link leads to stays, and so does a file that has other names (hard links). A copy in the same
    folder needs the checkpoint, too; copies elsewhere are not looked for.
    """
    found, names = _read(path)
    if found is None or names > 1:
        return None
    folder, own = os.path.split(os.path.abspath(path))
    try:
        others = [os.path.join(folder, name) for name in os.listdir(folder) if name != own]
    except OSError:  # who knows
        return None
    return None if any(one.commit == found.commit for one in _references(others)) else found


def _references(paths: Iterable[str]) -> Iterator[Reference]:
    """What those of some files say that say something."""
    for path in paths:
        found, _ = _read(path)
        if found is not None:
            yield found


def _read(path: str) -> tuple[Reference | None, int]:
    """What a regular file says, and how many names it has; links are not followed."""
    source = open_regular(os.fsencode(path))
    if source is None:
        return None, 0
    try:
        text, names = source.read_at(0, _LONGEST).decode("utf-8", "replace"), source.status.st_nlink
    except OSError:
        return None, 0
    finally:
        source.close()
    said = re.fullmatch(rf"{_FIRST_LINE}\nrun (.+)\nstep (\d+)\ncommit (\w+)\n", text)
    if said is None or not _COMMIT.fullmatch(said[3]):
        return None, names
    return Reference(said[1], int(said[2]), said[3]), names


def snapshot_of(checkpoint: Mapping[str, Any], file: str, *, keeps_earlier: bool = False) -> Snapshot:
    """A checkpoint of Lightning, copied off the devices.

    Args:
        checkpoint: what Lightning wants to save; ``state_dict`` becomes the weight file.
        file: the path of the weight file.
        keeps_earlier: whether a checkpoint of the same step stays.

    Raises:
        UsageError: a part of it is nothing that can be kept; the message says which.
    """
    state = checkpoint.get("state_dict")
    model = {name: value for name, value in (state or {}).items() if torch.is_tensor(value)}
    rest = {key: value for key, value in checkpoint.items() if key != "state_dict"}
    others = {name: value for name, value in (state or {}).items() if name not in model}
    flat = flatten({"checkpoint": rest, "state_dict": None if state is None else [list(state), others]})
    files = {file: copied(model), STATE_FILE: copied(flat)}
    return Snapshot(
        int(checkpoint.get("global_step", 0)),
        int(checkpoint.get("epoch", 0)),
        _monitored(checkpoint),
        lambda: {path: source_of(tensors) for path, tensors in files.items()},
        keeps_earlier=keeps_earlier,
    )


def read_checkpoint(workspace: Workspace, commit: str, file: str, map_location: Any = None) -> dict[str, Any]:
    """A checkpoint as Lightning saved it.

    Args:
        workspace: the repository.
        commit: the id of its commit.
        file: the path of the weight file.
        map_location: a device that tensors are moved to; anything else leaves them on the CPU.

    Raises:
        UsageError: there is no such checkpoint.
        ObjectMissingError: an object cannot be had.
        IntegrityError: an object is damaged.
    """
    if not _COMMIT.fullmatch(commit) or not workspace.git.succeeds("cat-file", "-e", f"{commit}^{{commit}}"):
        raise UsageError(f"there is no checkpoint {commit}", hint="git coral experiment list")
    saved = SavedCheckpoint(0, None, commit, {}, "")

    def read(source: TensorData) -> torch.Tensor:
        found = as_torch(source)
        return found.to(map_location) if isinstance(map_location, str | torch.device) else found

    kept = read_state(saved_tensors(workspace, saved, STATE_FILE), read)
    checkpoint: dict[str, Any] = kept["checkpoint"]
    if kept["state_dict"] is not None:
        names, others = kept["state_dict"]
        state = {**{one.name: read(one) for one in saved_tensors(workspace, saved, file)}, **others}
        checkpoint["state_dict"] = {name: state[name] for name in names}
    return checkpoint


def _monitored(checkpoint: Mapping[str, Any]) -> dict[str, float]:
    """What the callbacks of Lightning watch, as far as they have measured it."""
    states = [one for one in checkpoint.get("callbacks", {}).values() if isinstance(one, Mapping)]
    return numbers_of({str(one["monitor"]): one.get("current_score") for one in states if one.get("monitor")})
