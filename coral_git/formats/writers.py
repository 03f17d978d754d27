"""Which formats can be written."""

from __future__ import annotations

from coral_git.errors import UsageError
from coral_git.formats.base import FormatWriter
from coral_git.formats.gguf_writer import GgufWriter
from coral_git.formats.hdf5_writer import Hdf5Writer
from coral_git.formats.npy_writer import NpyWriter
from coral_git.formats.npz_writer import NpzWriter
from coral_git.formats.safetensors_writer import SafetensorsWriter
from coral_git.formats.torch_zip_writer import TorchZipWriter

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
