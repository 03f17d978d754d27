"""Files from elsewhere put into the work tree, as they are or in another format or precision, and added."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import NamedTuple

from coral_git.errors import UsageError
from coral_git.formats.base import FormatWriter, Layout, TensorData
from coral_git.formats.registry import read_layout
from coral_git.formats.window import Window
from coral_git.formats.writers import format_for_path, writer_by_name
from coral_git.git.worktree import require_space
from coral_git.limits import MIB
from coral_git.manifest.parse import claims_manifest
from coral_git.pipeline.source import FileSource
from coral_git.pipeline.tensor_file import Progress, write_tensors
from coral_git.pipeline.workspace import Workspace
from coral_git.repository.adding import (
    Place,
    add_files,
    check_places,
    find_place,
    new_file,
    track_weights,
    work_tree,
)
from coral_git.repository.checkpoint_folder import is_checkpoint, open_checkpoint, open_source
from coral_git.repository.source_folder import find_snapshot, list_folder, model_name
from coral_git.types import DType

WEIGHT_SUFFIXES = (
    *(".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".h5", ".hdf5", ".keras"),
    *(".onnx", ".tflite", ".gguf", ".npy", ".npz", ".msgpack"),
)
"""How the names of weights end, whether a reader understands them or not."""

DEFAULT_FORMAT = "safetensors"
"""The format of tensors that come from no single file."""

_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_HEAD_BYTES = 256


class ImportOptions(NamedTuple):
    """How something is imported.

    Attributes:
        format_name: of the new file; by default what its name says, or the format that it has.
        dtype: what float tensors are cast to.
        force: whether existing files are replaced.
        add: whether weights are tracked, and files added to the index.
        progress: is told the file or tensor in hand, the bytes done and those there are.
    """

    format_name: str | None = None
    dtype: DType | None = None
    force: bool = False
    add: bool = True
    progress: Progress | None = None


@dataclass(frozen=True)
class ImportedFile:
    """A file that was written.

    Attributes:
        path: the file, relative to the root of the work tree.
        format: name of the format, with the version of the reader where the file was copied; empty where
            no reader knows it.
        tensors: how many there are in it.
        cast: how many of them have another dtype now.
        size: bytes of the file.
    """

    path: str
    format: str
    tensors: int
    cast: int
    size: int


@dataclass
class ImportReport:
    """What was imported.

    Attributes:
        files: the files.
        patterns: those that are tracked now and were not before.
        left_out: what was not imported: pickled objects by their names, files by their paths.
        commits: how many commits were made.
        tags: the tags that were made.
    """

    files: list[ImportedFile] = field(default_factory=list)
    patterns: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    commits: int = 0
    tags: list[str] = field(default_factory=list)


class _Planned(NamedTuple):
    """A file that is to be written: from where, to where, its bytes there, and whether it is weights."""

    source: str
    place: Place
    size: int
    is_weights: bool


def import_source(
    workspace: Workspace, source: str, path: str | None, options: ImportOptions
) -> ImportReport:
    """Import a file, a folder, or a distributed checkpoint.

    Args:
        workspace: the repository, with a work tree.
        source: a file or a folder.
        path: where it goes; by default a name like that of the source, in the current folder.
        options: how.

    Raises:
        UsageError: there is nothing to import, it cannot be converted so, or a file exists.
        ProblemsFound: ``git add`` failed, and has said why.
        CoralError: a file changed while it was read, or the file system refused; what was not complete is
            as it was.
    """
    if os.path.isfile(source):
        return _import_files(workspace, [_plan_file(workspace, source, path, options)], options)
    if not os.path.isdir(source):
        raise UsageError(f"there is no file or folder '{source}'")
    if is_checkpoint(source):
        with open_checkpoint(source, workspace.limits) as checkpoint:
            report = import_tensors(workspace, checkpoint.tensors, source, path, options)
        others = set(list_folder(source).files) - checkpoint.files
        report.left_out += [*checkpoint.objects, *(os.path.join(source, name) for name in sorted(others))]
        return report
    return _import_folder(workspace, find_snapshot(source), path, options)


def import_tensors(
    workspace: Workspace, tensors: Sequence[TensorData], source: str, path: str | None, options: ImportOptions
) -> ImportReport:
    """Write tensors that come from a folder to one file, and add it.

    Args:
        workspace: the repository, with a work tree.
        tensors: what goes into the file.
        source: the folder, by which the file is called where ``path`` does not say.
        path: where it goes.
        options: how.

    Raises:
        UsageError: there are no tensors, they cannot be written so, or the file exists.
        CoralError: they cannot be read, or the file system refused; the file is as it was.
    """
    if not tensors:
        raise UsageError(f"there are no tensors in '{source}'")
    place, writer = plan_tensors(workspace, source, path, options)
    if options.add:
        check_places(workspace, [place], [place])
    report = ImportReport([write_place(workspace, place, writer, tensors, options)])
    _finish(workspace, report, [place], [place], options)
    return report


def plan_tensors(
    workspace: Workspace, source: str, path: str | None, options: ImportOptions
) -> tuple[Place, FormatWriter]:
    """Where the tensors of a folder go, and in which format.

    Raises:
        UsageError: the format cannot be written, or the file exists.
    """
    named = None if path is None else format_for_path(path)
    writer = writer_by_name(options.format_name or named or DEFAULT_FORMAT)
    wanted = _in_folder(path, model_name(source) + writer.suffixes[0])
    return find_place(workspace, wanted, force=options.force), writer


def write_place(
    workspace: Workspace,
    place: Place,
    writer: FormatWriter,
    tensors: Sequence[TensorData],
    options: ImportOptions,
    check: Callable[[], None] | None = None,
) -> ImportedFile:
    """Write tensors to a file of the work tree.

    Args:
        workspace: the repository.
        place: the file.
        writer: of its format.
        tensors: what goes into it.
        options: how.
        check: called when all is written, before the file takes its place; may raise.

    Raises:
        CoralError: they cannot be read or written; the file is as it was.
    """
    with new_file(workspace, place, force=options.force) as file:
        cast = write_tensors(file, writer, tensors, dtype=options.dtype, progress=options.progress)
        if check is not None:
            check()
        size = file.seek(0, os.SEEK_END)
    return ImportedFile(os.fsdecode(place.path), writer.name, len(tensors), cast, size)


def _plan_file(workspace: Workspace, source: str, path: str | None, options: ImportOptions) -> _Planned:
    name = os.path.basename(os.path.abspath(source))
    if options.format_name is not None:
        name = os.path.splitext(name)[0] + writer_by_name(options.format_name).suffixes[0]
    place = find_place(workspace, _in_folder(path, name), force=options.force)
    plan = _plan(workspace, source, place)
    return plan._replace(is_weights=plan.is_weights or options.format_name is not None)


def _import_folder(
    workspace: Workspace, folder: str, path: str | None, options: ImportOptions
) -> ImportReport:
    """Copy all files of a folder."""
    if options.format_name is not None or options.dtype is not None:
        raise UsageError("the files of a folder are not converted", hint="import them one by one")
    listing = list_folder(folder)
    if not listing.files:
        raise UsageError(f"there are no files in '{folder}'")
    target = model_name(folder) if path is None else path
    planned = []
    for name in listing.files:
        file = os.path.join(folder, name)
        place = find_place(workspace, os.path.join(target, name), force=options.force)
        planned.append(_plan(workspace, file, place))
    report = _import_files(workspace, planned, options)
    report.left_out += listing.left_out
    return report


def _import_files(workspace: Workspace, planned: Sequence[_Planned], options: ImportOptions) -> ImportReport:
    """Write files, track those that are weights, add all."""
    weights = [plan.place for plan in planned if plan.is_weights]
    if options.add:
        check_places(workspace, [plan.place for plan in planned], weights)
    require_space(work_tree(workspace), sum(plan.size for plan in planned))
    report = ImportReport([_import_file(workspace, plan, options) for plan in planned])
    _finish(workspace, report, weights, [plan.place for plan in planned], options)
    return report


def _finish(
    workspace: Workspace,
    report: ImportReport,
    weights: Sequence[Place],
    places: Sequence[Place],
    options: ImportOptions,
) -> None:
    if options.add:
        report.patterns = track_weights(workspace, weights)
        add_files(workspace, [place.path for place in places], attributes=bool(report.patterns))


def _import_file(workspace: Workspace, plan: _Planned, options: ImportOptions) -> ImportedFile:
    """Copy or convert one file."""
    place = plan.place
    with closing(open_source(plan.source)) as source:
        layout = read_layout(source, workspace.limits)
        own = layout.format.partition("/")[0] if layout else ""
        wanted = _new_format(own, plan.source, place.out, options)
        if wanted is not None:
            return _convert(workspace, source, plan, layout, wanted, options)
        with new_file(workspace, place, force=options.force) as file:
            for start in range(0, source.size, MIB):
                file.write(source.read_at(start, MIB))
                if options.progress is not None:
                    options.progress(os.fsdecode(place.path), start, source.size)
            source.check_unchanged()
    tensors = len(layout.tensors) if layout else 0
    return ImportedFile(
        os.fsdecode(place.path), layout.format if layout else "", tensors, 0, source.status.st_size
    )


def _new_format(own: str, source: str, out: str, options: ImportOptions) -> str | None:
    """The format of the new file; None where nothing asks for a change, so that it is copied."""
    wanted = options.format_name
    if wanted is None:
        named = format_for_path(out)
        wanted = own if named in (None, format_for_path(source)) else named
    return None if wanted == own and options.dtype is None else wanted


def _convert(
    workspace: Workspace,
    source: FileSource,
    plan: _Planned,
    layout: Layout | None,
    wanted: str,
    options: ImportOptions,
) -> ImportedFile:
    """Write the tensors of a file anew."""
    if layout is None or not layout.tensors:
        raise UsageError(
            f"no tensors were found in '{plan.source}'",
            hint="it can only be imported as it is, under its name",
        )
    tensors = [
        TensorData(one.name, one.dtype, one.shape, Window(source, one.offset, one.length).read_at)
        for one in layout.tensors
    ]
    return write_place(
        workspace, plan.place, writer_by_name(wanted), tensors, options, source.check_unchanged
    )


def _plan(workspace: Workspace, path: str, place: Place) -> _Planned:
    """What becomes of a file; it is weights by its name, or because a reader finds tensors.

    Raises:
        UsageError: it only stands for weights that are elsewhere.
    """
    with closing(open_source(path)) as source:
        head = bytes(source.read_at(0, _HEAD_BYTES))
        if head.startswith(_LFS_POINTER):
            raise UsageError(f"'{path}' is a pointer of git-lfs, not the file", hint="git lfs pull")
        if claims_manifest(head):
            raise UsageError(f"'{path}' is a manifest, not the file", hint="git coral checkout, where it is")
        named = path.lower().endswith(WEIGHT_SUFFIXES)
        is_weights = named or read_layout(source, workspace.limits) is not None
        return _Planned(path, place, source.size, is_weights)


def _in_folder(path: str | None, name: str) -> str:
    """Where a file goes: to ``path``, or into it where that is a folder."""
    if path is None:
        return name
    return os.path.join(path, name) if os.path.isdir(path) or path.endswith(os.sep) else path
