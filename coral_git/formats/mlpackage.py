"""Core ML: the blobs of ``weight.bin`` in an ``.mlpackage``.

The format is ``mlmodel/src/MILBlob/Blob/StorageFormat.hpp`` of https://github.com/apple/coremltools,
version 2: a header of 64 bytes, then for each blob 64 bytes about it and its bytes, all of them aligned to
64. Names and shapes are in another file, which refers to blobs by their place; so they are called by it here.
"""

from __future__ import annotations

import struct

from coral_git.formats.base import MAX_TENSORS, Layout, NotThisFormat
from coral_git.formats.page import Page
from coral_git.formats.segments import Segments
from coral_git.limits import Limits
from coral_git.types import DTYPES, ByteSource

ALIGNMENT = 64
VERSION = 2
SENTINEL = 0xDEADBEEF
_HEADER = struct.Struct("<II56x")
_METADATA = struct.Struct("<IIQQ40x")

_NAMES = ". F16 F32 U8 I8 BF16 I16 U16 . . . . . . I32 U32 F8_E4M3 F8_E5M2"
DATA_TYPES = {number: name for number, name in enumerate(_NAMES.split()) if name != "."}
"""Numbers of ``BlobDataType`` and the names of their dtypes; packed integers have none."""


class MlpackageReader:
    """The reader of ``weight.bin`` files of Core ML, whatever they are called."""

    name = "mlpackage"
    version = 1

    def sniff(self, head: bytes, size: int) -> bool:
        """Whether there are a header of this version and the first blob."""
        return (
            len(head) >= ALIGNMENT + _METADATA.size
            and _HEADER.unpack_from(head)[1] == VERSION
            and _METADATA.unpack_from(head, ALIGNMENT)[0] == SENTINEL
        )

    def layout(self, source: ByteSource, limits: Limits) -> Layout:
        """The blobs, one behind the other.

        Raises:
            NotThisFormat: a blob is not where it should be, or there are too many.
        """
        file = Page(source, limits)
        count, version = _HEADER.unpack(file.take(0, _HEADER.size))
        if version != VERSION or count > MAX_TENSORS:
            raise NotThisFormat("the version is unknown, or there are too many blobs")
        segments = Segments(limits)
        position = ALIGNMENT
        for _ in range(count):
            about = _METADATA.unpack(file.take(position, _METADATA.size))
            sentinel, number, length, offset = about
            if sentinel != SENTINEL or offset != position + _METADATA.size or length > source.size - offset:
                raise NotThisFormat("a blob is not where it should be")
            dtype = DATA_TYPES.get(number)
            width = DTYPES[dtype].bits // 8 if dtype else 1
            segments.add(f"blob@{position}", dtype, (length // width,), offset, length)
            position = -(-(offset + length) // ALIGNMENT) * ALIGNMENT
        return Layout(f"{self.name}/{self.version}", segments.in_file_order())
