"""Writes ``.npz``, as ``numpy.savez`` does: a zip file of stored arrays. And mends their checksums."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import BinaryIO

from coral_git.errors import UsageError
from coral_git.formats.base import TensorData
from coral_git.formats.npy_writer import npy_header
from coral_git.formats.npz import SUFFIX
from coral_git.formats.zip_writer import ZipWriter
from coral_git.types import Buffer

_LONGEST_NAME = 0xFFFF - len(SUFFIX)


class NpzWriter:
    """The writer of ``.npz`` files."""

    name = "npz"
    suffixes = (".npz",)

    def write(self, out: BinaryIO, tensors: Sequence[TensorData], metadata: Mapping[str, str]) -> None:
        """Write the tensors in this order; the metadata has no place in such a file.

        Raises:
            UsageError: numpy has no such dtype, or a name cannot be that of a member.
        """
        headers = [npy_header(tensor) for tensor in tensors]  # all of them before the first byte
        for tensor in tensors:
            if "\0" in tensor.name or len(tensor.name.encode("utf-8")) > _LONGEST_NAME:
                raise UsageError(f"the tensor {tensor.name!a} has a name that a .npz file cannot have")
        archive = ZipWriter(out)
        for tensor, header in zip(tensors, headers, strict=True):
            archive.add(tensor.name + SUFFIX, len(header) + tensor.length, _member(tensor, header))
        archive.close()


def _member(tensor: TensorData, header: bytes) -> Iterator[Buffer]:
    yield header
    yield from tensor.pieces()
