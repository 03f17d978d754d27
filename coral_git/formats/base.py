"""What a format reader is and what it proposes.

A reader is an adviser: it names the byte ranges of a file that are tensors. The file is put together again
from those ranges and from the bytes between them, so a wrong proposal costs space, never data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import BinaryIO, NamedTuple, Protocol

from coral_git.errors import IntegrityError
from coral_git.limits import MIB, Limits
from coral_git.types import Buffer, ByteSource, DType, tensor_bytes

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


def in_file_order(segments: Iterable[TensorSegment]) -> tuple[TensorSegment, ...]:
    """Sorted by place; at the same place, those without bytes come first, in the order given.

    Raises:
        NotThisFormat: tensors overlap.
    """
    ordered = sorted(segments, key=lambda segment: (segment.offset, segment.length))
    end = 0
    for segment in ordered:
        if segment.offset < end:
            raise NotThisFormat("tensors overlap")
        end = segment.offset + segment.length
    return tuple(ordered)


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


class TensorData(NamedTuple):
    """A tensor that is to be written.

    Attributes:
        name: its name.
        dtype: its data type.
        shape: its dimensions.
        read: reads (start, length) of its bytes, which are in the order of C and little endian unless the
            dtype says otherwise.
    """

    name: str
    dtype: DType
    shape: tuple[int, ...]
    read: Callable[[int, int], Buffer]

    @property
    def length(self) -> int:
        """Its bytes.

        Raises:
            ValueError: dtype and shape do not make whole bytes.
        """
        length = tensor_bytes(self.dtype, self.shape)
        if length is None:
            raise ValueError(f"a tensor of {self.dtype.name} cannot have the shape {self.shape}")
        return length

    def pieces(self) -> Iterator[Buffer]:
        """Its bytes, a MiB at a time.

        Raises:
            IntegrityError: there are fewer than its shape says.
        """
        length = self.length
        for start in range(0, length, MIB):
            wanted = min(MIB, length - start)
            piece = self.read(start, wanted)
            if len(piece) != wanted:
                raise IntegrityError(f"the tensor {self.name!a} is cut short")
            yield piece


class FormatWriter(Protocol):
    """Makes a valid file of a set of tensors, in a stream: memory is a piece of a tensor."""

    @property
    def name(self) -> str:
        """The name of its reader."""

    @property
    def suffixes(self) -> tuple[str, ...]:
        """How the names of its files end, the usual one first."""

    def write(self, out: BinaryIO, tensors: Sequence[TensorData], metadata: Mapping[str, str]) -> None:
        """Write a file.

        Args:
            out: an empty file, open for writing and seekable.
            tensors: what goes into it, names unique; written in this order.
            metadata: text that goes with them, where the format has a place for it.

        Raises:
            UsageError: the format has no such dtype or name; the message says which tensor.
        """


class Checksum(NamedTuple):
    """A CRC-32 that a file has of a range of its own bytes.

    Attributes:
        offset: the byte where the range begins.
        length: its bytes.
        places: the bytes of the file where the 32 bits are written, little endian.
    """

    offset: int
    length: int
    places: tuple[int, ...]


class Mender(Protocol):
    """Says which checksums must be put right after the bytes of some tensors were overwritten in place."""

    @property
    def name(self) -> str:
        """The name of its reader."""

    def checksums(self, source: ByteSource, layout: Layout) -> Sequence[Checksum]:
        """The checksums of everything that a tensor lies in; the bytes of the tensors are not read.

        Args:
            source: the file.
            layout: what its reader said of it.

        Raises:
            NotThisFormat: the file is no plain file of the format.
            IntegrityError: a tensor lies where no checksum can be put right.
        """

    def volatile(self, source: ByteSource, layout: Layout) -> Sequence[tuple[int, int]]:
        """(offset, length) of bytes outside tensors that only say that tensors have changed.

        Raises:
            NotThisFormat: the file is no plain file of the format.
            IntegrityError: a tensor lies where no checksum can be put right.
        """


class CannotAssemble(Exception):
    """The versions of a file have no common form; the message says why, for the user."""


class Assembler(Protocol):
    """Makes a valid file of tensors and of what several versions of the file have beside them."""

    @property
    def name(self) -> str:
        """The name of its reader."""

    def assemble(
        self,
        out: BinaryIO,
        base: ByteSource | None,
        sides: Sequence[ByteSource],
        tensors: Sequence[TensorData],
        prefers: int | None,
    ) -> None:
        """Write a file. What is no tensor is merged three ways, entry by entry.

        Args:
            out: an empty file, open for writing and seekable.
            base: the common ancestor; None where there is none. Its tensors read as zeros.
            sides: the sides, ours first; their tensors read as zeros.
            tensors: what goes into the file, names unique, in the order that is wanted.
            prefers: the number of the side that wins where several changed the same entry; None for none.

        Raises:
            CannotAssemble: sides changed the same entry and none wins, or a version has what only a whole
                file can have.
            NotThisFormat: a version is no file of this format.
        """
