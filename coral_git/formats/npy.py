"""NumPy's ``.npy``: a magic number, the length of a header, the header, one array.

https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html, versions 1.0 to 3.0. Bytes after the
array are fine; they belong to the rest. Pickled arrays of objects are none of ours.
"""

from __future__ import annotations

from coral_git.formats.base import Layout, NotThisFormat, TensorSegment
from coral_git.limits import Limits
from coral_git.types import ByteSource, tensor_bytes

ARRAY_NAME = "array"
"""What the array of a file is called, which has no name there."""

TRANSPOSED = ".T"
"""Put after the name of an array in Fortran order. Its bytes are its transpose in the order of C."""

MAGIC = b"\x93NUMPY"
_PROBE = 256


class NpyReader:
    """The reader of ``.npy`` files, whatever they are called."""

    name = "npy"
    version = 1

    def sniff(self, head: bytes, size: int) -> bool:
        """Whether the file begins with the magic number."""
        return head.startswith(MAGIC)

    def layout(self, source: ByteSource, limits: Limits) -> Layout:
        """The array, as one tensor.

        Raises:
            NotThisFormat: the header is no strict one, promises more than the file has, or a pickle follows.
        """
        tensor = array_segment(source, ARRAY_NAME, 0, source.size, limits)
        return Layout(f"{self.name}/{self.version}", (tensor,))


def array_segment(source: ByteSource, name: str, offset: int, length: int, limits: Limits) -> TensorSegment:
    """The array that lies in a range of a file, with its header.

    Args:
        source: the file.
        name: what to call the array.
        offset: where its magic number is.
        length: the bytes that it may take.
        limits: caps on the shape.

    Raises:
        NotThisFormat: there is no such array.
    """
    from coral_git.formats.npy_header import header_length, parse_header  # compiles expressions

    head = source.read_at(offset, min(_PROBE, length))
    start = header_length(head)
    if start > length:
        raise NotThisFormat("the header exceeds the file")
    if start > len(head):
        head = source.read_at(offset, start)
    header = parse_header(head[:start], limits)
    shape = header.shape
    if header.fortran and len(shape) > 1:
        shape = shape[::-1]
        name += TRANSPOSED
    if header.item is not None:
        shape = (*shape, header.item)
    size = tensor_bytes(header.dtype, shape)
    if size is None or size > length - start:
        raise NotThisFormat("the array exceeds the file")
    return TensorSegment(name, header.dtype, shape, offset + start, size)
