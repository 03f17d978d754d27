"""Which formats can be written, and which files can be overwritten in place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from coral_git.errors import UsageError
from coral_git.formats.base import Checksum, FormatWriter, Layout, Mender
from coral_git.formats.gguf_writer import GgufWriter
from coral_git.formats.hdf5_writer import Hdf5Writer
from coral_git.formats.npy_writer import NpyWriter
from coral_git.formats.npz_writer import NpzWriter
from coral_git.formats.safetensors_writer import SafetensorsWriter
from coral_git.formats.torch_zip_writer import TorchZipWriter
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


WRITERS: tuple[FormatWriter, ...] = (
    SafetensorsWriter(),
    NpzWriter(),
    NpyWriter(),
    GgufWriter(),
    TorchZipWriter(),
    Hdf5Writer(),
)
"""The writers; the endings of their file names differ."""

GRAPH_FORMATS = {"onnx": (".onnx",), "tflite": (".tflite",)}
"""Formats without a writer, and how the names of their files end: a graph is needed, not only tensors."""

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


def writer_by_name(name: str) -> FormatWriter:
    """The writer of a format.

    Raises:
        UsageError: there is none.
    """
    for writer in WRITERS:
        if writer.name == name:
            return writer
    known = ", ".join(writer.name for writer in WRITERS)
    reason = ": it needs a graph, and tensors have none" if name in GRAPH_FORMATS else ""
    raise UsageError(f"cannot write the format {name!a}{reason}", hint=f"choose one of: {known}")


def format_for_path(path: str) -> str | None:
    """The format that the name of a file stands for, whether there is a writer or not."""
    endings = {**GRAPH_FORMATS, **{writer.name: writer.suffixes for writer in WRITERS}}
    return next((name for name, suffixes in endings.items() if path.lower().endswith(suffixes)), None)


def mender_by_name(format_name: str) -> Mender | None:
    """The mender of a format, or None where its files cannot be overwritten in place.

    Args:
        format_name: the name of the reader, with its version (``"npz/1"``) or without.
    """
    name = format_name.partition("/")[0]
    return next((mender for mender in MENDERS if mender.name == name), None)
