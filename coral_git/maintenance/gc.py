"""Garbage collection: dead objects go to the trash, and from there, after the grace time, for good.

No writer waits for gc and none takes a lock: objects are immutable, a writer touches what it relies on, and
what gc moved away by mistake any reader brings back. The time of every pack is looked at again right before
and right after it is moved; what lies in the trash is compared with a fresh answer of git before it goes.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from coral_git.errors import CoralError, FormatVersionError, IntegrityError, StorageFullError, from_os_error
from coral_git.maintenance import leftovers, trash
from coral_git.maintenance.closure import Closure, close
from coral_git.maintenance.plan import PackPlan, Plan, is_older, make_plan
from coral_git.maintenance.reachability import Reachable, find_reachable
from coral_git.maintenance.survey import PackState, Survey, is_sound, take_survey
from coral_git.pipeline.dropped import forget_pruned
from coral_git.pipeline.workspace import Workspace
from coral_git.store.locks import exclusive_lock
from coral_git.store.sketch_table import SketchTable
from coral_git.store.store import Store
from coral_git.types import ObjectId

_REPAIR = "run 'git coral fsck --repair'"


@dataclass(slots=True)
class GcReport:
    """What gc did, or with ``dry_run`` would do.

    Attributes:
        dry_run: whether nothing was changed.
        grace: the grace time in seconds.
        keep_all: why no object was collected; empty when that was possible.
        live: objects that manifests name.
        trashed: packs without a live object that went to the trash.
        trashed_bytes: their length.
        rewritten: packs that were written anew without their dead objects.
        dead_bytes: length of these dead objects.
        merged: small packs that were merged.
        restored: packs that came back from the trash.
        deleted: packs that were deleted from the trash.
        leftovers: files of dead processes that were removed.
        freed_bytes: bytes that the file system has back.
        young_bytes: length of dead objects that are younger than the grace time and share a pack.
        warnings: what kept gc from doing all its work.
    """

    dry_run: bool
    grace: int
    keep_all: str = ""
    live: int = 0
    trashed: int = 0
    trashed_bytes: int = 0
    rewritten: int = 0
    dead_bytes: int = 0
    merged: int = 0
    restored: int = 0
    deleted: int = 0
    leftovers: int = 0
    freed_bytes: int = 0
    young_bytes: int = 0
    warnings: list[str] = field(default_factory=list)


def collect_garbage(
    workspace: Workspace, *, grace: int | None = None, dry_run: bool = False, now: float | None = None
) -> GcReport:
    """Run gc.

    Args:
        workspace: the repository.
        grace: seconds below which nothing unreachable goes; by default the setting ``coral.gcGrace``. Below
            a day, objects that another process is adding right now may go, as writers touch older packs only.
        dry_run: change nothing.
        now: the time, seconds since the epoch; the clock by default.

    Raises:
        LockedError: another gc is running.
        CoralError: git or the file system failed; what was done until then is consistent.
    """
    grace = workspace.settings.grace_seconds if grace is None else grace
    return _carry_out(_Run(workspace, time.time() if now is None else now, GcReport(dry_run, grace)))


def free_dropped(workspace: Workspace, *, now: float | None = None, hold: int | None = None) -> GcReport:
    """Free what only dropped checkpoints name, whatever its age; nothing else goes.

    It is in the trash for ``limits.dropped_seconds`` first, and comes back when a manifest names it.

    Args:
        workspace: the repository.
        now: the time, seconds since the epoch; the clock by default.
        hold: seconds in the trash, instead. 0 takes back the room at once; who stores the very same tensors
            in this second may lose them then, which is better than no checkpoint only on a full disk.

    Raises:
        LockedError: another gc is running.
        CoralError: git or the file system failed; what was done until then is consistent.
    """
    run = _Run(workspace, time.time() if now is None else now, GcReport(False, 0), True)
    run.hold = workspace.limits.dropped_seconds if hold is None else hold
    return _carry_out(run)


def _carry_out(run: _Run) -> GcReport:
    root = run.store.root
    try:
        if run.report.dry_run:
            run.preview()
        else:
            with exclusive_lock(run.store.layout.lock, "gc"):
                run.collect()
    except OSError as error:
        raise from_os_error(error, f"collect garbage in '{root}'") from error
    return run.report


class _Run:
    """One run of gc; with ``only_dropped`` it is about dropped checkpoints alone."""

    def __init__(
        self, workspace: Workspace, now: float, report: GcReport, only_dropped: bool = False
    ) -> None:
        self._workspace = workspace
        self.store: Store = workspace.store
        self._only_dropped = only_dropped
        self.hold = report.grace
        self._now = now
        self.report = report
        self._sound: dict[ObjectId, bool] = {}

    def preview(self) -> None:
        """Count what ``collect`` would do."""
        survey, closure, returning = self._mark()
        report = self.report
        report.restored = len(returning)
        back = {state.info.path for state in returning}
        expired = [state for state in self._expired(survey.trash) if state.info.path not in back]
        report.deleted = len(expired)
        report.freed_bytes = sum(state.info.size for state in expired)
        plan = self._plan((*survey.packs, *returning), closure)
        self._count(plan.drop, plan.rewrite, plan.merge)
        if not self.report.grace:
            report.freed_bytes += report.trashed_bytes + report.dead_bytes

    def collect(self) -> None:
        """Do it."""
        report = self.report
        if not self._only_dropped:
            report.leftovers, report.freed_bytes = leftovers.sweep(self._workspace, self._now, report.grace)
        survey, closure = self._mark_and_restore()
        self._empty(survey, closure)  # first, as this makes room for what has to be written
        plan = self._plan(survey.packs, closure)
        moved = self._throw_away(plan.drop)
        self._count(moved, (), ())
        for plans, is_merge in ((plan.rewrite, False), (plan.merge, True)):
            for batch in _batches(plans, self.store.limits.pack_target):
                if is_merge and len(batch) < 2:
                    continue
                written = self._write_anew(batch)
                moved += written
                self._count((), () if is_merge else written, written if is_merge else ())
        if moved and is_older(int(self._now), self._now, report.grace):
            survey, closure = self._mark_and_restore()  # somebody may have named them meanwhile
            self._empty(survey, closure)
        forget_pruned(self._workspace)
        trash.remove_empty_places(self.store)
        self.store.refresh()
        SketchTable(self.store.cache.database).forget_gone()

    # What is kept

    def _mark_and_restore(self) -> tuple[Survey, Closure]:
        """What is kept, after everything that is kept has come back from the trash."""
        survey, closure, returning = self._mark()
        if not returning:
            return survey, closure
        wanted = {location.object_id for state in returning for location in state.entries}
        self.store.find_missing(wanted & closure.kept)
        before = {state.info.id for state in survey.packs}
        survey = take_survey(self.store)
        self.report.restored += sum(state.info.id not in before for state in survey.packs)
        return survey, close(self._live(survey, self._reachable), survey.packs)

    def _mark(self) -> tuple[Survey, Closure, list[PackState]]:
        """The store, what is kept, and the packs in the trash that hold something of it."""
        survey = take_survey(self.store)
        self._reachable = find_reachable(self._workspace)
        self.report.live = len(self._reachable.objects)
        self.report.keep_all = self._reachable.keep_all or _unreadable(survey)
        live = self._live(survey, self._reachable)
        returning: list[PackState] = []
        while True:
            packs = (*survey.packs, *returning)
            closure = close(live, packs)
            missing = closure.kept - {one.object_id for state in packs for one in state.entries}
            more = next((state for state in survey.trash if _holds(state, missing)), None)
            if more is None:
                return survey, closure, returning
            returning.append(more)

    def _live(self, survey: Survey, reachable: Reachable) -> frozenset[ObjectId]:
        if self.report.keep_all:
            return reachable.objects | survey.objects()
        if self._only_dropped:
            return reachable.objects | (survey.objects() - reachable.dropped)
        return reachable.objects

    # What goes

    def _plan(self, packs: Sequence[PackState], closure: Closure) -> Plan:
        plan = make_plan(packs, closure, self._now, self.report.grace, self.store.limits.pack_target)
        self.report.young_bytes = plan.young
        for one in (*plan.drop, *plan.rewrite, *plan.merge):
            if not self._others_are_sound(one, closure):
                return Plan()
        return plan

    def _others_are_sound(self, plan: PackPlan, closure: Closure) -> bool:
        """Whether the copies that make this pack's own copies superfluous can be read."""
        for location in (*plan.spare, *plan.dead):
            chosen = closure.chosen.get(location.object_id)
            if location.object_id not in closure.kept or chosen is None or chosen == location:
                continue
            if not self._is_sound(location.object_id, closure):
                self._warn(f"object '{location.object_id.hex()}' is damaged; no pack was removed; {_REPAIR}")
                return False
        return True

    def _is_sound(self, object_id: ObjectId, closure: Closure) -> bool:
        if object_id not in self._sound:
            self._sound[object_id] = is_sound(self.store, closure.chosen[object_id])
        return self._sound[object_id]

    def _throw_away(self, plans: Iterable[PackPlan]) -> list[PackPlan]:
        by_pack = {plan.state.info.id: plan for plan in plans}
        moved = trash.throw_away(self.store, [plan.state for plan in by_pack.values()], self._now)
        return [by_pack[state.info.id] for state in moved]

    def _write_anew(self, batch: Sequence[PackPlan]) -> list[PackPlan]:
        """Copy what is needed into new packs, make these durable, throw the old ones away."""
        try:
            with self.store.writer() as writer:
                for plan in batch:
                    for location in plan.needed:
                        writer.copy(location)
                written = set(writer.finish())
        except StorageFullError as error:
            self._warn(f"some packs stay as they are: {error.message}")
            return []
        except IntegrityError as error:
            self._warn(f"some packs stay as they are: {error.message}; {_REPAIR}")
            return []
        return self._throw_away(plan for plan in batch if plan.state.info.id not in written)

    def _empty(self, survey: Survey, closure: Closure) -> None:
        """Delete what has been in the trash for the grace time and is not needed."""
        have = survey.objects()
        going = []
        for state in self._expired(survey.trash):
            ids = [one.object_id for one in state.entries]
            if self.report.keep_all and not have.issuperset(ids):
                continue
            if self._only_dropped and not have.union(self._reachable.dropped).issuperset(ids):
                continue
            needed = [one for one in ids if one in closure.kept]
            if not all(one in closure.chosen and self._is_sound(one, closure) for one in needed):
                self._warn(f"'{state.info.path}' stays: it may hold the last good copy; {_REPAIR}")
                continue
            going.append(state)
        self.report.deleted += len(going)
        self.report.freed_bytes += trash.delete(self.store, going)

    def _expired(self, states: Iterable[PackState]) -> Iterator[PackState]:
        return (state for state in states if is_older(state.stamp, self._now, self.hold))

    # What is told

    def _count(
        self, dropped: Iterable[PackPlan], rewritten: Iterable[PackPlan], merged: Iterable[PackPlan]
    ) -> None:
        report = self.report
        for plan in dropped:
            report.trashed += 1
            report.trashed_bytes += plan.state.info.size
        for plan in rewritten:
            report.rewritten += 1
            report.dead_bytes += sum(location.entry_length for location in plan.dead)
        report.merged += sum(1 for _ in merged)

    def _warn(self, message: str) -> None:
        if message not in self.report.warnings:
            self.report.warnings.append(message)


def _unreadable(survey: Survey) -> str:
    """Why the packs do not tell all that is needed: one of them, in its place, cannot be read."""
    for path, error in survey.unreadable.items():
        if "/trash/" not in path:
            return f"the pack '{path}' cannot be read ({_reason(error)})"
    return ""


def _reason(error: CoralError) -> str:
    return "it is of a newer version" if isinstance(error, FormatVersionError) else error.message


def _holds(state: PackState, object_ids: frozenset[ObjectId]) -> bool:
    return any(location.object_id in object_ids for location in state.entries)


def _batches(plans: Sequence[PackPlan], target: int) -> Iterator[list[PackPlan]]:
    """Groups of plans that need about the space of one pack at a time."""
    batch: list[PackPlan] = []
    length = 0
    for plan in plans:
        batch.append(plan)
        length += sum(location.entry_length for location in plan.needed)
        if length >= target:
            yield batch
            batch, length = [], 0
    if batch:
        yield batch
