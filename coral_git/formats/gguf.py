"""GGUF: metadata, a list of tensors, the tensors. The files of llama.cpp.

https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3 in either byte order. Metadata is
passed over, but for the alignment. Holes between the tensors and bytes after them belong to the rest.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from coral_git.formats.base import MAX_TENSORS, Layout, NotThisFormat, TensorSegment, in_file_order
from coral_git.formats.gguf_cursor import Cursor
from coral_git.limits import Limits
from coral_git.types import DTYPES, ByteSource, DType, tensor_bytes

MAGIC = b"GGUF"
VERSIONS = (2, 3)
DEFAULT_ALIGNMENT = 32
ALIGNMENT_KEY = b"general.alignment"
_MAX_PAIRS = 1 << 16

_NAMES = (
    "F32 F16 Q4_0 Q4_1 . . Q5_0 Q5_1 Q8_0 Q8_1 Q2_K Q3_K Q4_K Q5_K Q6_K Q8_K "
    "IQ2_XXS IQ2_XS IQ3_XXS IQ1_S IQ4_NL IQ3_S IQ2_S IQ4_XS I8 I16 I32 I64 F64 IQ1_M BF16 . . . "
    "TQ1_0 TQ2_0 . . . MXFP4 NVFP4 Q1_0"
)
TYPES = {number: name for number, name in enumerate(_NAMES.split()) if name != "."}
"""Numbers of ``enum ggml_type`` and the names of their dtypes."""

STRING, ARRAY, UINT32 = 8, 9, 4
_SCALAR_BYTES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Numbers of ``enum gguf_type`` and the bytes of a value, for all but strings and arrays."""


class GgufReader:
    """The reader of ``.gguf`` files, whatever they are called."""

    name = "gguf"
    version = 1

    def sniff(self, head: bytes, size: int) -> bool:
        """Whether the file begins with the magic number."""
        return head.startswith(MAGIC)

    def layout(self, source: ByteSource, limits: Limits) -> Layout:
        """The tensors that the header names, in the order of their bytes.

        Raises:
            NotThisFormat: the header is malformed, of an unknown version or dtype, or does not fit the file.
        """
        prefix = source.read_at(0, 8)
        big_endian = prefix[4:6] == b"\0\0"
        version = int.from_bytes(prefix[4:8], "big" if big_endian else "little")
        if not prefix.startswith(MAGIC) or version not in VERSIONS:
            raise NotThisFormat("the version is unknown")
        cursor = Cursor(source, 8, limits.header_bytes, big_endian)
        count, pairs = cursor.number(8), cursor.number(8)
        if count > MAX_TENSORS or pairs > _MAX_PAIRS:
            raise NotThisFormat("too many tensors, or too much metadata")
        alignment = _alignment(cursor, pairs)
        found = [_tensor(cursor, limits) for _ in range(count)]
        start = -(-cursor.position // alignment) * alignment
        tensors = in_file_order(tensor._replace(offset=start + tensor.offset) for tensor in found)
        if any(tensor.offset % alignment for tensor in tensors):
            raise NotThisFormat("a tensor is not aligned")
        return Layout(f"{self.name}/{self.version}", tensors)


class Metadata(NamedTuple):
    """What a file says besides its tensors.

    Attributes:
        big_endian: whether its numbers are.
        pairs: key → the whole pair as it stands in the file: key, type, value.
        alignment: of its tensors, in bytes.
    """

    big_endian: bool
    pairs: dict[bytes, bytes]
    alignment: int


def read_metadata(source: ByteSource, limits: Limits) -> Metadata:
    """The metadata of a file whose layout is known to be sound.

    Raises:
        NotThisFormat: the header is malformed.
    """
    big_endian = source.read_at(4, 2) == b"\0\0"
    cursor = Cursor(source, 16, limits.header_bytes, big_endian)
    count = cursor.number(8)
    if count > _MAX_PAIRS:
        raise NotThisFormat("too much metadata")
    start = cursor.position
    alignment = _alignment(cursor, count)
    end = cursor.position
    cursor = Cursor(source, start, limits.header_bytes, big_endian)
    pairs = {}
    while cursor.position < end:
        first = cursor.position
        key = cursor.take(cursor.number(8))
        _skip_value(cursor, cursor.number(4))
        pairs[key] = source.read_at(first, cursor.position - first)
    return Metadata(big_endian, pairs, alignment)


def _alignment(cursor: Cursor, pairs: int) -> int:
    """Pass over the metadata; what it says about the alignment of tensors."""
    alignment = None
    for _ in range(pairs):
        key_length = cursor.number(8)
        is_alignment = key_length == len(ALIGNMENT_KEY) and cursor.peek(key_length) == ALIGNMENT_KEY
        cursor.skip(key_length)
        kind = cursor.number(4)
        if is_alignment:
            if kind != UINT32 or alignment is not None:
                raise NotThisFormat("the alignment has another type, or is there twice")
            alignment = cursor.number(4)
        else:
            _skip_value(cursor, kind)
    if alignment is None:
        return DEFAULT_ALIGNMENT
    if alignment.bit_count() != 1:
        raise NotThisFormat("the alignment is no power of two")
    return alignment


def _skip_value(cursor: Cursor, kind: int) -> None:
    """Pass over a value. Arrays of arrays, which llama.cpp does not take either, are refused."""
    count = 1
    if kind == ARRAY:
        kind, count = cursor.number(4), cursor.number(8)
    if kind == STRING:
        cursor.skip_strings(count)
    elif kind in _SCALAR_BYTES:
        cursor.skip(_SCALAR_BYTES[kind] * count)
    else:
        raise NotThisFormat("the metadata has a value of an unknown type")


def _tensor(cursor: Cursor, limits: Limits) -> TensorSegment:
    """One tensor, whose offset still counts from the beginning of the data."""
    name_length = cursor.number(8)
    if name_length > limits.name_bytes:
        raise NotThisFormat("a tensor has a long name")
    try:
        name = cursor.take(name_length).decode("utf-8")
    except UnicodeDecodeError as error:
        raise NotThisFormat("the name of a tensor is not UTF-8") from error
    rank = cursor.number(4)
    if rank > limits.rank:
        raise NotThisFormat("a tensor has too many dimensions")
    form = f"{'>' if cursor.big_endian else '<'}{rank}QIQ"
    *dims, kind, offset = struct.unpack(form, cursor.take(8 * rank + 12))
    shape = tuple(reversed(dims))  # the fastest dimension comes first there
    if kind not in TYPES:
        raise NotThisFormat("a tensor has an unknown type")
    dtype, shape = _seen(DTYPES[TYPES[kind]], shape, cursor.big_endian)
    length = tensor_bytes(dtype, shape)
    if length is None:
        raise NotThisFormat("the values of a tensor do not fill whole blocks")
    return TensorSegment(name, dtype, shape, offset, length)


def _seen(dtype: DType, shape: tuple[int, ...], big_endian: bool) -> tuple[DType, tuple[int, ...]]:
    """How manifests see a tensor. What has no name there in big-endian order is seen as bytes."""
    if dtype.values > 1 and (not shape or shape[-1] % dtype.values):
        raise NotThisFormat("a row of a tensor does not fill whole blocks")
    if not big_endian or dtype.bits == 8:
        return dtype, shape
    swapped = DTYPES.get(f"{dtype.name}_BE")
    if swapped is not None:
        return swapped, shape
    row = shape[-1] // dtype.values * (dtype.bits // 8) if shape else dtype.bits // 8
    return DTYPES["U8"], (*shape[:-1], row)
