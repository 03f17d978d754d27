"""Every single write operation fails once, or the process ends there."""

import errno
import itertools
import os

import pytest

from coral_git import fsops
from coral_git.errors import CoralError
from coral_git.limits import Limits
from coral_git.store.store import Store

LIMITS = Limits(pack_target=800)


class Nth:
    """Fails at the n-th operation."""

    def __init__(self, number, action):
        self.left = number
        self.action = action

    def __call__(self, name, path):
        self.left -= 1
        if self.left == 0:
            self.action()


def io_error():
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def interrupt():
    raise KeyboardInterrupt


def session(store, build, raws):
    with store.writer() as writer:
        for raw in raws:
            if not writer.contains(build.object_id(raw)):
                writer.add(build.encode(raw))
        return writer.finish()


def check(root, build, raws, *, complete):
    """Nothing wrong is readable; with ``complete`` everything is."""
    with Store.open(root, LIMITS) as fresh:
        for raw in raws:
            if complete or fresh.has(build.object_id(raw)):
                assert fresh.read(build.object_id(raw), 10_000) == raw
        assert [problem for info in fresh.packs() for problem in fresh.verify(info.id)] == []


@pytest.mark.parametrize("action", [io_error, interrupt])
def test_an_error_at_every_operation(tmp_path, build, action):
    raws = [build.raw(number) for number in range(5)]
    for number in itertools.count(1):
        root = str(tmp_path / str(number))
        with Store.create(root, LIMITS) as store:
            hook = Nth(number, action)
            fsops.set_fault_hook(hook)
            try:
                session(store, build, raws)
                failed = False
            except (CoralError, KeyboardInterrupt):
                failed = True
            fsops.set_fault_hook(None)
            assert build.incoming(store) == []
            store.refresh()
            check(root, build, raws, complete=not failed)
            session(store, build, raws)
            assert build.incoming(store) == []
            check(root, build, raws, complete=True)
        if hook.left > 0:
            assert not failed
            break
    assert number > 15


def test_the_end_of_the_process_at_every_operation(tmp_path, build):
    raws = [build.raw(number) for number in range(5)]
    for number in itertools.count(1):
        root = str(tmp_path / str(number))
        Store.create(root, LIMITS).close()
        child = os.fork()
        if child == 0:
            fsops.set_fault_hook(Nth(number, lambda: os._exit(9)))
            session(Store.open(root, LIMITS), build, raws)
            os._exit(0)
        killed = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert killed in (0, 9)
        with Store.open(root, LIMITS) as store:
            owners = {int(name.split("-")[1]) for name in build.incoming(store)}
            assert owners <= {child}  # gc can tell that the owner is gone
            for raw in raws:
                if store.has(build.object_id(raw)):
                    assert store.read(build.object_id(raw), 10_000) == raw
            session(store, build, raws)
        check(root, build, raws, complete=True)
        if killed == 0:
            break
    assert number > 15


def test_a_failing_index_repair_does_not_disturb_reading(tmp_path, build):
    raw = build.raw(1)
    for number in itertools.count(1):
        with Store.create(str(tmp_path / str(number))) as store:
            os.unlink(store.layout.index_path(build.put(store, raw)))
            store.close()
            for suffix in ("", "-wal", "-shm"):
                if os.path.exists(store.layout.cache + suffix):
                    os.unlink(store.layout.cache + suffix)
            hook = Nth(number, io_error)
            fsops.set_fault_hook(hook)
            assert store.read(build.object_id(raw), 1000) == raw
            fsops.set_fault_hook(None)
            assert build.incoming(store) == []
        if hook.left > 0:
            break
    assert number > 3
