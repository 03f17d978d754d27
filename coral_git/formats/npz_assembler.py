"""Puts a ``.npz`` file together, where it has nothing but arrays that are not compressed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import BinaryIO

from coral_git.errors import UsageError
from coral_git.formats.base import CannotAssemble, TensorData
from coral_git.formats.npy_header import parse_header
from coral_git.formats.npz import NpzReader
from coral_git.formats.npz_writer import NpzWriter
from coral_git.formats.zip_index import read_zip
from coral_git.limits import DEFAULT_LIMITS
from coral_git.types import ByteSource


class NpzAssembler:
    """The assembler of ``.npz`` files."""

    name = "npz"

    def assemble(
        self,
        out: BinaryIO,
        base: ByteSource | None,
        sides: Sequence[ByteSource],
        tensors: Sequence[TensorData],
        prefers: int | None,
    ) -> None:
        """Write an archive of these arrays.

        Raises:
            CannotAssemble: a side has members that are no plain arrays.
            NotThisFormat: a version is no such archive.
        """
        for side in sides:
            layout = NpzReader().layout(side, DEFAULT_LIMITS)
            members = read_zip(side, DEFAULT_LIMITS)
            if len(members) != len(layout.tensors):
                raise CannotAssemble("a side has members that are no plain arrays")
            for member, tensor in zip(members, layout.tensors, strict=True):
                if not _is_plain(side.read_at(member.offset, tensor.offset - member.offset)):
                    raise CannotAssemble(f"the array {tensor.name!a} is structured, or in Fortran's order")
        try:
            NpzWriter().write(out, tensors, {})
        except UsageError as error:
            raise CannotAssemble(error.message) from error


def _is_plain(head: bytes) -> bool:
    """Whether an array is what its tensor says: in the order of C, of numbers that have a name."""
    header = parse_header(head, DEFAULT_LIMITS)
    return header.item is None and not (header.fortran and len(header.shape) > 1)
