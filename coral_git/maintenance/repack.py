"""Packs written anew with smaller codecs for the differences in them.

What was added with a fast profile can be stored smaller later, when nobody waits. Every object keeps its
base, so that the chains stay as they are. A pack is replaced by one with the same objects, and goes to the
trash as with gc: any reader can still bring it back.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from blake3 import blake3

from coral_git.codecs.base import Codec, EncodedObject
from coral_git.codecs.choose import delta_codec
from coral_git.codecs.sub import SubCodec
from coral_git.errors import CoralError, IntegrityError, StorageFullError, from_os_error
from coral_git.maintenance import trash
from coral_git.maintenance.survey import PackState, take_survey
from coral_git.pipeline.parallel import Workers
from coral_git.pipeline.workspace import Workspace
from coral_git.store.location import Location
from coral_git.store.locks import exclusive_lock
from coral_git.store.objects import base_window
from coral_git.store.pack_format import ENTRY_HEADER_LENGTH, TABLE_ROW_LENGTH
from coral_git.store.store import Store
from coral_git.types import Buffer, ObjectId

_FAST = SubCodec()
_MOST_THREADS = 4  # each holds an encoded object
_WORTH_PERCENT = 1
"""A pack is left as it is where less of it would be saved."""

Progress = Callable[[str, int, int], None]


@dataclass(slots=True)
class RepackReport:
    """What repacking did, or with ``dry_run`` would do.

    Attributes:
        dry_run: whether nothing was changed.
        profile: the profile whose codecs were tried.
        packs: packs that were looked at.
        rewritten: packs that were replaced.
        objects: objects that are smaller now.
        bytes_before: length of the packs that were replaced.
        bytes_saved: how much shorter their successors are.
        warnings: packs that stay as they are, and why.
    """

    dry_run: bool
    profile: str
    packs: int = 0
    rewritten: int = 0
    objects: int = 0
    bytes_before: int = 0
    bytes_saved: int = 0
    warnings: list[str] = field(default_factory=list)


def repack(
    workspace: Workspace, *, profile: str = "best", dry_run: bool = False, progress: Progress | None = None
) -> RepackReport:
    """Write packs anew in which differences can be stored smaller.

    Args:
        workspace: the repository.
        profile: whose codecs are tried; one of ``codecs.choose.PROFILES``.
        dry_run: change nothing, only count.
        progress: is told the name of the pack in hand, the bytes done and the bytes in all.

    Raises:
        LockedError: gc or another repack is running.
        StorageFullError: no space is left; what was done until then is consistent.
        CoralError: the file system failed; the same.
    """
    store = workspace.store
    report = RepackReport(dry_run, profile)
    try:
        with exclusive_lock(store.layout.lock, "gc"):
            states = take_survey(store).packs
            total = sum(state.info.size for state in states)
            done = 0
            for state in states:
                if progress is not None:
                    progress(state.info.id.hex()[:12], done, total)
                _repack_one(workspace, state, report)
                done += state.info.size
    except OSError as error:
        raise from_os_error(error, f"repack '{workspace.store_root}'") from error
    return report


def _repack_one(workspace: Workspace, state: PackState, report: RepackReport) -> None:
    """Replace one pack, if that is worth it; a damaged one stays as it is."""
    store = workspace.store
    smaller: set[ObjectId] = set()
    saved = 0
    report.packs += 1
    wanted = [one for one in state.entries if _better_codec(one, report.profile) is not None]
    if not wanted:
        return
    try:
        with Workers(min(workspace.settings.threads, _MOST_THREADS)) as workers, store.writer() as writer:
            encoded_objects = _encode_all(store, wanted, report.profile, workers)
            for location, encoded in zip(wanted, encoded_objects, strict=True):
                gain = location.entry_length - _entry_length(encoded)
                if gain > 0:
                    writer.add(encoded)
                    smaller.add(location.object_id)
                    saved += gain
            if saved * 100 < state.info.size * _WORTH_PERCENT:
                return
            if not report.dry_run:
                for location in state.entries:
                    if location.object_id not in smaller:
                        writer.copy(location)
                written = writer.finish()
                if state.info.id not in written:
                    trash.throw_away(store, [state], time.time())
    except StorageFullError:
        raise
    except CoralError as error:
        report.warnings.append(f"pack '{state.info.id.hex()}' stays as it is: {error.message}")
        return
    report.rewritten += 1
    report.objects += len(smaller)
    report.bytes_before += state.info.size
    report.bytes_saved += saved


def _better_codec(location: Location, profile: str) -> Codec | None:
    """The codec that makes an entry smaller, as far as the profile goes; None where there is none."""
    if location.codec != _FAST.codec_id:
        return None
    codec = delta_codec(location.element, location.raw_length // location.element.width, profile)
    return None if codec.codec_id == location.codec else codec


def _encode_all(
    store: Store, locations: list[Location], profile: str, workers: Workers
) -> Iterator[EncodedObject]:
    def encode(location: Location) -> EncodedObject:
        codec = _better_codec(location, profile)
        assert codec is not None
        return _encode(store, location, codec)

    return workers.map(encode, locations)


def _encode(store: Store, location: Location, codec: Codec) -> EncodedObject:
    """An object encoded anew against the base that it has, block by block, and compared.

    Raises:
        IntegrityError: object or base are damaged, or an encoded block does not decode.
        ObjectMissingError: the base is gone.
    """
    assert location.base is not None
    reader, base = store.reader(location.object_id), store.reader(location.base)
    size = codec.block_size(location.element, store.limits)
    digest = blake3()
    blocks: list[list[Buffer]] = []
    for start in range(0, location.raw_length, size):
        raw = reader.read(start, min(size, location.raw_length - start))
        digest.update(raw)
        faced = base.read(*base_window(codec, 0, start, len(raw)))
        blocks.append(codec.encode_block(raw, faced, location.element))
        if not codec.decodes_to(blocks[-1], raw, faced, location.element):
            raise IntegrityError(f"codec '{codec.name}' does not decode object '{location.object_id.hex()}'")
    if digest.digest() != location.object_id:
        raise IntegrityError(f"object '{location.object_id.hex()}' has the wrong bytes")
    return EncodedObject(
        object_id=location.object_id,
        raw_length=location.raw_length,
        codec=codec.codec_id,
        element=location.element,
        base=location.base,
        base_element=location.element,
        base_offset=0,
        block_size=size,
        blocks=blocks,
    )


def _entry_length(encoded: EncodedObject) -> int:
    payload = sum(len(piece) for block in encoded.blocks for piece in block)
    return ENTRY_HEADER_LENGTH + TABLE_ROW_LENGTH * len(encoded.blocks) + payload
