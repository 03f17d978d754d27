"""HDF5: a file system of groups and datasets, as Keras and many others write weights.

Datasets of numbers that are stored as they are become tensors, named by their path. Filters, external files
and virtual datasets are not followed: nothing is decompressed, and no other file is opened.
"""

from __future__ import annotations

from collections import deque

from coral_git.formats.base import MAX_TENSORS, Layout, NotThisFormat, TensorSegment
from coral_git.formats.hdf5_file import SIGNATURE, open_file
from coral_git.formats.window import Window
from coral_git.limits import MIB, Limits
from coral_git.types import ByteSource

_FIRST_USER_BLOCK = 512
_LONGEST_USER_BLOCK = MIB
_MUCH_REST = MIB


class Hdf5Reader:
    """The reader of HDF5 files: ``.h5``, ``.hdf5``, ``.weights.h5``."""

    name = "hdf5"
    version = 1

    def sniff(self, head: bytes, size: int) -> bool:
        """Whether the file begins with a superblock, or is long enough to have one after a user block."""
        return head.startswith(SIGNATURE) or size > _FIRST_USER_BLOCK

    def layout(self, source: ByteSource, limits: Limits) -> Layout:
        """The datasets, in the order of their bytes.

        Raises:
            NotThisFormat: as ``find_tensors``; or there is no superblock.
        """
        start = _find_superblock(source)
        tensors = find_tensors(Window(source, start, source.size - start), limits)
        return Layout(f"{self.name}/{self.version}", tensors)


def find_tensors(window: Window, limits: Limits) -> tuple[TensorSegment, ...]:
    """The tensors of a range that is an HDF5 file, with offsets in the whole, in the order of their bytes.

    A dataset that has several names gets the one with the fewest groups in its path, and of several such the
    first in the alphabet.

    Raises:
        NotThisFormat: it is no HDF5, or strange, or most of it is not numbers as they are: then chunks find
            more of what stays the same.
    """
    from coral_git.formats.hdf5_data import read_tensors  # these cost time: only when a file is one
    from coral_git.formats.hdf5_groups import hard_links
    from coral_git.formats.hdf5_header import Kind, read_messages

    file, root = open_file(window, limits)
    tensors: list[TensorSegment] = []
    pending = deque([("", root)])
    seen = {root}
    while pending:
        path, address = pending.popleft()
        messages = read_messages(file, address)
        if any(message.kind == Kind.LAYOUT for message in messages):
            tensors += read_tensors(file, path, messages)
            continue
        for name, child in sorted(hard_links(file, messages)):
            if child not in seen:
                seen.add(child)
                pending.append((_join(path, name, limits), child))
        if len(seen) + len(tensors) > MAX_TENSORS:
            raise NotThisFormat("there are too many objects")
    total = sum(tensor.length for tensor in tensors)
    if not tensors or window.size - total > total + _MUCH_REST:
        raise NotThisFormat("most of the file is not tensors")
    tensors.sort(key=lambda tensor: tensor.offset)
    return tuple(tensor._replace(offset=tensor.offset + window.offset) for tensor in tensors)


def _join(path: str, name: str, limits: Limits) -> str:
    """The path of a member; a cap on it bounds the depth as well."""
    joined = f"{path}/{name}" if path else name
    if len(joined) > limits.name_bytes:
        raise NotThisFormat("a path is too long")
    return joined


def _find_superblock(source: ByteSource) -> int:
    """Where the superblock is: at 0, or after a user block of 512 bytes, 1024, 2048 and so on.

    Raises:
        NotThisFormat: it is not there.
    """
    start = 0
    while start + len(SIGNATURE) <= source.size and start <= _LONGEST_USER_BLOCK:
        if source.read_at(start, len(SIGNATURE)) == SIGNATURE:
            return start
        start = max(2 * start, _FIRST_USER_BLOCK)
    raise NotThisFormat("there is no superblock")
