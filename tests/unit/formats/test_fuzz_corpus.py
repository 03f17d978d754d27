"""Small odd files of every format, kept for fuzzers and read by every test run."""

from __future__ import annotations

from pathlib import Path

import pytest

from coral_git.formats.base import HEAD_BYTES, NotThisFormat
from coral_git.formats.registry import READERS, read_layout
from coral_git.limits import DEFAULT_LIMITS
from coral_git.types import BytesSource

CORPUS = Path(__file__).parents[2] / "fuzz" / "corpus"
SEEDS = sorted(path for path in CORPUS.glob("*/*") if path.is_file())


@pytest.mark.parametrize("path", SEEDS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_readers_only_refuse(path: Path) -> None:
    data = path.read_bytes()
    assert len(data) < 4096
    layout = read_layout(BytesSource(data), DEFAULT_LIMITS)
    if path.name.startswith("good"):
        assert layout is not None
        assert layout.format.startswith(path.parent.name + "/")
    for reader in READERS:
        if reader.sniff(data[:HEAD_BYTES], len(data)):
            try:
                reader.layout(BytesSource(data), DEFAULT_LIMITS)
            except NotThisFormat:
                continue
