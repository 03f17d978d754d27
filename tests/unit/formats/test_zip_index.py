"""Zip files: what Python writes is read, and whatever could be understood in two ways is refused."""

from __future__ import annotations

import io
import struct
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coral_git.formats import zip_stream
from coral_git.formats.base import NotThisFormat
from coral_git.formats.zip_index import CENTRAL, END, LOCAL, read_entry, read_zip
from coral_git.formats.zip_stream import ZipStream
from coral_git.limits import DEFAULT_LIMITS
from coral_git.types import BytesSource

CONTENT = {"a": b"first", "b/ü": b"", "c": bytes(range(256)) * 9}
WIDE = pytest.mark.parametrize("wide", [zip_stream.WIDE, 3], ids=["32 bits", "64 bits"])


def by_python(
    content: dict[str, bytes] = CONTENT, method: int = zipfile.ZIP_STORED, **options: bool
) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in content.items():
            with archive.open(name, "w", **options) as entry:
                entry.write(data)
    return file.getvalue()


def by_us(content: dict[str, bytes] = CONTENT) -> bytes:
    file = io.BytesIO()
    stream = ZipStream(file)
    for name, data in content.items():
        stream.add(name, len(data), [data[:7], data[7:]])
    stream.close()
    return file.getvalue()


def entries_of(data: bytes) -> dict[str, bytes]:
    source = BytesSource(data)
    entries = read_zip(source, DEFAULT_LIMITS)
    assert [entry.offset for entry in entries] == sorted(entry.offset for entry in entries)
    return {entry.name: read_entry(source, entry, 1 << 20) for entry in entries}


def refused(data: bytes) -> None:
    with pytest.raises(NotThisFormat):
        read_zip(BytesSource(data), DEFAULT_LIMITS)


def test_what_python_writes() -> None:
    assert entries_of(by_python()) == CONTENT
    assert entries_of(by_python(force_zip64=True)) == CONTENT
    assert entries_of(by_python({})) == {}


def test_descriptors_without_seeking() -> None:
    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            self.data = bytearray()

        def writable(self) -> bool:
            return True

        def write(self, data) -> int:
            self.data += data
            return len(data)

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w") as archive:
        for name, data in CONTENT.items():
            archive.writestr(name, data)
    assert entries_of(bytes(pipe.data)) == CONTENT


@WIDE
def test_what_we_write_is_read_by_python_and_us(wide: int, monkeypatch) -> None:
    monkeypatch.setattr(zip_stream, "WIDE", wide)
    data = by_us()
    assert entries_of(data) == CONTENT
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == CONTENT
    assert all(entry.offset % 64 == 0 for entry in read_zip(BytesSource(data), DEFAULT_LIMITS))


def test_golden_bytes() -> None:
    data = by_us({"a": b"x"})
    local = "504b0304 1400 0808 0000 0000 2100 00000000 00000000 00000000 0100 2100" + "61"
    padding = "4642 1d00" + "5a" * 29
    descriptor = "504b0708 8316dc8c 01000000 01000000"
    central = "504b0102 1400 1400 0808 0000 0000 2100 8316dc8c 01000000 01000000 0100" + "0000" * 4
    end = "504b0506 0000 0000 0100 0100 2f000000 51000000 0000"
    assert data == bytes.fromhex(local + padding + "78" + descriptor + central + "00000000" * 2 + "61" + end)


def test_pieces_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match="2 bytes instead of 3"):
        ZipStream(io.BytesIO()).add("a", 3, [b"ab"])


def test_compressed_entries_are_not_read() -> None:
    source = BytesSource(by_python(method=zipfile.ZIP_DEFLATED))
    entries = {entry.name: entry for entry in read_zip(source, DEFAULT_LIMITS)}
    assert entries["c"].stored < entries["c"].length == len(CONTENT["c"])
    with pytest.raises(NotThisFormat):
        read_entry(source, entries["c"], 1 << 20)
    stored = BytesSource(by_python())
    with pytest.raises(NotThisFormat):
        read_entry(stored, read_zip(stored, DEFAULT_LIMITS)[0], 4)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_what_could_be_understood_in_two_ways() -> None:
    data = by_python()
    refused(b"junk" + data)
    refused(data + b"\0")
    refused(data[:-2] + b"\5\0hello")
    refused(data[: -END.size] + b"\0" + data[-END.size :])
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a", b"1")
        archive.writestr("a", b"2")
    refused(file.getvalue())
    with zipfile.ZipFile(file, "w") as archive:
        archive.comment = b"hello"
    refused(file.getvalue())


def with_central(data: bytes, index: int, value: int) -> bytes:
    """The file with one field of the first record of its directory replaced."""
    start = END.unpack(data[-END.size :])[6]
    fields = list(CENTRAL.unpack_from(data, start))
    fields[index] = value
    return data[:start] + CENTRAL.pack(*fields) + data[start + CENTRAL.size :]


def with_local(data: bytes, index: int, value: int) -> bytes:
    """The file with one field of its first local header replaced."""
    fields = list(LOCAL.unpack_from(data))
    fields[index] = value
    return LOCAL.pack(*fields) + data[LOCAL.size :]


@pytest.mark.parametrize(
    ("index", "value"),
    [(3, 1), (3, 1 << 13), (4, 8), (8, 4), (9, 4), (8, 0xFFFFFFFF), (10, 2), (11, 60000), (12, 9), (16, 7)],
)
def test_a_directory_that_lies(index: int, value: int) -> None:
    refused(with_central(by_python(), index, value))


@pytest.mark.parametrize(
    ("index", "value"), [(2, 1), (3, 8), (7, 4), (8, 4), (8, 0), (9, 0), (9, 60000), (10, 0xFFFF)]
)
def test_a_local_header_that_lies(index: int, value: int) -> None:
    refused(with_local(by_python(), index, value))


def test_overlapping_entries() -> None:
    data = by_python({"a": b"x" * 99, "b": by_python({"b": b"y"})[:40]})
    start = END.unpack(data[-END.size :])[6]
    second = start + CENTRAL.size + 1
    place = CENTRAL.unpack_from(data, second)[-1]
    inner = place + LOCAL.size + 1
    assert data[inner : inner + 4] == b"PK\3\4"
    for target in (0, inner):
        moved = data[: second + 42] + struct.pack("<L", target) + data[second + 46 :]
        refused(moved)
    fields = list(CENTRAL.unpack_from(data, second))
    fields[7:10] = [0, 1, 1]
    fields[-1] = inner
    twice = data[:second] + CENTRAL.pack(*fields) + data[second + CENTRAL.size :]
    assert [entry.name for entry in read_zip(BytesSource(twice), DEFAULT_LIMITS)] == ["a", "b"]


def test_counts_and_lengths_beyond_the_file() -> None:
    data = by_python()
    for index, value in ((3, 9), (4, 9), (5, 1 << 31), (6, 0), (1, 3), (2, 3)):
        fields = list(END.unpack(data[-END.size :]))
        fields[index] = value
        refused(data[: -END.size] + END.pack(*fields))
    with pytest.raises(NotThisFormat):
        read_zip(BytesSource(data), DEFAULT_LIMITS._replace(header_bytes=100))


def test_wide_ends_that_lie(monkeypatch) -> None:
    monkeypatch.setattr(zip_stream, "WIDE", 3)
    data = by_us()
    start = len(data) - END.size - 20 - 56
    assert data[start : start + 4] == b"PK\6\6"
    for offset in (4, 16, 20, 24, 32, 40, 48):
        changed = bytearray(data)
        changed[start + offset + 2] ^= 0x40
        refused(bytes(changed))
    for offset in (4, 8, 16):
        changed = bytearray(data)
        changed[start + 56 + offset] ^= 0x40
        refused(bytes(changed))


@WIDE
def test_cut_short_anywhere(wide: int, monkeypatch) -> None:
    monkeypatch.setattr(zip_stream, "WIDE", wide)
    data = by_us({"a": b"abc", "b": b"d"})
    for length in range(len(data)):
        refused(data[:length])


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_files_are_refused_or_read_within_bounds(draw) -> None:
    data = bytearray(by_python(force_zip64=draw.draw(st.booleans())))
    for _ in range(draw.draw(st.integers(1, 4))):
        data[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    try:
        entries = read_zip(BytesSource(bytes(data)), DEFAULT_LIMITS)
    except NotThisFormat:
        return
    end = 0
    for entry in entries:
        assert end <= entry.header < entry.offset <= entry.end <= len(data)
        end = entry.end
