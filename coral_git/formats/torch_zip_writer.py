"""Writes what ``torch.save`` writes of a state dict: names and tensors, each in a storage of its own.

``torch.load`` reads it with ``weights_only=True``. The pickle uses no opcodes but those of torch itself.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import BinaryIO

from coral_git.errors import UsageError
from coral_git.formats.base import TensorData
from coral_git.formats.torch_dtypes import ATTRIBUTE_OF, BY_ATTRIBUTE, STORAGE_OF
from coral_git.formats.zip_writer import ZipWriter

_FOLDER = "archive"
_ALIGNMENT = 64
_VERSION = b"3\n"
_PROTOCOL = b"\x80\x02"
_ORDERED_DICT = b"ccollections\nOrderedDict\n)R"
_FLOAT4_PAIR = "float4_e2m1fn_x2"
_PLAIN_DTYPES = {**ATTRIBUTE_OF, "F4": _FLOAT4_PAIR}


class TorchZipWriter:
    """The writer of ``.pt`` files."""

    name = "torch-zip"
    suffixes = (".pt", ".pth", ".bin", ".ckpt")

    def write(self, out: BinaryIO, tensors: Sequence[TensorData], metadata: Mapping[str, str]) -> None:
        """Write a state dict; there is no place for ``metadata`` in it.

        Raises:
            UsageError: torch has no such dtype.
            IntegrityError: a tensor is shorter than its shape says.
        """
        archive = ZipWriter(out, alignment=_ALIGNMENT)
        pickled = b"".join(_pickle(tensors))
        archive.add(f"{_FOLDER}/data.pkl", len(pickled), [pickled])
        archive.add(f"{_FOLDER}/byteorder", len(b"little"), [b"little"])
        for key, tensor in enumerate(tensors):
            archive.add(f"{_FOLDER}/data/{key}", tensor.length, tensor.pieces())
        archive.add(f"{_FOLDER}/version", len(_VERSION), [_VERSION])
        archive.close()


def _pickle(tensors: Sequence[TensorData]) -> Iterator[bytes]:
    """The pickle of an ``OrderedDict`` of tensors; the storages have their positions as keys."""
    yield _PROTOCOL + _ORDERED_DICT + b"("
    for key, tensor in enumerate(tensors):
        yield _text(tensor.name) + _rebuild(tensor, str(key))
    yield b"u."


def _rebuild(tensor: TensorData, key: str) -> bytes:
    """A call that makes a tensor, as torch has it for dtypes with a storage class and for those without."""
    attribute, shape = _as_torch_sees_it(tensor)
    storage = STORAGE_OF.get(attribute)
    if storage:
        version, kind, dtype = "v2", f"ctorch\n{storage}\n", b""
    else:
        version, kind, dtype = "v3", "ctorch.storage\nUntypedStorage\n", f"ctorch\n{attribute}\n".encode()
    count = tensor.length // (BY_ATTRIBUTE[attribute].width if storage else 1)
    place = b"(" + _text("storage") + kind.encode() + _text(key) + _text("cpu") + _integer(count) + b"tQ"
    view = _integer(0) + _tuple(shape) + _tuple(_strides(shape))
    function = f"ctorch._utils\n_rebuild_tensor_{version}\n".encode()
    return function + b"(" + place + view + b"\x89" + _ORDERED_DICT + dtype + b"tR"


def _as_torch_sees_it(tensor: TensorData) -> tuple[str, tuple[int, ...]]:
    """The dtype as an attribute of ``torch``, and the shape in its elements.

    Raises:
        UsageError: torch has no such dtype, or not in this shape.
    """
    attribute = _PLAIN_DTYPES.get(tensor.dtype.name)
    if attribute is None:
        raise UsageError(
            f"torch has no dtype {tensor.dtype.name}, which the tensor '{tensor.name}' has",
            hint="convert the tensor to another dtype first",
        )
    if attribute != _FLOAT4_PAIR:
        return attribute, tensor.shape
    if not tensor.shape or tensor.shape[-1] % 2:
        raise UsageError(
            f"torch keeps values of F4 in pairs, and the last dimension of the tensor '{tensor.name}' is odd",
            hint="convert the tensor to another dtype first",
        )
    return attribute, (*tensor.shape[:-1], tensor.shape[-1] // 2)


def _strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The elements between neighbours along each dimension, in the order of C."""
    strides = []
    step = 1
    for dimension in reversed(shape):
        strides.append(step)
        step *= max(dimension, 1)
    return tuple(reversed(strides))


def _text(value: str) -> bytes:
    raw = value.encode()
    return b"X" + struct.pack("<L", len(raw)) + raw


def _integer(value: int) -> bytes:
    if value < 1 << 31:
        return b"J" + struct.pack("<l", value)
    return b"\x8a\x08" + struct.pack("<q", value)


def _tuple(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(map(_integer, values)) + b"t"
