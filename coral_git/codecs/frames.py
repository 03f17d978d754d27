"""zstd frames: one (de)compressor of each kind per thread, and decompression that trusts no header."""

from __future__ import annotations

import threading

import zstandard

from coral_git.errors import IntegrityError
from coral_git.types import Buffer

BYTES_LEVEL = 3
WINDOW_MAX = 8 << 20
_MAGIC = b"\x28\xb5\x2f\xfd"

# Almost no search for matches, so nearly Huffman coding alone: on byte planes of weights these give smaller
# frames than zstd's levels 1 to 9 and encode about twice as fast as level 1.
_PLANE_PARAMETERS = zstandard.ZstdCompressionParameters(
    strategy=zstandard.STRATEGY_FAST,
    window_log=17,
    hash_log=6,
    chain_log=6,
    search_log=1,
    min_match=7,
    target_length=0,
    write_content_size=1,
    write_checksum=0,
    write_dict_id=0,
)


class _PerThread(threading.local):
    """zstd contexts are costly to make and must not be shared between threads."""

    def __init__(self) -> None:
        self.planes = zstandard.ZstdCompressor(compression_params=_PLANE_PARAMETERS)
        self.bytes = zstandard.ZstdCompressor(level=BYTES_LEVEL)
        self.decompressor = zstandard.ZstdDecompressor()


_per_thread = _PerThread()


def compress_plane(data: Buffer) -> bytes:
    """A zstd frame of a byte plane, in parameters that are little more than Huffman coding."""
    return _per_thread.planes.compress(data)


def compress_bytes(data: Buffer) -> bytes:
    """A zstd frame of arbitrary bytes, level 3."""
    return _per_thread.bytes.compress(data)


def compress_with_prefix(data: Buffer, prefix: Buffer) -> bytes:
    """A zstd frame of bytes that may refer to ``prefix`` as if it came before them."""
    dictionary = zstandard.ZstdCompressionDict(prefix, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    parameters = _prefix_parameters(len(data), len(prefix))
    return zstandard.ZstdCompressor(dict_data=dictionary, compression_params=parameters).compress(data)


def _prefix_parameters(length: int, prefix_length: int) -> zstandard.ZstdCompressionParameters:
    # zstd indexes only the last 8 << hash_log bytes of a prefix, so the table must grow with it: with the
    # parameters of a plain level the bytes most like the block would be forgotten.
    hash_log = min(max(prefix_length.bit_length() - 3, 14), 24)
    return zstandard.ZstdCompressionParameters(
        strategy=zstandard.STRATEGY_FAST,
        window_log=min(max((length + prefix_length).bit_length(), 17), 27),
        hash_log=hash_log,
        chain_log=hash_log,
        search_log=1,
        min_match=6,
        target_length=0,
        write_content_size=1,
        write_checksum=0,
        write_dict_id=0,
    )


def decompress(frame: Buffer, length: int) -> bytes:
    """The ``length`` bytes in a frame.

    Raises:
        IntegrityError: the frame is damaged, holds another number of bytes, or has trailing bytes.
    """
    return _decompress(_per_thread.decompressor, frame, length)


def decompress_with_prefix(frame: Buffer, length: int, prefix: Buffer) -> bytes:
    """The ``length`` bytes in a frame made by ``compress_with_prefix``.

    Raises:
        IntegrityError: the frame is damaged, holds another number of bytes, or has trailing bytes.
    """
    dictionary = zstandard.ZstdCompressionDict(prefix, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    return _decompress(zstandard.ZstdDecompressor(dict_data=dictionary), frame, length)


def _decompress(decompressor: zstandard.ZstdDecompressor, frame: Buffer, length: int) -> bytes:
    # The library allocates what the header states, whatever maximum it is given: look at the header first.
    try:
        header = zstandard.get_frame_parameters(frame)
        if bytes(frame[:4]) != _MAGIC or header.dict_id:
            raise IntegrityError("stored stream is not a plain zstd frame")
        if header.content_size != length or header.window_size > max(WINDOW_MAX, length):
            raise IntegrityError(f"zstd frame does not state the length {length} that belongs there")
        data = decompressor.decompress(frame, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise IntegrityError("zstd frame is damaged") from error
    if len(data) != length:
        raise IntegrityError(f"zstd frame holds {len(data)} bytes instead of {length}")
    return data
