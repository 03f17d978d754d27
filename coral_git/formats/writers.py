"""Which formats can be written, and which files can be overwritten in place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from coral_git.errors import UsageError
from coral_git.formats.base import FormatWriter, Layout, Mender, TensorSegment
from coral_git.formats.gguf_writer import GgufWriter
from coral_git.formats.npy_writer import NpyWriter
from coral_git.formats.npz_writer import NpzWriter
from coral_git.formats.safetensors_writer import SafetensorsWriter
from coral_git.formats.torch_zip_writer import TorchZipWriter
from coral_git.formats.zip_mender import ZipMender


class NothingToMend(NamedTuple):
    """The mender of a format without checksums: its files may be overwritten in place as they are.

    Attributes:
        name: the name of its reader.
    """

    name: str

    def mend(self, fd: int, layout: Layout, changed: Sequence[TensorSegment]) -> None:
        """Do nothing."""


WRITERS: tuple[FormatWriter, ...] = (
    SafetensorsWriter(),
    NpzWriter(),
    NpyWriter(),
    GgufWriter(),
    TorchZipWriter(),
)
"""The writers; the endings of their file names differ."""

MENDERS: tuple[Mender, ...] = (
    NothingToMend("safetensors"),
    NothingToMend("npy"),
    NothingToMend("gguf"),
    NothingToMend("onnx"),
    NothingToMend("tflite"),
    NothingToMend("msgpack"),
    NothingToMend("mlpackage"),
    ZipMender("npz"),
    ZipMender("torch-zip"),
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
    raise UsageError(f"cannot write the format {name!a}", hint=f"choose one of: {known}")


def writer_for_path(path: str) -> FormatWriter:
    """The writer for a file, by the end of its name.

    Raises:
        UsageError: it ends like those of no format.
    """
    for writer in WRITERS:
        if path.lower().endswith(writer.suffixes):
            return writer
    known = ", ".join(suffix for writer in WRITERS for suffix in writer.suffixes)
    raise UsageError(
        f"cannot tell the format of {path!a} by its name", hint=f"let it end with one of: {known}"
    )


def mender_by_name(format_name: str) -> Mender | None:
    """The mender of a format, or None where its files cannot be overwritten in place.

    Args:
        format_name: the name of the reader, with its version (``"npz/1"``) or without.
    """
    name = format_name.partition("/")[0]
    return next((mender for mender in MENDERS if mender.name == name), None)
