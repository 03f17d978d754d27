"""Writes HDF5: h5py makes a file with room for the values, which are then written to their places."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

from coral_git.errors import UsageError
from coral_git.formats.base import TensorData
from coral_git.formats.h5py_library import load_h5py

if TYPE_CHECKING:
    import h5py

_CODES = {"BOOL": "|b1", "U8": "|u1", "I8": "|i1", "C64": "<c8", "C128": "<c16"} | {
    f"{kind}{8 * size}": f"<{kind.lower()}{size}" for kind in "UIF" for size in (2, 4, 8)
}
_CODES |= {f"{name}_BE": code.replace("<", ">") for name, code in _CODES.items() if code.startswith("<")}
_MOST_DIMENSIONS = 32


class Hdf5Writer:
    """The writer of ``.h5`` files; needs h5py."""

    name = "hdf5"
    suffixes = (".h5", ".hdf5")

    def write(self, out: BinaryIO, tensors: Sequence[TensorData], metadata: Mapping[str, str]) -> None:
        """Write the tensors in this order, each as a contiguous dataset; slashes in names make groups.

        Metadata becomes attributes of the root group, but for what holds a NUL, which they cannot.

        Raises:
            UsageError: h5py is not installed, it has no such dtype or not that many dimensions, or a name is
                not that of a dataset.
        """
        _check(tensors)
        h5py = load_h5py("HDF5 files are written")
        with h5py.File(out, "w") as file:
            places = [_add(h5py, file, tensor) for tensor in tensors]
            for key, value in metadata.items():
                if key and "\0" not in key + value:
                    file.attrs[key] = value
        for tensor, place in zip(tensors, places, strict=True):
            out.seek(place)
            for piece in tensor.pieces():
                out.write(piece)


def _check(tensors: Sequence[TensorData]) -> None:
    """Refuse what no such file can hold, before anything is written."""
    groups: set[str] = set()
    for tensor in tensors:
        if tensor.dtype.name not in _CODES:
            raise UsageError(
                f"the tensor {tensor.name!a} has the dtype {tensor.dtype.name}, which h5py does not have",
                hint="choose another with '--dtype', e.g. '--dtype F32'",
            )
        if len(tensor.shape) > _MOST_DIMENSIONS:
            raise UsageError(f"the tensor {tensor.name!a} has more dimensions than HDF5 takes")
        parts = tensor.name.split("/")
        if "\0" in tensor.name or not {"", "."}.isdisjoint(parts):
            raise UsageError(f"the tensor {tensor.name!a} has a name that no HDF5 dataset can have")
        groups.update("/".join(parts[:depth]) for depth in range(1, len(parts)))
    for tensor in tensors:
        if tensor.name in groups:
            raise UsageError(f"the tensor {tensor.name!a} has the name of a group of others")


def _add(h5py: Any, file: h5py.File, tensor: TensorData) -> int:  # noqa: ANN401 - a module without types
    """Make a dataset without values; where in the file they belong."""
    import numpy as np

    settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    settings.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    settings.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    settings.set_obj_track_times(False)
    linking = h5py.h5p.create(h5py.h5p.LINK_CREATE)
    linking.set_create_intermediate_group(True)
    if not tensor.name.isascii():  # h5py does the same; it makes groups that old programs cannot read
        linking.set_char_encoding(h5py.h5t.CSET_UTF8)
    made = h5py.h5d.create(
        file.id,
        tensor.name.encode("utf-8"),
        h5py.h5t.py_create(np.dtype(_CODES[tensor.dtype.name]), logical=True),
        h5py.h5s.create_simple(tensor.shape),
        settings,
        linking,
    )
    return int(made.get_offset()) if tensor.length else 0
