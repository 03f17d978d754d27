"""Reading a pack from one end to the other without its index."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from coral_git.errors import IntegrityError
from coral_git.limits import Limits
from coral_git.store.location import Location
from coral_git.store.pack_files import PackFile
from coral_git.store.pack_format import (
    ENTRY_HEADER_LENGTH,
    PACK_HEADER_LENGTH,
    TRAILER_LENGTH,
    check_pack_header,
    decode_entry_header,
    decode_trailer,
    locate_entry,
)
from coral_git.types import ObjectId, PackId

_STRIDE = 1 << 20


def pack_digest(file: PackFile) -> PackId:
    """SHA-256 of a whole pack: the name it must have."""
    digest = hashlib.sha256()
    for offset in range(0, file.size, _STRIDE):
        digest.update(file.read_up_to(offset, _STRIDE))
    return PackId(digest.digest())


def scan_pack(file: PackFile, pack: PackId, limits: Limits) -> Iterator[Location]:
    """The entries of a pack in their order, from their headers. Payloads are not looked at.

    Raises:
        IntegrityError: the pack is damaged, an entry comes twice, or none comes at all.
        FormatVersionError: a newer version wrote it.
    """
    check_pack_header(file.read_up_to(0, PACK_HEADER_LENGTH))
    end = file.size - TRAILER_LENGTH
    count = decode_trailer(file.read_up_to(max(end, PACK_HEADER_LENGTH), TRAILER_LENGTH))
    seen: set[ObjectId] = set()
    offset = PACK_HEADER_LENGTH
    while offset < end:
        header = decode_entry_header(file.read_up_to(offset, ENTRY_HEADER_LENGTH), limits)
        if header.entry_length > end - offset:
            raise IntegrityError(f"an entry reaches beyond the end of the pack {file.path!r}")
        if header.object_id in seen:
            raise IntegrityError(f"object '{header.object_id.hex()}' is twice in the pack {file.path!r}")
        seen.add(header.object_id)
        yield locate_entry(header, pack, offset)
        offset += header.entry_length
    if offset != end or count != len(seen) or not seen:
        raise IntegrityError(f"the pack {file.path!r} does not hold the entries it declares")
