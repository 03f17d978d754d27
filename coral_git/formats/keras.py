"""Keras 3's ``.keras``: a zip file with the configuration as JSON, and the weights as an HDF5 file.

https://keras.io/guides/serialization_and_saving. The weights are named as in that file; the other members are
rest. Keras stores its members; one that was compressed later holds no tensors for us.
"""

from __future__ import annotations

from coral_git.formats.base import Layout, NotThisFormat
from coral_git.formats.window import Window
from coral_git.limits import Limits
from coral_git.types import ByteSource

WEIGHTS = "model.weights.h5"
"""The member with the weights."""


class KerasReader:
    """The reader of ``.keras`` files."""

    name = "keras"
    version = 1

    def sniff(self, head: bytes, size: int) -> bool:
        """Whether the file begins with a member of a zip file."""
        return head.startswith(b"PK\3\4")

    def layout(self, source: ByteSource, limits: Limits) -> Layout:
        """The datasets of the weights, in the order of their bytes.

        Raises:
            NotThisFormat: the file is no plain zip file, or its weights are missing, compressed or strange.
        """
        from coral_git.formats.hdf5 import find_tensors  # only when a file is one
        from coral_git.formats.zip_index import STORED, read_zip

        for entry in read_zip(source, limits):
            if entry.name == WEIGHTS and entry.method == STORED:
                window = Window(source, entry.offset, entry.size)
                return Layout(f"{self.name}/{self.version}", find_tensors(window, limits))
        raise NotThisFormat("the archive holds no weights as they are")
