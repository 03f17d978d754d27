"""Writes ``.npy``: one array."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import BinaryIO

from coral_git.errors import UsageError
from coral_git.formats.base import TensorData
from coral_git.formats.npy import MAGIC

_CODES = {"BOOL": "|b1", "U8": "|u1", "I8": "|i1", "C64": "<c8", "C128": "<c16"} | {
    f"{kind}{8 * size}": f"<{kind.lower()}{size}" for kind in "UIF" for size in (2, 4, 8)
}
_ALIGNMENT = 64
_ROOM = 21
"""Digits that numpy leaves for the first dimension to grow, so that arrays may be appended to."""


class NpyWriter:
    """The writer of ``.npy`` files."""

    name = "npy"
    suffixes = (".npy",)

    def write(self, out: BinaryIO, tensors: Sequence[TensorData], metadata: Mapping[str, str]) -> None:
        """Write exactly one tensor; its name and the metadata have no place in such a file.

        Raises:
            UsageError: there are none or several, or numpy has no such dtype.
        """
        if len(tensors) != 1:
            raise UsageError(
                f"a .npy file holds one tensor, not {len(tensors)}", hint="choose one, or write a .npz file"
            )
        out.write(npy_header(tensors[0]))
        for piece in tensors[0].pieces():
            out.write(piece)


def npy_header(tensor: TensorData) -> bytes:
    """What comes before the values of an array, byte for byte as numpy writes it (version 1.0).

    Raises:
        UsageError: numpy has no such dtype.
    """
    name = tensor.dtype.name
    code = _CODES.get(name.removesuffix("_BE"))
    if code is None:
        raise UsageError(
            f"the tensor {tensor.name!a} has the dtype {name}, which numpy does not have",
            hint="choose another with '--dtype', e.g. '--dtype F32'",
        )
    if name.endswith("_BE"):
        code = code.replace("<", ">")
    text = f"{{'descr': '{code}', 'fortran_order': False, 'shape': {tensor.shape}, }}"
    if tensor.shape:
        text += " " * (_ROOM - len(str(tensor.shape[0])))
    text += " " * (-(len(MAGIC) + 4 + len(text) + 1) % _ALIGNMENT) + "\n"
    return MAGIC + b"\x01\x00" + len(text).to_bytes(2, "little") + text.encode("ascii")
