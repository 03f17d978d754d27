"""Distributed checkpoints for everybody else: tensors put together, as an ordinary weight file.

Nothing here needs torch. Memory stays that of a few blocks, however large the tensors are.
"""

from __future__ import annotations

import os
from typing import Unpack

from coral_git.errors import UsageError
from coral_git.formats.base import TensorData
from coral_git.formats.safetensors_writer import SafetensorsWriter, safetensors_header
from coral_git.formats.writers import format_for_path, writer_by_name
from coral_git.git.chains import check_name, replace_entries
from coral_git.history.commits import one_commit
from coral_git.history.tags import NewTag, make_tag
from coral_git.integrations.dcp_checkpoint import Place, StoredCheckpoint, Which
from coral_git.integrations.dcp_index import FOLDER
from coral_git.manifest.escape import printable
from coral_git.pipeline.clean import store_source
from coral_git.pipeline.memory_source import MemorySource
from coral_git.pipeline.replaced_file import ReplacedFile
from coral_git.pipeline.tensor_file import write_tensors
from coral_git.repository.checkpointing import store_blob

_HEADS = "refs/heads/"
_SUFFIX = ".safetensors"


def full_tensors(
    repository: Place, run: str | None = None, *, prefix: str = "", **which: Unpack[Which]
) -> list[TensorData]:
    """The tensors of a distributed checkpoint, put together, each read when its values are needed.

    Args:
        repository: where it is.
        run: the run.
        prefix: only tensors whose names begin so; they are given without it.
        which: which checkpoint; the last one by default.

    Raises:
        UsageError: there is no such checkpoint.
        IntegrityError: it contradicts itself.
        ObjectMissingError: an object cannot be had.
    """
    return StoredCheckpoint(repository, run, which).full_tensors(prefix)


def export_full(
    repository: Place,
    run: str | None,
    out: str | os.PathLike[str],
    *,
    prefix: str = "",
    force: bool = False,
    **which: Unpack[Which],
) -> int:
    """Write the tensors of a distributed checkpoint to one file; gives how many there are.

    Args:
        repository: where it is.
        run: the run.
        out: the file; how its name ends says in which format, safetensors by default.
        prefix: only tensors whose names begin so; they are written without it.
        force: whether an existing file is replaced.
        which: which checkpoint; the last one by default.

    Raises:
        UsageError: there is no such checkpoint, the file exists, or its format has no such dtype.
        IntegrityError: the checkpoint contradicts itself.
        ObjectMissingError: an object cannot be had.
    """
    path = os.fspath(out)
    if os.path.lexists(path) and not force:
        raise UsageError(f"'{printable(path)}' exists", hint="give another name, or force=True")
    writer = writer_by_name(format_for_path(path) or SafetensorsWriter.name)
    tensors = full_tensors(repository, run, prefix=prefix, **which)
    with ReplacedFile(path) as file:
        write_tensors(file, writer, tensors)
    return len(tensors)


def consolidate(
    repository: Place,
    run: str | None = None,
    *,
    file: str = "model.safetensors",
    prefix: str = "",
    tag: str = "",
    branch: str = "",
    **which: Unpack[Which],
) -> str:
    """Commit the tensors of a distributed checkpoint as one weight file; gives the id of the commit.

    Its parent is the commit of the checkpoint; the files of the processes are not in its tree. Neither index
    nor work tree nor HEAD is touched.

    Args:
        repository: where it is.
        run: the run.
        file: the weight file, from the root of the work tree.
        prefix: only tensors whose names begin so; they are stored without it.
        tag: the name of a tag to make.
        branch: the name of a branch to make.
        which: which checkpoint; the last one by default.

    Raises:
        UsageError: there is no such checkpoint, the name is taken, or the file is no ``.safetensors``.
        IntegrityError: the checkpoint contradicts itself.
        ObjectMissingError: an object cannot be had.
    """
    if bool(tag) == bool(branch):
        raise UsageError("a commit needs a name that keeps it: say tag= or branch=")
    if not file.endswith(_SUFFIX) or file.startswith((f"{FOLDER}/", "/")):
        raise UsageError(f"'{printable(file)}' is no place for the weights", hint=f"it ends in '{_SUFFIX}'")
    checkpoint = StoredCheckpoint(repository, run, which)
    workspace, git = checkpoint.workspace, checkpoint.workspace.git
    ref = f"refs/tags/{tag}" if tag else f"{_HEADS}{branch}"
    check_name(git, ref, tag or branch)
    if git.succeeds("show-ref", "--verify", "--quiet", ref):
        raise UsageError(f"'{printable(tag or branch)}' exists already")
    header, ordered = safetensors_header(checkpoint.full_tensors(prefix), {})
    path = os.fsencode(file)
    text = store_source(workspace, path, MemorySource(header, ordered))
    entry = b"100644 " + store_blob(workspace, text).encode() + b"\t" + path + b"\0"
    gone = git.run("ls-tree", "-r", "--name-only", "-z", checkpoint.commit, "--", f"{FOLDER}/")
    lines = [b"0 " + b"0" * len(checkpoint.commit) + b"\t" + one + b"\0" for one in gone.split(b"\0") if one]
    tree = replace_entries(git, workspace.paths.git_dir, checkpoint.commit, b"".join(lines) + entry)
    said = one_commit(git, checkpoint.commit)
    message = f"{said.subject}, in one file\n"
    commit = git.run("commit-tree", tree, "-p", checkpoint.commit, input=message.encode()).decode().strip()
    if tag:
        make_tag(git, NewTag(tag, commit, said.subject, said.facts.metrics))
    else:
        git.run("update-ref", "-m", "coral", ref, commit, "0" * len(commit))
    return commit
