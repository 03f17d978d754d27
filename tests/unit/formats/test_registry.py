"""Readers are advisers: a bad one costs nothing but space."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from coral_git.errors import CoralError
from coral_git.formats import registry
from coral_git.formats.base import Layout, NotThisFormat, TensorSegment
from coral_git.formats.late import LateReader, make
from coral_git.limits import DEFAULT_LIMITS, Limits
from coral_git.types import DTYPES, ByteSource, BytesSource

U8 = DTYPES["U8"]
SOURCE = BytesSource(bytes(100))


def segment(name: str = "a", offset: int = 0, length: int = 10) -> TensorSegment:
    return TensorSegment(name, U8, (length,), offset, length)


@dataclass
class Reader:
    """A reader that says what it is told to say."""

    answer: Callable[[], Layout]
    name: str = "test"
    version: int = 1

    def sniff(self, head: bytes, size: int) -> bool:
        return True

    def layout(self, source: ByteSource, limits: Limits) -> Layout:
        return self.answer()


def says(*tensors: TensorSegment, format_name: str = "test/1") -> Callable[[], Layout]:
    return lambda: Layout(format_name, tensors)


def fails(error: type[BaseException]) -> Callable[[], Layout]:
    def fail() -> Layout:
        raise error

    return fail


def recurses() -> Layout:
    return recurses()


@pytest.mark.parametrize(
    "answer",
    [
        fails(NotThisFormat),
        fails(ValueError),
        fails(RecursionError),
        fails(MemoryError),
        fails(OverflowError),
        fails(AssertionError),
        recurses,
        says(segment(), segment()),
        says(segment("a"), segment("b")),
        says(segment("a", 50), segment("b", 0)),
        says(segment("a", 91)),
        says(segment("a", -1)),
        says(segment("n" * 1025)),
        says(segment("\ud800")),
        says(TensorSegment("a", U8, (1,) * 65, 0, 1)),
        says(TensorSegment("a", U8, (2,), 0, 3)),
        says(TensorSegment("a", U8, (-1, -2), 0, 2)),
        says(TensorSegment("a", U8, (0, 1 << 64), 0, 0)),
        says(segment(), format_name="test/2"),
        says(segment(), format_name="chunks/1"),
    ],
)
def test_a_bad_reader_is_not_listened_to(
    monkeypatch: pytest.MonkeyPatch, answer: Callable[[], Layout]
) -> None:
    monkeypatch.setattr(registry, "READERS", (Reader(answer),))
    assert registry.read_layout(SOURCE, DEFAULT_LIMITS) is None
    good = Reader(says(segment(), format_name="other/1"), "other")
    monkeypatch.setattr(registry, "READERS", (Reader(answer), good))
    assert registry.read_layout(SOURCE, DEFAULT_LIMITS) == good.answer()


def test_an_interrupt_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "READERS", (Reader(fails(KeyboardInterrupt)),))
    with pytest.raises(KeyboardInterrupt):
        registry.read_layout(SOURCE, DEFAULT_LIMITS)


def test_a_name_in_the_table_is_that_of_the_reader() -> None:
    for reader in registry.READERS:
        assert isinstance(reader, LateReader)
        assert make(reader.place).name == reader.name
        assert make(reader.place).version == reader.version
    assert len({reader.name for reader in registry.READERS}) == len(registry.READERS)


def test_only_the_reader_that_a_file_needs_is_imported() -> None:
    code = """
import sys
from coral_git.formats.registry import read_layout
from coral_git.limits import DEFAULT_LIMITS
from coral_git.types import BytesSource
header = b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'
layout = read_layout(BytesSource(len(header).to_bytes(8, "little") + header + b"?"), DEFAULT_LIMITS)
print(layout.format, *sorted(name for name in sys.modules if name.startswith("coral_git.formats.")))
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    modules = ("base", "late", "registry", "safetensors", "safetensors_header")
    assert done.stdout.split() == ["safetensors/1", *(f"coral_git.formats.{name}" for name in modules)]


PLUGIN = """
from coral_git.formats.base import Layout, TensorSegment
from coral_git.types import DTYPES

class Reader:
    name = "{name}"
    version = 3

    def sniff(self, head, size):
        return head.startswith(b"plugin")

    def layout(self, source, limits):
        return Layout("{name}/3", (TensorSegment("t", DTYPES["U8"], (6,), 0, 6),))
"""


def install(folder: Path, module: str, name: str, value: str | None = None) -> None:
    """What an installed package with a reader looks like."""
    (folder / f"{module}.py").write_text(PLUGIN.format(name=name))
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[coral_git.formats]\n{module} = {value or module + ':Reader'}\n")


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(registry, "_cached", None)
    return tmp_path


def test_installed_readers_are_asked_last(packages: Path) -> None:
    install(packages, "coral_test_plugin", "fancy")
    install(packages, "coral_test_broken", "broken", "no_such_module:Reader")
    layout = registry.read_layout(BytesSource(b"plugin" + bytes(9)), DEFAULT_LIMITS)
    assert layout is not None
    assert layout.format == "fancy/3"
    assert registry.read_layout(BytesSource(bytes(9)), DEFAULT_LIMITS) is None
    sys.modules.pop("coral_test_plugin")


def test_two_readers_of_one_name_are_an_error(packages: Path) -> None:
    install(packages, "coral_test_double", "safetensors")
    with pytest.raises(CoralError, match="two format readers are called 'safetensors'"):
        registry.load_installed()
    sys.modules.pop("coral_test_double")
