"""Every cap that protects memory, time and disk, as one frozen object that is passed down.

Tests shrink these instead of building giant inputs. Lengths are in bytes unless the name says otherwise.
"""

from __future__ import annotations

from typing import NamedTuple

KIB = 1 << 10
MIB = 1 << 20


class Limits(NamedTuple):
    """The caps. The part and block sizes among them decide what is written; they belong to the format.

    Attributes:
        part_elements: elements of a part, at most.
        part_bytes: bytes of a part, at most.
        block_elements: elements of a block, the unit of encoding.
        kept_part_bytes: a part up to this length is read once when it is added, a longer one twice.
        pack_target: a pack is closed when it has reached this size.
        pack_max: no pack is ever larger.
        chain_depth: deltas between an object and its full copy, at most, when writing. Restoring a delta
            costs about as much per raw byte however little it stores, so this bounds the time of a checkout.
        chain_percent: stored bytes of an object and its bases, in percent of its raw bytes; an object whose
            chain takes more is not built on, so that restoring costs little more than reading a file twice.
        chain_depth_read: the same when reading; a longer chain is refused.
        manifest_bytes: length of a manifest text.
        inline_tensors: more tensor lines than this go into table objects.
        inline_chunks: more chunk lines than this go into table objects.
        table_lines: lines of one table object.
        table_bytes: length of one table object, when reading.
        name_bytes: length of a tensor name in UTF-8.
        rank: dimensions of a tensor.
        header_bytes: length of a file header that a format reader looks at.
        header_fields: fields of a binary header that a format reader walks over.
        json_depth: nesting of a JSON header.
        pickle_opcodes: opcodes of a pickle; each makes a value of about a hundred bytes, at most.
        pickle_depth: nesting of what is in a pickle; Python's own pickler gets about as far.
        inline_smudge_bytes: a file up to this size may be answered through the pipe.
        dropped_seconds: seconds for which the weights of a dropped checkpoint can still come back.
    """

    part_elements: int = 1 << 24
    part_bytes: int = 64 * MIB
    block_elements: int = 1 << 18
    kept_part_bytes: int = 8 * MIB
    pack_target: int = 48 * MIB
    pack_max: int = 96 * MIB
    chain_depth: int = 4
    chain_percent: int = 160
    chain_depth_read: int = 64
    manifest_bytes: int = 64 * MIB
    inline_tensors: int = 20_000
    inline_chunks: int = 16
    table_lines: int = 16_384
    table_bytes: int = 64 * MIB
    name_bytes: int = 1024
    rank: int = 64
    header_bytes: int = 100_000_000
    header_fields: int = 1 << 22
    json_depth: int = 64
    pickle_opcodes: int = 1 << 22
    pickle_depth: int = 1024
    inline_smudge_bytes: int = 512 * MIB
    dropped_seconds: int = 3600


DEFAULT_LIMITS = Limits()
