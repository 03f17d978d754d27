"""The checksums of a zip file whose stored members hold tensors."""

from __future__ import annotations

from bisect import bisect_right
from typing import NamedTuple

from coral_git.errors import IntegrityError
from coral_git.formats.base import Checksum, Layout, TensorSegment
from coral_git.formats.zip_index import STORED, ZipEntry, read_zip
from coral_git.limits import DEFAULT_LIMITS
from coral_git.types import ByteSource

_CRC_BYTES = 4


class ZipMender(NamedTuple):
    """The mender of a format whose files are zip files.

    Attributes:
        name: the name of its reader.
        digest: how the name of a member ends that holds a digest of the others; empty where there is none.
    """

    name: str
    digest: str = ""

    def checksums(self, source: ByteSource, layout: Layout) -> list[Checksum]:
        """The CRC-32 of every member with tensors, wherever the file has it.

        Raises:
            NotThisFormat: the file is no plain zip file.
            IntegrityError: a tensor does not lie in a stored member.
        """
        entries = read_zip(source, DEFAULT_LIMITS)
        offsets = [entry.offset for entry in entries]
        holding: dict[int, ZipEntry] = {}
        for tensor in layout.tensors:
            number = bisect_right(offsets, tensor.offset) - 1
            if number < 0 or not _holds(entries[number], tensor):
                raise IntegrityError(f"the tensor {tensor.name!a} lies in no stored member of the archive")
            holding[number] = entries[number]
        return [Checksum(entry.offset, entry.size, entry.crc_places) for entry in holding.values()]

    def volatile(self, source: ByteSource, layout: Layout) -> list[tuple[int, int]]:
        """The checksums of members with tensors, and the member that is a digest of the others.

        Raises:
            NotThisFormat: the file is no plain zip file.
            IntegrityError: a tensor does not lie in a stored member.
        """
        places = [place for checksum in self.checksums(source, layout) for place in checksum.places]
        found = []
        for entry in read_zip(source, DEFAULT_LIMITS):
            if self.digest and entry.name.endswith(self.digest):
                found.append((entry.offset, entry.size))
                places += entry.crc_places
        return found + [(place, _CRC_BYTES) for place in places]


def _holds(entry: ZipEntry, tensor: TensorSegment) -> bool:
    return entry.method == STORED and tensor.offset + tensor.length <= entry.offset + entry.size
