import os

import pytest

from coral_git import fsops
from coral_git.errors import LockedError
from coral_git.store.locks import exclusive_lock


def test_the_second_is_told_who_holds_it(store):
    path = store.layout.lock
    with exclusive_lock(path, "gc"):
        owner = rf"process {os.getpid()} on .* for gc"
        with pytest.raises(LockedError, match=owner) as caught, exclusive_lock(path, "repack"):
            pass
        assert caught.value.hint
    with exclusive_lock(path, "repack"):
        pass


def test_the_lock_of_a_dead_process_is_free(store):
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        with exclusive_lock(store.layout.lock, "gc"):
            os.write(writing, b"x")
            os._exit(9)
    assert os.read(reading, 1) == b"x"
    os.waitpid(child, 0)
    with exclusive_lock(store.layout.lock, "gc"):
        pass
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize("content", [b"", b"{half a json", b"\x1b[31mred" * 100, bytes(300)])
def test_what_is_in_the_file_is_never_believed(store, content):
    with open(store.layout.lock, "wb") as file:
        file.write(content)
    with exclusive_lock(store.layout.lock, "gc"):
        with open(store.layout.lock, "r+b") as file:
            file.write(content)
        with pytest.raises(LockedError) as caught, exclusive_lock(store.layout.lock, "gc"):
            pass
        assert caught.value.message.isprintable()


def test_a_full_disk_does_not_keep_gc_from_working(store):
    def full(name, path):
        if name == "write":
            raise OSError(28, "No space left on device")

    fsops.set_fault_hook(full)
    with exclusive_lock(store.layout.lock, "gc"):
        pass


def test_an_error_inside_releases(store):
    with pytest.raises(RuntimeError), exclusive_lock(store.layout.lock, "gc"):
        raise RuntimeError
    with exclusive_lock(store.layout.lock, "gc"):
        pass


def test_a_process_that_was_begun_meanwhile_does_not_keep_it(store):
    reading, writing = os.pipe()
    with exclusive_lock(store.layout.lock, "gc"):
        child = os.fork()
        if child == 0:  # has the descriptor of the lock, as what another thread is about to start
            os.close(writing)
            os.read(reading, 1)
            os._exit(0)
    with exclusive_lock(store.layout.lock, "gc"):
        pass
    os.close(writing)
    os.waitpid(child, 0)
    os.close(reading)
