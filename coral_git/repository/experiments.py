"""Writing runs of experiments, and making branches and tags of what they found."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from coral_git import fsops
from coral_git.errors import UsageError
from coral_git.git.attributes import check_attr
from coral_git.git.chains import append_commit, check_name, delete_ref, empty_tree, tip, tree_with
from coral_git.history.checkpoints import CHECKPOINTS, list_checkpoints
from coral_git.history.facts import trailer_lines
from coral_git.history.runs import PARAMETER, RUN, RUNS, STATUS, STEP, Run, list_runs, read_run
from coral_git.manifest.escape import printable
from coral_git.pipeline.dropped import note_dropped
from coral_git.pipeline.workspace import Workspace
from coral_git.repository.checkpointing import drop_checkpoints
from coral_git.repository.environment import describe_environment
from coral_git.repository.unfinished import require_work_tree, user_git

_CURRENT = "coral-run"
"""A file in the git directory of a work tree: the name of the run that was started last."""
CURRENT_VARIABLE = "CORAL_RUN"


class Logged(NamedTuple):
    """What is said about a step.

    Attributes:
        metrics: values by name.
        labels: words.
        step: its number; the one after the last by default.
        message: first line of the message of the commit.
        files: weight files of the work tree that are kept with it.
    """

    metrics: Mapping[str, float] = {}
    labels: tuple[str, ...] = ()
    step: int | None = None
    message: str = ""
    files: tuple[str, ...] = ()


def start(
    workspace: Workspace,
    name: str,
    *,
    parameters: Mapping[str, str] | None = None,
    labels: Sequence[str] = (),
    description: str = "",
    environment: bool = True,
) -> str:
    """Begin a run; from now on it is the current one of this work tree. Gives the id of its first commit.

    Args:
        workspace: the repository.
        name: its name, as of a branch.
        parameters: what is tried.
        labels: words to find it by.
        description: first line of the message of the commit.
        environment: whether to say what there is to train with.

    Raises:
        UsageError: there is such a run already, or the name is none.
    """
    git = workspace.git
    ref = RUNS + name
    check_name(git, ref, name)
    if tip(git, ref):
        raise UsageError(f"there is a run '{printable(name)}' already", hint="git coral experiment delete")
    head = tip(git, "HEAD")
    said = [f"{RUN}: {name}", f"{STATUS}: running"]
    said += [f"{PARAMETER}: {printable(key)}={printable(value)}" for key, value in (parameters or {}).items()]
    said += trailer_lines({}, labels, describe_environment(user_git(workspace)) if environment else {})
    tree = git.run("rev-parse", f"{head}^{{tree}}").decode().strip() if head else empty_tree(git)
    commit = append_commit(
        git,
        ref,
        lambda _: tree,
        _message(description or f"start {name}", said),
        others=[head] if head else [],
    )
    fsops.replace_file(os.path.join(workspace.paths.git_dir, _CURRENT), f"{name}\n".encode())
    return commit


def current_run(workspace: Workspace, name: str | None) -> Run:
    """The run that is meant: by name, by ``CORAL_RUN``, or the one that was started last in this work tree.

    Raises:
        UsageError: none is.
    """
    wanted = name or os.environ.get(CURRENT_VARIABLE)
    if not wanted:
        wanted = _started_last(workspace)
    if not wanted:
        raise UsageError("no run was started here", hint="git coral experiment start NAME")
    return read_run(workspace.git, wanted)


def log(workspace: Workspace, run: Run, logged: Logged) -> tuple[str, int]:
    """Append a step to a run, off the branches. Gives the id of the commit, and the number of the step.

    Raises:
        UsageError: the run has ended, there is nothing to say, or a file is none that git keeps by coral-git.
    """
    if run.status != "running":
        raise UsageError(
            f"the run '{printable(run.name)}' is {run.status}", hint="git coral experiment start NAME"
        )
    if not (logged.metrics or logged.labels or logged.files or logged.message):
        raise UsageError(
            "nothing to log", hint="e.g. git coral experiment log --metric loss=0.3 model.safetensors"
        )
    numbers = [step.number for step in run.steps if step.number is not None]
    step = logged.step if logged.step is not None else max(numbers, default=0) + 1
    blobs = store_files(workspace, logged.files)
    git, git_dir = workspace.git, workspace.paths.git_dir
    said = [f"{RUN}: {run.name}", f"{STEP}: {step}", *trailer_lines(logged.metrics, logged.labels)]
    message = _message(logged.message or f"step {step}", said)
    return append_commit(git, run.ref, lambda before: tree_with(git, git_dir, before, blobs), message), step


def end(workspace: Workspace, run: Run, status: str, metrics: Mapping[str, float]) -> str:
    """Say how a run ended, and once more the last value of each metric. Gives the id of the commit.

    Raises:
        UsageError: it has ended before.
    """
    if run.status != "running":
        raise UsageError(f"the run '{printable(run.name)}' is {run.status} already")
    git = workspace.git
    said = [f"{RUN}: {run.name}", f"{STATUS}: {status}", *trailer_lines({**run.metrics, **metrics})]
    commit = append_commit(
        git, run.ref, lambda before: tree_with(git, "", before, {}), _message(f"end: {status}", said)
    )
    if _started_last(workspace) == run.name:
        fsops.remove(os.path.join(workspace.paths.git_dir, _CURRENT))
    return commit


def store_files(workspace: Workspace, files: Sequence[str]) -> dict[bytes, str]:
    """Weight files of the work tree as blobs, stored as ``git add`` would; the index is not touched.

    Raises:
        UsageError: a file is outside of the work tree, or coral-git does not keep its path.
    """
    if not files:
        return {}
    root = os.path.realpath(require_work_tree(workspace))
    paths: dict[bytes, str] = {}
    for name in files:
        full = os.path.join(os.path.realpath(os.path.dirname(name) or "."), os.path.basename(name))
        inside = os.path.relpath(full, root)
        if inside.startswith("../") or not os.path.isfile(full):
            raise UsageError(f"'{printable(name)}' is no file of this work tree")
        paths[os.fsencode(inside)] = full
    filters = check_attr(workspace.git, paths)
    for path in paths:
        if filters.get(path) != b"coral":
            raise UsageError(
                f"'{printable(os.fsdecode(path))}' is not tracked",
                hint="git coral track 'PATTERN', and commit that",
            )
    git = workspace.git_in(root)
    return {
        path: git.run("hash-object", "-w", f"--path={os.fsdecode(path)}", "--", full).decode().strip()
        for path, full in paths.items()
    }


def delete(workspace: Workspace, runs: Sequence[Run]) -> None:
    """Delete runs; 'git coral gc' frees what only they named."""
    for run in runs:
        drop_checkpoints(workspace, list_checkpoints(workspace.git, run.name))
        note_dropped(workspace, [step.commit.oid for step in run.steps])
        delete_ref(workspace.git, run.ref, run.tip)


def run_refspecs(workspace: Workspace, names: Sequence[str]) -> list[str]:
    """What ``git push`` and ``git fetch`` take for runs of these names, with their checkpoints.

    Raises:
        UsageError: a name is none.
    """
    for name in names:
        check_name(workspace.git, RUNS + name.replace("*", "x"), name)
    places = [f"{RUNS}{name}" for name in names]
    places += [f"{CHECKPOINTS}{name}/*" for name in names if name != "*"] or [f"{CHECKPOINTS}*"]
    return [f"{place}:{place}" for place in places]


def run_refs(workspace: Workspace, names: Sequence[str]) -> list[str]:
    """The refs of runs that are here and of their checkpoints; of all with the name ``*``."""
    runs = [run for run in list_runs(workspace.git) if "*" in names or run.name in names]
    return [
        ref
        for run in runs
        for ref in (run.ref, *(one.ref for one in list_checkpoints(workspace.git, run.name)))
    ]


def parse_parameters(words: Sequence[str]) -> dict[str, str]:
    """Parameters as a user writes them: ``name=value``.

    Raises:
        UsageError: a word is none.
    """
    for word in words:
        if "=" not in word.strip("=") or "\n" in word:
            raise UsageError(f"'{printable(word)}' is no parameter", hint="write it as lr=3e-4")
    return dict(word.partition("=")[::2] for word in words)


def _started_last(workspace: Workspace) -> str:
    try:
        with open(os.path.join(workspace.paths.git_dir, _CURRENT), encoding="utf-8") as file:
            return file.read().strip()
    except FileNotFoundError:
        return ""


def _message(subject: str, said: Sequence[str]) -> str:
    return f"{printable(subject)}\n\n" + "\n".join(said) + "\n"
