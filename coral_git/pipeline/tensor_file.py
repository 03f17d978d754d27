"""Tensors written to a file, in another precision if wanted, while somebody is told how far it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate
from typing import BinaryIO

from coral_git.formats.base import FormatWriter, TensorData
from coral_git.formats.casting import as_dtype
from coral_git.types import Buffer, DType

Progress = Callable[[str, int, int], None]
"""Is told the tensor or file in hand, the bytes done, and those there are."""


def write_tensors(
    file: BinaryIO,
    writer: FormatWriter,
    tensors: Sequence[TensorData],
    *,
    dtype: DType | None = None,
    progress: Progress | None = None,
) -> int:
    """Write tensors to a new file.

    Args:
        file: the file, empty, for writing and reading.
        writer: of its format.
        tensors: what goes into it.
        dtype: what float tensors are cast to.
        progress: is told the tensor in hand, the bytes done and those there are.

    Returns:
        How many tensors have another dtype now.

    Raises:
        UsageError: the format cannot hold them.
        CoralError: a tensor cannot be read.
    """
    cast = tensors if dtype is None else [as_dtype(tensor, dtype) for tensor in tensors]
    writer.write(file, _announced(cast, progress), {})
    return sum(one.dtype != other.dtype for one, other in zip(tensors, cast, strict=True))


def _announced(tensors: Sequence[TensorData], progress: Progress | None) -> Sequence[TensorData]:
    """The tensors, which tell when they are read."""
    if progress is None:
        return tensors
    ends = list(accumulate(tensor.length for tensor in tensors))
    return [
        tensor._replace(read=partial(_read_told, tensor, partial(progress, tensor.name), end, ends[-1]))
        for tensor, end in zip(tensors, ends, strict=True)
    ]


def _read_told(
    tensor: TensorData, tell: Callable[[int, int], None], end: int, total: int, start: int, length: int
) -> Buffer:
    tell(end - tensor.length + start, total)
    return tensor.read(start, length)
