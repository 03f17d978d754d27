"""The index of zip files: what programs write, and what two programs would see differently."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zipfile
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coral_git.formats import zip_index
from coral_git.formats.base import NotThisFormat
from coral_git.formats.zip_index import ZipEntry, read_zip
from coral_git.limits import DEFAULT_LIMITS, Limits
from coral_git.types import BytesSource

from .hostile import damaged

MEMBERS = {"a": b"first", "dir/b": b"", "ä": bytes(300), "c" * 200: b"last" * 9}


class Pipe(io.RawIOBase):
    """A file that cannot seek, so that sizes are written behind the data."""

    def __init__(self) -> None:
        self.data = b""

    def writable(self) -> bool:
        return True

    def write(self, data) -> int:
        self.data += bytes(data)
        return len(data)


def zipped(
    members: dict[str, bytes] = MEMBERS,
    method: int = zipfile.ZIP_STORED,
    *,
    comment: bytes = b"",
    stream: bool = False,
    large: bool = False,
) -> bytes:
    file = Pipe() if stream else io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in members.items():
            with archive.open(name, "w", force_zip64=large) as member:
                member.write(data)
        archive.comment = comment
    return file.data if isinstance(file, Pipe) else file.getvalue()


def index(data: bytes, limits: Limits = DEFAULT_LIMITS) -> tuple[ZipEntry, ...] | None:
    try:
        return read_zip(BytesSource(data), limits)
    except NotThisFormat:
        return None


def with_end64(data: bytes, **changes: int) -> bytes:
    """The same archive with the records of a large one."""
    end = data.rindex(b"PK\5\6")
    count, length, start = struct.unpack_from("<HII", data, end + 10)
    values = {"count": count, "length": length, "start": start, "place": end, "size": 44, "disks": 1}
    values |= changes
    numbers = (values["count"], values["count"], values["length"], values["start"])
    record = struct.pack("<4sQ2H2I4Q", b"PK\6\6", values["size"], 45, 45, 0, 0, *numbers)
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, values["place"], values["disks"])
    short = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return data[:end] + record + locator + short


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("comment", [b"", b"PK\5\6 is no end", bytes(0xFFFF)])
def test_what_zipfile_writes(method: int, stream: bool, large: bool, comment: bytes) -> None:
    data = zipped(method=method, stream=stream, large=large, comment=comment)
    entries = index(data)
    assert entries is not None
    assert [entry.name for entry in entries] == list(MEMBERS)
    for entry, raw in zip(entries, MEMBERS.values(), strict=True):
        found = data[entry.offset : entry.offset + entry.size]
        assert (entry.method, entry.raw_size, entry.crc) == (method, len(raw), zlib.crc32(raw))
        assert (zlib.decompress(found, -15) if method else found) == raw
        assert len(entry.crc_places) == 2
        for place in entry.crc_places:
            assert struct.unpack_from("<I", data, place) == (entry.crc,)
    if large:
        assert index(with_end64(data[: len(data) - len(comment)])) == entries


def test_an_archive_without_members() -> None:
    assert index(zipped({})) == ()


@pytest.mark.parametrize("form", ["<4sIII", "<4sIQQ", "<III", "<IQQ"])
def test_the_four_forms_of_a_record_behind_the_data(form: str) -> None:
    data = zipped({"a": b"data"}, stream=True)
    (entry,) = index(data)
    told = (entry.crc, entry.size, entry.raw_size)
    record = struct.pack(form, *([b"PK\7\b"] if "s" in form else []), *told)
    directory = data[data.index(b"PK\1\2") : data.index(b"PK\5\6")]
    body = data[: entry.offset + 4] + record
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 1, 1, len(directory), len(body), 0)
    other = body + directory + end
    (found,) = index(other)
    assert [struct.unpack_from("<I", other, place)[0] for place in found.crc_places] == [entry.crc] * 2
    assert index(other.replace(record, bytes(len(record)))) is None


PLAIN = zipped({"a": b"data", "b": b"more"})
CENTRAL = PLAIN.index(b"PK\1\2")
SECOND = PLAIN.index(b"PK\1\2", CENTRAL + 1)
END = PLAIN.index(b"PK\5\6")


def patched(*changes: tuple[int, str, int], data: bytes = PLAIN) -> bytes:
    result = bytearray(data)
    for place, form, value in changes:
        struct.pack_into("<" + form, result, place, value)
    return bytes(result)


def both(local: int, central: int, form: str, value: int) -> bytes:
    """The first member with a field changed in both places."""
    return patched((local, form, value), (CENTRAL + central, form, value))


HOSTILE = {
    "empty": b"",
    "no end": PLAIN[:END],
    "two ends": PLAIN + PLAIN[END:],
    "an end in the comment": patched((END + 20, "H", 22)) + struct.pack("<4s4H2IH", b"PK\5\6", *[0] * 7),
    "something behind": PLAIN + b"x",
    "something in front": b"x" + PLAIN,
    "another disk": patched((END + 4, "H", 1)),
    "directory on another disk": patched((END + 6, "H", 1)),
    "member on another disk": patched((CENTRAL + 34, "H", 1)),
    "fewer entries here": patched((END + 8, "H", 1)),
    "more entries than there are": patched((END + 8, "H", 3), (END + 10, "H", 3)),
    "fewer entries than there are": patched((END + 8, "H", 1), (END + 10, "H", 1)),
    "directory too long": patched((END + 12, "I", 2**31)),
    "directory elsewhere": patched((END + 16, "I", CENTRAL - 1)),
    "directory beyond": patched((END + 16, "I", 2**31)),
    "encrypted": both(6, 8, "H", 1),
    "strongly encrypted": both(6, 8, "H", 0x41),
    "masked": both(6, 8, "H", 1 << 13),
    "patch": both(6, 8, "H", 1 << 5),
    "other flags": patched((CENTRAL + 8, "H", 1 << 11)),
    "other method": patched((CENTRAL + 10, "H", 8)),
    "other checksum": patched((CENTRAL + 16, "I", 1)),
    "other length": patched((CENTRAL + 20, "I", 3)),
    "stored with two lengths": patched(*((place, "I", 5) for place in (22, CENTRAL + 24))),
    "other name": patched((30, "B", ord("z"))),
    "the same name": patched((CENTRAL - 5, "B", ord("a")), (SECOND + 46, "B", ord("a"))),
    "the same member twice": patched((SECOND + 42, "I", 0)),
    "a member inside another": patched((SECOND + 42, "I", 2)),
    "a member beyond": patched((SECOND + 42, "I", 2**31)),
    "a member in the directory": patched((SECOND + 42, "I", CENTRAL)),
    "a member over the directory": patched(
        *((place, "I", 400) for place in (18, 22, CENTRAL + 20, CENTRAL + 24))
    ),
    "long name": patched((CENTRAL + 28, "H", 0xFFFF)),
    "long extra": patched((CENTRAL + 30, "H", 0xFFFF)),
    "long comment": patched((CENTRAL + 32, "H", 0xFFFF)),
    "long name in its own header": patched((26, "H", 0xFFFF)),
    "long extra in its own header": patched((28, "H", 0xFFFF)),
    "bad sign": patched((CENTRAL, "B", 0)),
    "bad sign of its own": patched((0, "B", 0)),
    "size 2^32-1 without more": both(18, 20, "I", 0xFFFFFFFF),
    "not UTF-8": zipped({"ä": b""}).replace("ä".encode(), b"\xff\xff"),
    "zip64: two ends disagree": with_end64(PLAIN)[:-12] + struct.pack("<IIH", 1, 1, 0),
    "zip64: record elsewhere": with_end64(PLAIN, place=0),
    "zip64: record beyond": with_end64(PLAIN, place=2**63),
    "zip64: record too long": with_end64(PLAIN, size=2**60),
    "zip64: two disks": with_end64(PLAIN, disks=2),
    "zip64: 2^60 entries": with_end64(PLAIN, count=2**60),
    "zip64: directory of 2^60": with_end64(PLAIN, length=2**60),
    "zip64: directory at 2^60": with_end64(PLAIN, start=2**60),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_ambiguous_archives_are_refused(data: bytes) -> None:
    assert index(data) is None


def with_extra(extra: bytes, size: int = 4) -> bytes:
    """An archive of one member whose central entry has an extra field."""
    data = zipped({"a": b"data"})
    at = data.index(b"PK\1\2")
    entry = bytearray(data[at : data.index(b"PK\5\6")])
    struct.pack_into("<2I", entry, 20, size, 4)
    struct.pack_into("<H", entry, 30, len(extra))
    entry += extra
    return data[:at] + entry + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 1, 1, len(entry), at, 0)


def test_extra_fields() -> None:
    large = struct.pack("<2HQ", 1, 8, 4)
    assert index(with_extra(struct.pack("<2H3s", 0x9999, 3, b"abc"))) is not None
    assert index(with_extra(bytes(3))) is not None
    assert index(with_extra(large, 0xFFFFFFFF)) is not None
    assert index(with_extra(struct.pack("<2HQ", 1, 8, 2**60), 0xFFFFFFFF)) is None
    assert index(with_extra(struct.pack("<2HI", 1, 4, 4), 0xFFFFFFFF)) is None
    assert index(with_extra(large * 2, 0xFFFFFFFF)) is None
    assert index(with_extra(struct.pack("<2H", 0x9999, 3))) is None
    assert index(with_extra(struct.pack("<2HBI", 0x7075, 6, 1, 0) + b"z")) is None


def test_names_of_old_archives() -> None:
    data = zipped({"a": b"data"})
    old = bytearray(data)
    old[30] = old[data.index(b"PK\1\2") + 46] = 0x84
    assert [entry.name for entry in index(bytes(old))] == ["ä"]
    assert zipfile.ZipFile(io.BytesIO(bytes(old))).namelist() == ["ä"]


def test_limits_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    assert index(PLAIN, Limits(header_bytes=END - CENTRAL)) is not None
    assert index(PLAIN, Limits(header_bytes=END - CENTRAL - 1)) is None
    monkeypatch.setattr(zip_index, "MAX_TENSORS", 1)
    assert index(PLAIN) is None


def test_a_cut_anywhere_is_noticed() -> None:
    for data in (PLAIN, zipped(stream=True, large=True), with_end64(PLAIN)):
        for length in range(len(data)):
            assert index(data[:length]) is None


def test_many_members_take_memory_by_their_number() -> None:
    data = zipped({f"{n}": b"" for n in range(5000)})
    tracemalloc.start()
    assert len(index(data)) == 5000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 * len(data)


SAMPLES = [PLAIN, zipped(stream=True, large=True), with_end64(PLAIN), zipped(method=zipfile.ZIP_DEFLATED)]


@settings(max_examples=300, deadline=None)
@given(st.data(), st.sampled_from(SAMPLES))
def test_any_damage_gives_a_sound_index_or_none(data: st.DataObject, archive: bytes) -> None:
    end = 0
    for entry in index(damaged(data, archive)) or ():
        assert end <= entry.offset
        end = entry.offset + entry.size
        assert end <= len(archive)
        assert all(0 <= place <= len(archive) - 4 for place in entry.crc_places)
