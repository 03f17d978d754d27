"""Packs written anew with better bases and smaller codecs for the differences in them.

What was added with a fast profile, or without knowing a base, can be stored smaller later, when nobody waits.
A pack is replaced by one with the same objects, and goes to the trash as with gc: any reader can still bring
it back.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from coral_git.codecs.base import EncodedObject
from coral_git.codecs.choose import delta_codec, facing_sample, fitted_codec, sample
from coral_git.codecs.decay import DecayCodec
from coral_git.codecs.sub import SubCodec
from coral_git.codecs.upcast import UpcastCodec
from coral_git.errors import CoralError, StorageFullError, from_os_error
from coral_git.maintenance import trash
from coral_git.maintenance.base_plan import NewBase, Planner
from coral_git.maintenance.survey import PackState, take_survey
from coral_git.pipeline.encode_against import Raw, encode_against
from coral_git.pipeline.parallel import Workers
from coral_git.pipeline.workspace import Workspace
from coral_git.store.location import Location
from coral_git.store.locks import exclusive_lock
from coral_git.store.objects import verify_object
from coral_git.store.pack_format import ENTRY_HEADER_LENGTH, TABLE_ROW_LENGTH
from coral_git.store.store import Store
from coral_git.store.writer import PackWriter
from coral_git.types import Element, ObjectId

_FAST = SubCodec()
_UPCAST_ID = UpcastCodec().codec_id
_FAST_IDS = (_FAST.codec_id, DecayCodec().codec_id, _UPCAST_ID)  # the others may have the first inside
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
        depth: deltas on top of each other, at most.
        packs: packs that were looked at.
        rewritten: packs that were replaced.
        objects: objects that are smaller now.
        rebased: objects among them that have another base, or have one for the first time.
        bytes_before: length of the packs that were replaced.
        bytes_saved: how much shorter their successors are.
        warnings: packs that stay as they are, and why.
    """

    dry_run: bool
    profile: str
    depth: int
    packs: int = 0
    rewritten: int = 0
    objects: int = 0
    rebased: int = 0
    bytes_before: int = 0
    bytes_saved: int = 0
    warnings: list[str] = field(default_factory=list)


def repack(
    workspace: Workspace,
    *,
    profile: str = "best",
    depth: int | None = None,
    only_full: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> RepackReport:
    """Write packs anew in which objects can be stored smaller.

    Args:
        workspace: the repository.
        profile: whose codecs are tried; one of ``codecs.choose.PROFILES``.
        depth: deltas on top of each other, at most; deeper chains are cut. None for what adding allows.
        only_full: look for bases of full copies only, and leave everything else as it is.
        dry_run: change nothing, only count.
        progress: is told what is in hand, how much of it is done and how much there is.

    Raises:
        LockedError: gc or another repack is running.
        StorageFullError: no space is left; what was done until then is consistent.
        CoralError: the file system failed; the same.
    """
    store = workspace.store
    report = RepackReport(dry_run, profile, depth or workspace.limits.chain_depth)
    tell: Progress = progress or (lambda name, done, total: None)
    try:
        with exclusive_lock(store.layout.lock, "gc"):
            states = take_survey(store).packs
            copies = (entry for state in states for entry in state.entries)
            threshold = workspace.settings.similarity_threshold
            planner = Planner(store, copies, threshold, report.depth, only_full=only_full)
            plan = planner.plan(partial(tell, "looking for bases"))
            total = sum(state.info.size for state in states)
            done = 0
            for state in states:
                tell(state.info.id.hex()[:12], done, total)
                _repack_one(workspace, state, _jobs(state, plan, None if only_full else profile), report)
                done += state.info.size
    except OSError as error:
        raise from_os_error(error, f"repack '{workspace.store_root}'") from error
    return report


class _Job(NamedTuple):
    """How an entry is to be encoded anew."""

    location: Location
    base: ObjectId
    profile: str
    is_forced: bool


def _jobs(state: PackState, plan: Mapping[ObjectId, NewBase], profile: str | None) -> list[_Job]:
    """What to try for the entries of a pack."""
    jobs = []
    for location in state.entries:
        new = plan.get(location.object_id)
        if new is not None:
            jobs.append(_Job(location, new.base, profile or "fast", new.is_forced))
        elif profile and location.base and _is_worth_sorting(location, profile):
            jobs.append(_Job(location, location.base, profile, False))
    return jobs


def _is_worth_sorting(location: Location, profile: str) -> bool:
    """Whether an entry may have the fastest codec, and a profile has a better one for it."""
    element = location.element
    seen = Element.BF16 if location.codec == _UPCAST_ID and element is Element.F32 else element
    better = delta_codec(seen, location.raw_length // element.width, profile)
    return location.codec in _FAST_IDS and better != _FAST


def _repack_one(workspace: Workspace, state: PackState, jobs: list[_Job], report: RepackReport) -> None:
    """Replace one pack, if that is worth it; a damaged one stays as it is."""
    store = workspace.store
    report.packs += 1
    if not jobs:
        return
    done: dict[ObjectId, _Job] = {}
    saved = 0
    try:
        with Workers(min(workspace.settings.threads, _MOST_THREADS)) as workers, store.writer() as writer:
            encode = partial(_encode, store)
            for job, encoded in zip(jobs, workers.map(encode, jobs), strict=True):
                gain = job.location.entry_length - _entry_length(encoded)
                if gain > 0 or job.is_forced:
                    writer.add(encoded)
                    done[job.location.object_id] = job
                    saved += gain
            is_forced = any(job.is_forced for job in done.values())
            if not is_forced and saved * 100 < state.info.size * _WORTH_PERCENT:
                return
            if not report.dry_run:
                _replace(store, state, done, writer)
    except StorageFullError:
        raise
    except CoralError as error:
        report.warnings.append(f"pack '{state.info.id.hex()}' stays as it is: {error.message}")
        return
    report.rewritten += 1
    report.objects += len(done)
    report.rebased += sum(job.base != job.location.base for job in done.values())
    report.bytes_before += state.info.size
    report.bytes_saved += saved


def _replace(store: Store, state: PackState, done: Mapping[ObjectId, _Job], writer: PackWriter) -> None:
    """Publish the new entries with the others of the pack, and throw the pack away."""
    for location in state.entries:
        if location.object_id not in done:
            writer.copy(location)
    written = writer.finish()
    if state.info.id not in written:
        trash.throw_away(store, [state], time.time())


def _encode(store: Store, job: _Job) -> EncodedObject:
    """An object encoded anew and compared; object and base are read to the end.

    Raises:
        IntegrityError: object or base are damaged, or an encoded block does not decode.
        ObjectMissingError: the base is gone.
    """
    location = job.location
    damage = verify_object(store.reader(job.base)) if job.base != location.base else None
    if damage is not None:
        raise damage
    reader = store.reader(location.object_id)
    base = store.reader(job.base)
    element, length = location.element, location.raw_length
    own = sample(reader.read, length, element)
    facing = facing_sample(base.read, base.element, length, element)
    codec = fitted_codec(element, length // element.width, job.profile, own, facing)
    return encode_against(Raw(location.object_id, reader.read, length, element), codec, base, store.limits)


def _entry_length(encoded: EncodedObject) -> int:
    payload = sum(len(piece) for block in encoded.blocks for piece in block)
    return ENTRY_HEADER_LENGTH + TABLE_ROW_LENGTH * len(encoded.blocks) + payload
