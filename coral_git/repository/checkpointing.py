"""Writing checkpoints of runs out of memory, without work tree, index or HEAD, and dropping old ones."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from coral_git.git.attributes import track, tracked_lines
from coral_git.git.chains import append_commit, delete_ref, tree_with
from coral_git.history.checkpoints import Checkpoint, checkpoint_ref, list_checkpoints
from coral_git.history.facts import trailer_lines
from coral_git.history.runs import RUN, RUNS, STEP
from coral_git.manifest.escape import printable
from coral_git.pipeline.clean import Source, store_source
from coral_git.pipeline.manifests import StoredManifest, read_manifest
from coral_git.pipeline.workspace import Workspace

_ATTRIBUTES = b".gitattributes"


def log_metrics(workspace: Workspace, run: str, step: int, metrics: Mapping[str, float]) -> str:
    """Append a step without weights to a run; gives the id of the commit."""
    git = workspace.git
    message = _message(f"step {step}", run, step, metrics)
    return append_commit(git, RUNS + run, lambda before: tree_with(git, "", before, {}), message)


def save_checkpoint(
    workspace: Workspace,
    run: str,
    step: int,
    files: Mapping[str, Source],
    metrics: Mapping[str, float],
    subject: str = "",
) -> Checkpoint:
    """Store files, log the step, and keep both in a commit with a ref of its own, which comes last.

    Args:
        workspace: the repository.
        run: a run that is there.
        step: its number.
        files: by path from the root of the work tree.
        metrics: what was measured.
        subject: first line of the message of the commit.

    Raises:
        CoralError: the store cannot be written; the checkpoint is not there then.
        GitError: git refuses.
    """
    git = workspace.git
    earlier = list_checkpoints(git, run)
    blobs = {}
    for name, source in files.items():
        path = os.fsencode(name)
        text = store_source(workspace, path, source, _previous(workspace, path, run, earlier))
        blobs[path] = git.run("hash-object", "-w", "--stdin", "--no-filters", input=text).decode().strip()
    logged = log_metrics(workspace, run, step, metrics)
    blobs |= _attributes(workspace, logged, files)
    tree = tree_with(git, workspace.paths.git_dir, logged, blobs)
    message = _message(subject or f"checkpoint at step {step}", run, step, metrics)
    commit = git.run("commit-tree", tree, "-p", logged, input=message.encode()).decode().strip()
    ref = checkpoint_ref(run, step)
    git.run("update-ref", "-m", "coral", ref, commit)
    return Checkpoint(run, step, ref, commit)


def drop_checkpoints(workspace: Workspace, checkpoints: Iterable[Checkpoint]) -> None:
    """Drop checkpoints; git prunes their commits in time, and then 'git coral gc' frees their weights."""
    for one in checkpoints:
        delete_ref(workspace.git, one.ref, one.oid)


def _previous(workspace: Workspace, path: bytes, run: str, earlier: list[Checkpoint]) -> list[StoredManifest]:
    """What a file probably is a small change of: the last checkpoint, or what the run began with."""
    revisions = [one.oid for one in earlier[-1:]] + [RUNS + run]
    found = (read_manifest(workspace, revision.encode() + b":" + path) for revision in revisions)
    return [one for one in found if one is not None]


def _attributes(workspace: Workspace, commit: str, files: Iterable[str]) -> dict[bytes, str]:
    """The attributes file that lets a checkout write the files, where the tree has none that does."""
    found = workspace.objects.blob(commit.encode() + b":" + _ATTRIBUTES)
    before = after = b"" if found is None else found[1]
    for name in files:
        pattern = b"*" + os.fsencode(os.path.splitext(name)[1])
        if all(known != pattern for _, known in tracked_lines(after)):
            after = track(after, pattern)
    if after == before:
        return {}
    written = workspace.git.run("hash-object", "-w", "--stdin", "--no-filters", input=after)
    return {_ATTRIBUTES: written.decode().strip()}


def _message(subject: str, run: str, step: int, metrics: Mapping[str, float]) -> str:
    lines = [f"{RUN}: {run}", f"{STEP}: {step}", *trailer_lines(metrics)]
    return f"{printable(subject)}\n\n" + "\n".join(lines) + "\n"
