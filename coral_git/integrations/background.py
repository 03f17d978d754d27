"""One thread that saves while the training goes on; who comes too early waits."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from typing import Generic, TypeVar

R = TypeVar("R")


class Job(Generic[R]):
    """Something that is being done in the background.

    Args:
        work: what is done.
    """

    def __init__(self, work: Callable[[], R]) -> None:
        self._work: Callable[[], R] | None = work
        self._done = threading.Event()
        self._result: R | None = None
        self._error: BaseException | None = None

    @classmethod
    def failed(cls, error: BaseException) -> Job[R]:
        """A job that has ended with an error before it was begun."""

        def fail() -> R:
            raise error

        job = cls(fail)
        job.run()
        return job

    @classmethod
    def done(cls, result: R) -> Job[R]:
        """A job that there was nothing to do for."""
        job = cls(lambda: result)
        job.run()
        return job

    @property
    def is_done(self) -> bool:
        """Whether it has ended, well or not."""
        return self._done.is_set()

    @property
    def error(self) -> BaseException | None:
        """Why it failed; None while it runs, and when it did not."""
        return self._error

    def result(self) -> R:
        """Wait for the end; gives what came out, or raises what went wrong."""
        self._done.wait()
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[return-value]

    def run(self) -> None:
        """Do it, once; what it holds is let go of then."""
        work, self._work = self._work, None
        if work is None:
            return
        try:
            self._result = work()
        except BaseException as error:  # noqa: BLE001 - whoever waits gets it
            self._error = error
        finally:
            del work
            self._done.set()


class Background:
    """Does one job at a time.

    A second job that comes while one is running waits for it, so that what is kept in memory stays bounded.

    Args:
        strict: whether a job that failed stops whoever comes next; else there is a warning.
    """

    def __init__(self, *, strict: bool = False) -> None:
        self._strict = strict
        self._running: Job[object] | None = None

    def submit(self, work: Callable[[], R]) -> Job[R]:
        """Start a job, after the one before has ended.

        Raises:
            BaseException: what the one before failed with, when this is strict.
        """
        self.wait()
        job = Job(work)
        self._running = job  # type: ignore[assignment]
        threading.Thread(target=job.run, name="coral-save").start()
        return job

    def wait(self) -> None:
        """Wait for the job that is running.

        Raises:
            BaseException: what it failed with, when this is strict.
        """
        job, self._running = self._running, None
        if job is None:
            return
        try:
            job.result()
        except Exception as error:
            if self._strict:
                raise
            warnings.warn(f"a checkpoint was not saved: {error}", RuntimeWarning, stacklevel=3)
