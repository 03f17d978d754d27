"""Writing checkpoints of runs out of memory, without work tree, index or HEAD, and dropping old ones.

First every file is stored (``store_file``, several processes at once if need be), then one commit names them
all (``commit_checkpoint``); its ref comes last.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from coral_git.errors import UsageError
from coral_git.git.attributes import track, tracked_lines
from coral_git.git.chains import append_commit, check_name, delete_ref, index_lines, tip, tree_with
from coral_git.git.command import Git
from coral_git.git.revisions import list_index
from coral_git.history.checkpoints import EPOCH, LOGGED, Checkpoint, checkpoint_ref, list_checkpoints
from coral_git.history.facts import trailer_lines
from coral_git.history.runs import RUN, RUNS, STEP
from coral_git.manifest.escape import printable
from coral_git.pipeline.clean import Source, store_source
from coral_git.pipeline.dropped import note_dropped
from coral_git.pipeline.manifests import StoredManifest, read_manifest
from coral_git.pipeline.workspace import Workspace

_ATTRIBUTES = b".gitattributes"
_HEADS = "refs/heads/"


class NewCheckpoint(NamedTuple):
    """What is said about a checkpoint.

    Attributes:
        run: the name of a run that is there.
        step: its number.
        metrics: what was measured.
        subject: first line of the message of the commit.
        epoch: epochs that have ended; None where nobody counts them.
        labels: words to find it by.
        branch: a branch that the commit is appended to, too; empty for none.
    """

    run: str
    step: int
    metrics: Mapping[str, float] = {}
    subject: str = ""
    epoch: int | None = None
    labels: tuple[str, ...] = ()
    branch: str = ""


def log_metrics(workspace: Workspace, run: str, step: int, metrics: Mapping[str, float]) -> str:
    """Append a step without weights to a run; gives the id of the commit."""
    git = workspace.git
    message = _message(NewCheckpoint(run, step, metrics, f"step {step}"))
    return append_commit(git, RUNS + run, lambda before: tree_with(git, "", before, {}), message)


def store_file(
    workspace: Workspace, run: str, name: str, source: Source, *, is_incremental: bool = True
) -> str:
    """Store a file of a checkpoint; gives the id of the blob with its manifest.

    Args:
        workspace: the repository.
        run: the run; the same file of its last checkpoint is what this one is probably a small change of.
        name: its path from the root of the work tree.
        source: its bytes.
        is_incremental: whether tensors may be stored as differences to others.

    Raises:
        CoralError: the store cannot be written.
        GitError: git refuses.
    """
    path = os.fsencode(name)
    previous = _previous(workspace, path, run) if is_incremental else []
    text = store_source(
        workspace,
        path,
        source,
        previous,
        is_incremental=is_incremental,
        searches=not previous,  # what is no small change of the checkpoint before is none of anything else
    )
    return store_blob(workspace, text)


def store_blob(workspace: Workspace, content: bytes) -> str:
    """Put a small file into git as it is; gives the id of the blob."""
    return workspace.git.run("hash-object", "-w", "--stdin", "--no-filters", input=content).decode().strip()


def commit_checkpoint(
    workspace: Workspace,
    new: NewCheckpoint,
    stored: Mapping[bytes, str],
    plain: Mapping[bytes, str] | None = None,
) -> Checkpoint:
    """Log the step, and keep files in a commit with a ref of its own, which comes last.

    Args:
        workspace: the repository.
        new: what is said about it.
        stored: what ``store_file`` gave, by path from the root of the work tree.
        plain: the same for files that git keeps as they are.

    Raises:
        UsageError: the branch is checked out somewhere, or no branch can have that name.
        GitError: git refuses; the checkpoint is not there then.
    """
    git = workspace.git
    branch = new.branch and _HEADS + new.branch
    if branch:
        _check_free(git, branch, new.branch)
    logged = log_metrics(workspace, new.run, new.step, new.metrics)
    said = new._replace(subject=new.subject or f"checkpoint at step {new.step}")
    message = _message(said, logged if branch else "")
    origin = (tip(git, "HEAD") if branch else "") or logged

    def make_tree(before: str) -> str:
        attributes = _attributes(workspace, f"{before or origin}:{_ATTRIBUTES.decode()}", stored)
        files = {**stored, **(plain or {}), **attributes}
        return tree_with(git, workspace.paths.git_dir, before or origin, files)

    if branch:
        others = [] if tip(git, branch) else [origin]
        commit = append_commit(git, branch, make_tree, message, others=others)
    else:
        made = git.run("commit-tree", make_tree(logged), "-p", logged, input=message.encode())
        commit = made.decode().strip()
    ref = checkpoint_ref(new.run, new.step)
    replaced = tip(git, ref)
    if replaced and replaced != commit:
        note_dropped(workspace, [replaced])
    git.run("update-ref", "-m", "coral", ref, commit)
    return Checkpoint(new.run, new.step, ref, commit)


def stage_checkpoint(workspace: Workspace, stored: Mapping[bytes, str], plain: Mapping[bytes, str]) -> None:
    """Put files into the index, for whoever commits them, and the attributes that let a checkout write them.

    Args:
        workspace: the repository.
        stored: what ``store_file`` gave, by path from the root of the work tree.
        plain: the same for files that git keeps as they are; an empty id takes one away.

    Raises:
        UsageError: the attributes are in conflict.
        GitError: git refuses, e.g. because another one has the lock; the index is what it was then.
    """
    git = workspace.git
    found = [one for one in list_index(git) if one.path == _ATTRIBUTES]
    if any(one.stage for one in found):
        raise UsageError("'.gitattributes' is in conflict", hint="git status")
    attributes = _attributes(workspace, found[0].oid if found else "", stored)
    lines = index_lines(git, {**stored, **plain, **attributes})
    git.run("update-index", "-z", "--index-info", input=lines)


def keep_earlier(workspace: Workspace, run: str, step: int) -> None:
    """Give the checkpoint of a step another ref, so that the next one of this step does not replace it."""
    git = workspace.git
    oid = tip(git, checkpoint_ref(run, step))
    if not oid:
        return
    taken = {one.ref for one in list_checkpoints(git, run)}
    number = next(n for n in itertools.count(2) if checkpoint_ref(run, step, n) not in taken)
    git.run("update-ref", "-m", "coral", checkpoint_ref(run, step, number), oid, "0" * len(oid))


def drop_checkpoints(workspace: Workspace, checkpoints: Iterable[Checkpoint]) -> None:
    """Drop checkpoints; 'git coral gc' frees their weights, and git prunes their commits in time."""
    going = list(checkpoints)
    note_dropped(workspace, [one.oid for one in going])
    for one in going:
        delete_ref(workspace.git, one.ref, one.oid)


def _check_free(git: Git, ref: str, name: str) -> None:
    """Refuse a branch that somebody works on."""
    check_name(git, ref, name)
    places = git.run("worktree", "list", "--porcelain").split(b"\n")
    if b"branch " + os.fsencode(ref) in places:
        raise UsageError(
            f"branch '{printable(name)}' is checked out, and checkpoints would move it",
            hint="name a branch that nobody works on",
        )


def _previous(workspace: Workspace, path: bytes, run: str) -> list[StoredManifest]:
    """What a file probably is a small change of: the last checkpoint, or what the run began with."""
    earlier = list_checkpoints(workspace.git, run)
    revisions = [one.oid for one in earlier[-1:]] + [RUNS + run]
    found = (read_manifest(workspace, revision.encode() + b":" + path) for revision in revisions)
    return [one for one in found if one is not None]


def _attributes(workspace: Workspace, blob: str, files: Iterable[bytes]) -> dict[bytes, str]:
    """The attributes file that lets a checkout write the files, where the one of a blob does not."""
    found = workspace.objects.blob(blob.encode()) if blob else None
    before = after = b"" if found is None else found[1]
    for name in files:
        suffix = os.path.splitext(name)[1]
        pattern = b"*" + suffix if suffix else b"/" + name
        if all(known != pattern for _, known in tracked_lines(after)):
            after = track(after, pattern)
    if after == before:
        return {}
    return {_ATTRIBUTES: store_blob(workspace, after)}


def _message(new: NewCheckpoint, logged: str = "") -> str:
    lines = [f"{RUN}: {new.run}", f"{STEP}: {new.step}"]
    lines += [f"{EPOCH}: {new.epoch}"] if new.epoch is not None else []
    lines += [f"{LOGGED}: {logged}"] if logged else []
    lines += trailer_lines(new.metrics, new.labels)
    return f"{printable(new.subject)}\n\n" + "\n".join(lines) + "\n"
