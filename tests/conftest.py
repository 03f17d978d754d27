"""What all tests share: the order in which they run."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the slow tests, so that no worker is busy with one while the others have nothing left."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
