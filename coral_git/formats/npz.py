"""NumPy's ``.npz``: a zip file whose members are ``.npy`` files.

https://numpy.org/doc/stable/reference/generated/numpy.savez.html. Arrays of members that are stored are
tensors. Compressed ones, pickled ones and members that are something else belong to the rest.
"""

from __future__ import annotations

from coral_git.formats.base import Layout, NotThisFormat, TensorSegment
from coral_git.formats.npy import array_segment
from coral_git.limits import Limits
from coral_git.types import ByteSource

SUFFIX = ".npy"
"""How the names of members end; it is no part of the names of arrays."""


class NpzReader:
    """The reader of ``.npz`` files, whatever they are called."""

    name = "npz"
    version = 1

    def sniff(self, head: bytes, size: int) -> bool:
        """Whether the file begins with a member of a zip file."""
        return head.startswith(b"PK\3\4")

    def layout(self, source: ByteSource, limits: Limits) -> Layout:
        """The arrays, in file order.

        Raises:
            NotThisFormat: the file is no plain zip file, or holds no array that is stored.
        """
        from coral_git.formats.zip_index import STORED, read_zip  # only when a file is one

        tensors: list[TensorSegment] = []
        for entry in read_zip(source, limits):
            if entry.method == STORED and entry.name.endswith(SUFFIX):
                try:
                    name = entry.name.removesuffix(SUFFIX)
                    tensors.append(array_segment(source, name, entry.offset, entry.size, limits))
                except NotThisFormat:
                    continue  # what it holds belongs to the rest
        if not tensors:
            raise NotThisFormat("the archive holds no array")
        return Layout(f"{self.name}/{self.version}", tuple(tensors))
