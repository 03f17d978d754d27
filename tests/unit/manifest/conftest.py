"""A small manifest with everything in it."""

from __future__ import annotations

from pathlib import Path

import pytest

GOLDEN = Path(__file__).parents[2] / "golden" / "manifest"


@pytest.fixture(scope="session")
def sample() -> bytes:
    return (GOLDEN / "tensors.txt").read_bytes()


@pytest.fixture(scope="session")
def golden() -> Path:
    return GOLDEN
