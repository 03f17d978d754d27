"""Which files can be overwritten in place, and what has to be put right in them afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from coral_git.formats.base import Checksum, Layout, Mender
from coral_git.formats.zip_mender import ZipMender
from coral_git.types import ByteSource


class NothingToMend(NamedTuple):
    """The mender of a format without checksums: its files may be overwritten in place as they are.

    Attributes:
        name: the name of its reader.
    """

    name: str

    def checksums(self, source: ByteSource, layout: Layout) -> Sequence[Checksum]:
        """None."""
        return ()

    def volatile(self, source: ByteSource, layout: Layout) -> Sequence[tuple[int, int]]:
        """None."""
        return ()


MENDERS: tuple[Mender, ...] = (
    NothingToMend("safetensors"),
    NothingToMend("npy"),
    NothingToMend("gguf"),
    NothingToMend("hdf5"),
    NothingToMend("onnx"),
    NothingToMend("tflite"),
    NothingToMend("msgpack"),
    NothingToMend("mlpackage"),
    ZipMender("npz"),
    ZipMender("keras"),
    ZipMender("torch-zip", "/.data/serialization_id"),
)
"""One for each format whose files can be overwritten in place."""


def mender_by_name(format_name: str) -> Mender | None:
    """The mender of a format, or None where its files cannot be overwritten in place.

    Args:
        format_name: the name of the reader, with its version (``"npz/1"``) or without.
    """
    name = format_name.partition("/")[0]
    return next((mender for mender in MENDERS if mender.name == name), None)
