"""The pool: order, bounded look-ahead, errors, and calls that start further calls."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coral_git.pipeline.parallel import Workers


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(), max_size=40), st.integers(1, 5))
def test_results_come_in_the_order_of_the_arguments(numbers, threads):
    with Workers(threads) as workers:
        assert list(workers.map(lambda number: number * 2, numbers)) == [number * 2 for number in numbers]


def test_calls_run_at_the_same_time():
    barrier = threading.Barrier(3, timeout=20)
    with Workers(3) as workers:
        assert sorted(workers.map(lambda _: barrier.wait(), range(3))) == [0, 1, 2]


def test_arguments_are_drawn_only_a_window_ahead():
    drawn = []

    def numbers():
        for number in range(1000):
            drawn.append(number)
            yield number

    with Workers(2) as workers:
        results = workers.map(str, numbers())
        assert next(results) == "0"
        assert len(drawn) <= workers.window
        results.close()
    assert len(drawn) <= workers.window


def test_the_caller_does_the_work_where_no_thread_can_be_started(monkeypatch):
    def refuse(_thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with Workers(3) as workers:
        assert list(workers.map(str, range(20))) == [str(number) for number in range(20)]
        assert workers.submit(len, "abc")() == 3


def test_an_error_comes_where_its_result_would_have_come():
    done = []

    def divide(number):
        done.append(number)
        return 12 // number

    with Workers(2) as workers:
        results = workers.map(divide, [6, 3, 0, 2, 1])
        assert [next(results), next(results)] == [2, 4]
        with pytest.raises(ZeroDivisionError):
            next(results)
        assert list(workers.map(divide, [4])) == [3]  # the pool goes on
    assert {6, 3, 0, 4} <= set(done)


def test_an_error_in_the_arguments_is_raised_and_leaves_nothing_running():
    def numbers():
        yield 1
        raise ValueError("no more")

    with Workers(2) as workers:
        with pytest.raises(ValueError, match="no more"):
            list(workers.map(str, numbers()))
        assert workers.submit(str, 5)() == "5"


def test_a_single_call():
    with Workers(1) as workers:
        first = workers.submit(lambda number: number + 1, 1)
        second = workers.submit(lambda number: number // 0, 1)
        assert first() == 2
        with pytest.raises(ZeroDivisionError):
            second()


def test_maps_can_be_chained():
    with Workers(2) as workers:
        doubled = workers.map(lambda number: 2 * number, range(50))
        assert list(workers.map(str, doubled)) == [str(2 * number) for number in range(50)]


def test_leaving_ends_the_threads():
    before = threading.active_count()
    with Workers(4) as workers:
        list(workers.map(str, range(20)))
        assert threading.active_count() <= before + 4
    assert threading.active_count() == before
