"""One tensor of a stored file, or the whole file, written to a stream. Only what is needed is fetched."""

from __future__ import annotations

from typing import BinaryIO

from coral_git.errors import ObjectMissingError, UsageError
from coral_git.formats.base import TensorData
from coral_git.formats.casting import as_dtype
from coral_git.formats.npy_writer import NpyWriter
from coral_git.manifest.entries import Manifest
from coral_git.manifest.escape import escape_name
from coral_git.manifest.model import object_ids
from coral_git.pipeline.decode import stream_file
from coral_git.pipeline.parallel import Workers
from coral_git.pipeline.tensors import stored_tensors
from coral_git.pipeline.workspace import Workspace
from coral_git.types import DTYPES, ObjectId

_WITHOUT_NUMPY = frozenset({"BF16"})


def find_tensor(workspace: Workspace, manifest: Manifest, name: str) -> TensorData:
    """A tensor of a file, all of whose objects are here now.

    Raises:
        UsageError: the file has no such tensor.
        ObjectMissingError: an object cannot be had.
    """
    entry = next((one for one in manifest.tensors if name in (one.name, escape_name(one.name))), None)
    if entry is None:
        import difflib

        near = difflib.get_close_matches(name, [one.name for one in manifest.tensors], n=3, cutoff=0.4)
        hint = (
            f"did you mean {' or '.join(escape_name(one) for one in near)}?"
            if near
            else "see git coral ls-tree"
        )
        raise UsageError(f"there is no tensor '{escape_name(name)}'", hint=hint)
    bring(workspace, entry.objects, f"tensor '{escape_name(name)}'")
    return next(one for one in stored_tensors(manifest, workspace.store) if one.name == entry.name)


def write_npy(tensor: TensorData, out: BinaryIO) -> None:
    """Write a tensor as numpy keeps arrays; bfloat16, which numpy does not have, as float32.

    Raises:
        UsageError: numpy has no such dtype.
    """
    if tensor.dtype.name in _WITHOUT_NUMPY:
        tensor = as_dtype(tensor, DTYPES["F32"])
    NpyWriter().write(out, [tensor], {})


def write_raw(tensor: TensorData, out: BinaryIO) -> None:
    """Write the bytes of a tensor."""
    for piece in tensor.pieces():
        out.write(piece)


def write_text(tensor: TensorData, out: BinaryIO) -> None:
    """Write a value on each line, in the order of the bytes; enough digits to give the same value back.

    Raises:
        UsageError: its units are no numbers.
    """
    from coral_git.diff.numbers import exact_numbers, has_numbers, width_of  # imports numpy

    if not has_numbers(tensor.dtype):
        raise UsageError(
            f"the units of {tensor.dtype.name} are no numbers",
            hint="git coral cat --format raw writes the bytes",
        )
    width = width_of(tensor.dtype)
    rest = b""
    for piece in tensor.pieces():
        data = rest + bytes(piece)
        whole = len(data) // width * width
        rest = data[whole:]
        values = exact_numbers(data[:whole], tensor.dtype)
        out.write("".join(f"{one!r}\n" for one in values).encode())


def write_file(workspace: Workspace, manifest: Manifest, out: BinaryIO) -> None:
    """Write a whole file, byte for byte.

    Raises:
        ObjectMissingError: an object cannot be had; nothing was written then.
    """
    bring(workspace, object_ids(manifest), "the file")
    with Workers(workspace.settings.threads) as workers:
        for data in stream_file(manifest, workspace.store, workers):
            out.write(data)


def bring(workspace: Workspace, wanted: tuple[ObjectId, ...], what: str) -> None:
    """Fetch objects that are not here.

    Raises:
        ObjectMissingError: one cannot be had.
    """
    from coral_git.pipeline.closure import find_incomplete

    missing = find_incomplete(workspace.store, wanted)
    if missing:
        from coral_git.pipeline.fetch import fetch_objects

        missing = fetch_objects(workspace, missing)
    if missing:
        raise ObjectMissingError(
            f"{what} misses {len(missing)} object{'s' if len(missing) != 1 else ''}", hint="git coral fetch"
        )
