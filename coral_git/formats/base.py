"""What a format reader is and what it proposes.

A reader is an adviser: it names the byte ranges of a file that are tensors. The file is put together again
from those ranges and from the bytes between them, so a wrong proposal costs space, never data.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from coral_git.limits import Limits
from coral_git.types import ByteSource, DType

HEAD_BYTES = 512
"""How much of a file ``FormatReader.sniff`` sees."""

MAX_TENSORS = 1 << 20
"""A file with more tensors than a manifest may name is stored in chunks."""


class NotThisFormat(Exception):
    """A file is not what a reader took it for, or too strange to be cut into tensors."""


class TensorSegment(NamedTuple):
    """A range of a file that holds one tensor.

    Attributes:
        name: the name of the tensor in its file.
        dtype: its data type.
        shape: its dimensions; ``()`` for a scalar.
        offset: the byte of the file it starts at.
        length: its bytes; always what dtype and shape amount to.
    """

    name: str
    dtype: DType
    shape: tuple[int, ...]
    offset: int
    length: int


class Layout(NamedTuple):
    """How a reader says that a file falls into tensors; the bytes between them are the rest.

    Attributes:
        format: name and version of the reader, e.g. ``"safetensors/1"``.
        tensors: in file order, without overlap, names unique.
    """

    format: str
    tensors: tuple[TensorSegment, ...]


class FormatReader(Protocol):
    """A reader of one file format. It only looks: nothing is executed, unpickled or decompressed."""

    @property
    def name(self) -> str:
        """The name in manifests: lower-case letters, digits and hyphens."""

    @property
    def version(self) -> int:
        """Raised whenever the reader begins to cut the same file in another way."""

    def sniff(self, head: bytes, size: int) -> bool:
        """Whether a file of ``size`` bytes that begins with ``head`` is worth a closer look."""

    def layout(self, source: ByteSource, limits: Limits) -> Layout:
        """The tensors of a file.

        Raises:
            NotThisFormat: the file is something else, or strange; any other exception means the same.
        """
