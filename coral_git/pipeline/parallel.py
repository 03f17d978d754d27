"""A small pool of threads whose results come back in order.

``concurrent.futures`` costs 25 ms of start-up, which a filter pays for every git command; encoding and
decoding release the interpreter lock, so plain threads are all that is needed.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from queue import SimpleQueue
from typing import Any, Generic, Self, TypeVar

from coral_git.codecs.kernels import keep_memory

A = TypeVar("A")
R = TypeVar("R")


class _Task(Generic[A, R]):
    """One call, its argument and, once ``done`` is released, its result."""

    __slots__ = ("argument", "cancelled", "done", "error", "function", "result")

    def __init__(self, function: Callable[[A], R], argument: A) -> None:
        self.function = function
        self.argument = argument
        self.result: R | None = None
        self.error: BaseException | None = None
        self.cancelled = False
        self.done = threading.Lock()
        self.done.acquire()

    def run(self) -> None:
        try:
            if not self.cancelled:
                self.result = self.function(self.argument)
        except BaseException as error:  # noqa: BLE001 - it is raised again where the result is taken
            self.error = error
        finally:
            self.done.release()

    def wait(self) -> None:
        """Wait for the end of the call; may be asked again."""
        with self.done:
            pass

    def take(self) -> R:
        self.wait()
        if self.error is not None:
            raise self.error
        return self.result  # type: ignore[return-value]


class Workers:
    """Threads that run calls; use as a context manager.

    Args:
        threads: how many; with one, calls still overlap with the caller.
    """

    def __init__(self, threads: int) -> None:
        self._count = max(1, threads)
        keep_memory()
        self._queue: SimpleQueue[_Task[Any, Any] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []

    @property
    def window(self) -> int:
        """How many calls are in flight for one map, so that memory stays bounded."""
        return 2 * self._count

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    def submit(self, function: Callable[[A], R], argument: A) -> Callable[[], R]:
        """Start one call; the returned function waits for its result."""
        return self._start(function, argument).take

    def map(self, function: Callable[[A], R], arguments: Iterable[A]) -> Iterator[R]:
        """Results in the order of the arguments; arguments are drawn only a window ahead.

        An error is raised where its result would have come; what was started is waited for first.
        """
        running: deque[_Task[A, R]] = deque()
        try:
            for argument in arguments:
                running.append(self._start(function, argument))
                if len(running) >= self.window:
                    result = running[0].take()  # it stays listed until then: Ctrl-C must wait for it too
                    running.popleft()
                    yield result
            while running:
                result = running[0].take()
                running.popleft()
                yield result
        finally:
            for task in running:
                task.cancelled = True
            for task in running:
                task.wait()

    def _start(self, function: Callable[[A], R], argument: A) -> _Task[A, R]:
        task = _Task(function, argument)
        if len(self._threads) < self._count:
            self._add_thread()
        if self._threads:
            self._queue.put(task)
        else:
            task.run()
        return task

    def _add_thread(self) -> None:
        thread = threading.Thread(target=self._work, daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the system allows no more: those that are there, or the caller, do the work
            self._count = max(1, len(self._threads))
            return
        self._threads.append(thread)

    def _work(self) -> None:
        while (task := self._queue.get()) is not None:
            task.run()
