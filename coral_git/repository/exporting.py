"""Stored weights written to a file, as they are or in another format or precision."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

from coral_git.errors import ObjectMissingError, UsageError
from coral_git.formats.base import FormatWriter, TensorData
from coral_git.formats.writers import GRAPH_FORMATS, format_for_path, writer_by_name
from coral_git.manifest.entries import Manifest
from coral_git.pipeline.decode import expanded, stream_file
from coral_git.pipeline.manifests import read_manifest
from coral_git.pipeline.messages import missing_message
from coral_git.pipeline.missing import bring_objects
from coral_git.pipeline.parallel import Workers
from coral_git.pipeline.replaced_file import ReplacedFile
from coral_git.pipeline.tensor_file import Progress, write_tensors
from coral_git.pipeline.tensors import stored_tensors
from coral_git.pipeline.workspace import Workspace
from coral_git.types import DType


@dataclass(frozen=True)
class ExportReport:
    """What was written.

    Attributes:
        out: the file.
        format: its format, with the version of the reader where it is the stored file itself.
        tensors: how many tensors went into it; 0 where none were told apart.
        cast: how many of them have another dtype now.
        size: bytes of the file.
    """

    out: str
    format: str
    tensors: int
    cast: int
    size: int


def export(
    workspace: Workspace,
    revision: bytes,
    path: bytes,
    out: str,
    *,
    format_name: str | None = None,
    dtype: DType | None = None,
    patterns: Sequence[str] = (),
    force: bool = False,
    progress: Progress | None = None,
) -> ExportReport:
    """Write one file of a revision; what it lacks here is fetched first.

    Without anything that changes it, the file comes out byte for byte.

    Args:
        workspace: the repository.
        revision: a commit, or the empty string for the index.
        path: the file there, relative to the root.
        out: where to write.
        format_name: of the new file; by default what the name of ``out`` says, or the format of the file.
        dtype: what float tensors are cast to.
        patterns: shell patterns of the tensors that are written; all by default.
        force: whether an existing file is replaced.
        progress: is told the tensor in hand, the bytes done and those there are.

    Raises:
        UsageError: there is no such file of weights, it cannot be written so, or ``out`` exists.
        ObjectMissingError: objects are missing and cannot be fetched.
        CoralError: an object is damaged, or the file system refused; ``out`` is as it was.
    """
    manifest = _find(workspace, revision, path)
    own = manifest.format.partition("/")[0]
    writer = _writer(own, out, format_name)
    if os.path.lexists(out) and not force:
        raise UsageError(f"'{out}' exists", hint="give another name, or --force")
    if (writer is None or writer.name == own) and dtype is None and not patterns:
        with ReplacedFile(out) as file, Workers(workspace.settings.threads) as workers:
            _copy(manifest, workspace, workers, file, progress)
        return ExportReport(out, manifest.format, manifest.tensor_count or 0, 0, manifest.size)
    if writer is None:
        writer = writer_by_name(own)
    tensors = _chosen(manifest, workspace, path, patterns)
    with ReplacedFile(out) as file:
        cast = write_tensors(file, writer, tensors, dtype=dtype, progress=progress)
    return ExportReport(out, writer.name, len(tensors), cast, os.path.getsize(out))


def _find(workspace: Workspace, revision: bytes, path: bytes) -> Manifest:
    """The expanded manifest of a file all of whose objects are here."""
    shown = f"'{os.fsdecode(path)}' of '{os.fsdecode(revision) or 'the index'}'"
    found = read_manifest(workspace, revision + b":" + path)
    if found is None:
        raise UsageError(f"{shown} is no file of weights", hint="git coral ls-files")
    missing = bring_objects(workspace, [(path, found.manifest)])
    if missing:
        raise missing_message(path, found.manifest, missing)
    try:
        return expanded(found.manifest, workspace.store)
    except ObjectMissingError as error:
        raise missing_message(
            path, found.manifest, [table.object_id for table in found.manifest.tables]
        ) from error


def _writer(own: str, out: str, format_name: str | None) -> FormatWriter | None:
    """The writer that is asked for; None where nothing is, and the file can only be copied."""
    if format_name is not None:
        return None if format_name == own else writer_by_name(format_name)
    name = format_for_path(out)
    return None if name is None or (name == own and name in GRAPH_FORMATS) else writer_by_name(name)


def _chosen(
    manifest: Manifest, workspace: Workspace, path: bytes, patterns: Sequence[str]
) -> list[TensorData]:
    if manifest.tensor_count is None:
        raise UsageError(
            f"no tensors were found in '{os.fsdecode(path)}'",
            hint="without --format, --dtype and --tensor it is written as it is",
        )
    tensors = stored_tensors(manifest, workspace.store)
    if patterns:
        tensors = [one for one in tensors if any(fnmatch.fnmatchcase(one.name, glob) for glob in patterns)]
        if not tensors:
            raise UsageError(f"no tensor matches {', '.join(map(ascii, patterns))}")
    return tensors


def _copy(
    manifest: Manifest, workspace: Workspace, workers: Workers, file: BinaryIO, progress: Progress | None
) -> None:
    done = 0
    for data in stream_file(manifest, workspace.store, workers):
        file.write(data)
        done += len(data)
        if progress is not None:
            progress("", done, manifest.size)
