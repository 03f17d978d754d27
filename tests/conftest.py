"""What all tests share: the order in which they run, and how many threads each of them has."""

from __future__ import annotations

import os

import pytest

# Several tests run at once, and each of them may train: threads of one that wait would keep the other ones
# from their core. Children inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the slow tests, so that no worker is busy with one while the others have nothing left."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
