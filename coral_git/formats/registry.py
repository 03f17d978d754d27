"""Which readers there are, in the order they are asked, and the one way to ask them."""

from __future__ import annotations

import os
import sys

from coral_git.errors import CoralError
from coral_git.formats.base import HEAD_BYTES, MAX_TENSORS, FormatReader, Layout, NotThisFormat
from coral_git.formats.late import LateReader
from coral_git.limits import Limits
from coral_git.types import ByteSource, tensor_bytes

ENTRY_POINT_GROUP = "coral_git.formats"
"""Installed packages offer further readers here: objects, or classes to be called without arguments."""

_ZIP = (b"PK\3\4",)
_MAPS = tuple(bytes([first]) for first in (*range(0x81, 0x90), 0xDE, 0xDF))

READERS: tuple[FormatReader, ...] = (
    LateReader("safetensors", "safetensors:SafetensorsReader", (b"{",), sign_at=8),
    LateReader("torch-zip", "torch_zip:TorchZipReader", _ZIP),
    LateReader("torch-legacy", "torch_legacy:TorchLegacyReader", (b"\x80",)),
    LateReader("npy", "npy:NpyReader", (b"\x93NUMPY",)),
    LateReader("keras", "keras:KerasReader", _ZIP),
    LateReader("npz", "npz:NpzReader", _ZIP),
    LateReader("gguf", "gguf:GgufReader", (b"GGUF",)),
    LateReader("hdf5", "hdf5:Hdf5Reader"),  # a block of the user's may precede the signature
    LateReader("tflite", "tflite:TfliteReader", (b"TFL3",), sign_at=4),
    LateReader("mlpackage", "mlpackage:MlpackageReader", (b"\2\0\0\0",), sign_at=4),
    LateReader("onnx", "onnx:OnnxReader", (b"\x08",)),
    LateReader("msgpack", "msgpack:MsgpackReader", _MAPS),
)
"""coral-git's own readers. The first that understands a file wins; installed ones are asked after them."""


def read_layout(source: ByteSource, limits: Limits) -> Layout | None:
    """How a file falls into tensors, or None when no reader understands it.

    Whatever happens in a reader, including running out of memory or of stack, means that it does not.
    """
    head = source.read_at(0, HEAD_BYTES)
    for reader in READERS:
        layout = _ask(reader, head, source, limits)
        if layout is not None:
            return layout
    for reader in _installed():
        layout = _ask(reader, head, source, limits)
        if layout is not None:
            return layout
    return None


def check_layout(layout: Layout, size: int, limits: Limits) -> None:
    """Refuse a layout that no manifest could express, whoever proposed it.

    Raises:
        NotThisFormat: tensors overlap, exceed the file, share a name, or have odd names, shapes or lengths.
    """
    if len(layout.tensors) > MAX_TENSORS:
        raise NotThisFormat("too many tensors")
    if len({tensor.name for tensor in layout.tensors}) != len(layout.tensors):
        raise NotThisFormat("two tensors have the same name")
    end = 0
    for tensor in layout.tensors:
        if tensor.offset < end:
            raise NotThisFormat("tensors overlap or are out of order")
        if len(tensor.shape) > limits.rank or (
            tensor.shape and not 0 <= min(tensor.shape) <= max(tensor.shape) < 1 << 63
        ):
            raise NotThisFormat("a tensor has an odd shape")
        if tensor.length != tensor_bytes(tensor.dtype, tensor.shape):
            raise NotThisFormat("a tensor has the wrong length")
        if len(tensor.name.encode()) > limits.name_bytes:
            raise NotThisFormat("a tensor has a long name")
        end = tensor.offset + tensor.length
    if end > size:
        raise NotThisFormat("a tensor exceeds the file")


def _ask(reader: FormatReader, head: bytes, source: ByteSource, limits: Limits) -> Layout | None:
    try:
        if not reader.sniff(head, source.size):
            return None
        layout = reader.layout(source, limits)
        if layout.format != f"{reader.name}/{reader.version}":
            return None
        check_layout(layout, source.size, limits)
    except Exception:  # noqa: BLE001 - readers are advisers: a file that breaks one is stored in chunks
        return None
    return layout


_cached: tuple[FormatReader, ...] | None = None


def _installed() -> tuple[FormatReader, ...]:
    """Readers from other packages; looked up once, and only when coral-git's own do not know a file."""
    global _cached
    if _cached is None:
        _cached = load_installed() if _anything_installed() else ()
    return _cached


def load_installed() -> tuple[FormatReader, ...]:
    """The readers that other packages offer, ordered by name; one that cannot be loaded is left out.

    Raises:
        CoralError: two readers have the same name.
    """
    from importlib.metadata import entry_points

    taken = {reader.name for reader in READERS}
    readers: list[FormatReader] = []
    for point in sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda point: (point.name, point.value)):
        try:
            loaded = point.load()
            reader: FormatReader = loaded() if isinstance(loaded, type) else loaded
            name = reader.name
        except Exception:  # noqa: BLE001, S112 - a reader that does not load advises nothing
            continue
        if name in taken:
            raise CoralError(
                f"two format readers are called '{name}'",
                hint=f"uninstall the package that has '{point.value}'",
            )
        taken.add(name)
        readers.append(reader)
    return tuple(readers)


def _anything_installed() -> bool:
    """Whether any entry-point file on the path mentions the group: cheaper than to import the machinery."""
    wanted = f"[{ENTRY_POINT_GROUP}]".encode()
    for folder in sys.path:
        try:
            names = os.listdir(folder or ".")
        except OSError:
            continue
        for name in names:
            if name.endswith((".dist-info", ".egg-info")) and wanted in _read(folder, name):
                return True
    return False


def _read(folder: str, name: str) -> bytes:
    try:
        with open(os.path.join(folder, name, "entry_points.txt"), "rb") as file:
            return file.read()
    except OSError:
        return b""
