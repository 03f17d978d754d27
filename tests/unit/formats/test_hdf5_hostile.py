"""HDF5 files that nobody should write: refused, quickly, and never with another exception."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coral_git.formats import hdf5_file
from coral_git.formats.base import NotThisFormat
from coral_git.formats.hdf5 import Hdf5Reader
from coral_git.limits import DEFAULT_LIMITS
from coral_git.types import BytesSource

from .hostile import ask, contents, damaged

h5py = pytest.importorskip("h5py")
READER = Hdf5Reader()
UNDEFINED = 2**64 - 1
OLD, NEW = ("earliest", "v108"), ("latest", "latest")
VALUES = np.arange(24, dtype="f4").reshape(6, 4)


def small(libver: tuple[str, str], chunks: bool = False) -> bytes:
    """Two groups and two datasets."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", libver=libver) as file:
        file.create_dataset("a/x", data=VALUES, chunks=(6, 4) if chunks else None)
        file["b/y"] = VALUES[:2]
    return buffer.getvalue()


def everything(libver: tuple[str, str]) -> bytes:
    """Each structure that the reader knows."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", libver=libver, track_order=True) as file:
        for number in range(60):
            file[f"group/with many members {number}"] = VALUES + number
        big = np.zeros((40, 1024), "f4")
        for chunk, largest in (((1, 1024), None), ((8, 512), (None, None)), ((40, 1024), None)):
            file.create_dataset(f"x{chunk}", data=big, chunks=chunk, maxshape=largest)
        for number in range(6):
            file.attrs[f"a{number}"] = "x" * 50
    return buffer.getvalue()


SMALL = {
    name: small(libver, chunks)
    for name, libver, chunks in [
        ("old", OLD, False),
        ("old chunks", OLD, True),
        ("new", NEW, False),
        ("new chunks", NEW, True),
    ]
}
EVERYTHING = {"old": everything(OLD), "v108": everything(("v108", "v108")), "new": everything(NEW)}


def test_the_files_are_valid() -> None:
    for file in SMALL.values():
        layout = ask(READER, file)
        assert layout is not None
        assert contents(file, layout) == {"a/x": VALUES.tobytes(), "b/y": VALUES[:2].tobytes()}
    for file in EVERYTHING.values():
        layout = ask(READER, file)
        assert layout is not None
        assert len(layout.tensors) >= 62


@pytest.mark.parametrize("name", SMALL)
def test_truncation_at_every_byte(name: str) -> None:
    file = SMALL[name]
    for length in range(len(file)):
        layout = ask(READER, file[:length])
        assert layout is None or set(contents(file[:length], layout).values()) <= {
            VALUES.tobytes(),
            VALUES[:2].tobytes(),
        }


@pytest.mark.parametrize("name", SMALL)
def test_every_byte_replaced(name: str) -> None:
    file = SMALL[name]
    for place in range(len(file)):
        ask(READER, file[:place] + b"\0\x7f\xff"[place % 3 :][:1] + file[place + 1 :])


@settings(max_examples=200, deadline=None)
@given(st.data(), st.sampled_from(sorted(EVERYTHING)))
def test_damage_anywhere(data: st.DataObject, name: str) -> None:
    ask(READER, damaged(data, EVERYTHING[name]))


@settings(max_examples=200, deadline=None)
@given(st.data(), st.sampled_from(sorted(SMALL)))
def test_addresses_that_lead_elsewhere(data: st.DataObject, name: str) -> None:
    """Eight bytes anywhere become an address within the file: circles, overlaps, one thing for another."""
    file = bytearray(SMALL[name])
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(file) - 8))
        struct.pack_into("<Q", file, place, data.draw(st.integers(0, len(file)) | st.just(UNDEFINED)))
    ask(READER, bytes(file))


def superblock(root: int, address_size: int = 8, length_size: int = 8) -> bytes:
    """A superblock of version 2, 48 bytes."""
    head = b"\x89HDF\r\n\x1a\n\x02" + bytes([address_size, length_size, 0])
    return head + struct.pack("<QQQQI", 0, UNDEFINED, 1 << 40, root, 0)


def header(*messages: tuple[int, bytes]) -> bytes:
    """An object header of version 2."""
    body = b"".join(struct.pack("<BHB", kind, len(data), 0) + data for kind, data in messages)
    return b"OHDR\x02\x02" + struct.pack("<I", len(body)) + body + bytes(4)


def old_header(*messages: tuple[int, bytes]) -> bytes:
    """An object header of version 1."""
    body = b"".join(struct.pack("<HHBxxx", kind, len(data), 0) + data for kind, data in messages)
    return struct.pack("<BxHII4x", 1, len(messages), 1, len(body)) + body


def link(name: bytes, address: int) -> tuple[int, bytes]:
    return 6, b"\x01\x03" + struct.pack("<Q", len(name)) + name + struct.pack("<Q", address)


FLOAT = b"\x11\x20\x1f\x00\x04\x00\x00\x00" + struct.pack("<HHBBBBI", 0, 32, 23, 8, 0, 23, 127)


def dataset(address: int, *shape: int, length: int | None = None, dtype: bytes = FLOAT) -> bytes:
    size = length if length is not None else 4 * int(np.prod(shape, dtype=object))
    return header(
        (1, struct.pack(f"<BBBB{len(shape)}Q", 2, len(shape), 0, 1, *shape)),
        (3, dtype),
        (8, struct.pack("<BBQQ", 3, 1, address, size % 2**64)),
    )


def file_of(*objects: bytes) -> bytes:
    """A file whose root group, at 48, has links a, b, … to the objects, and 64 bytes of data at the end."""
    root_size = len(header(*(link(b"a", 0) for _ in objects)))
    places = []
    end = 48 + root_size
    for one in objects:
        places.append(end)
        end += len(one)
    links = (link(bytes([97 + number]), place) for number, place in enumerate(places))
    return superblock(48) + header(*links) + b"".join(objects) + bytes(64)


def hostile() -> Iterator[tuple[str, bytes]]:
    """Whole files with a name for each."""
    good = dataset(0, 4)
    end = len(file_of(good)) - 64
    yield "a dataset beyond the file", file_of(dataset(end + 60, 4))
    yield "a length that is not that of the values", file_of(dataset(end, 4, length=20))
    yield "a shape of 2^60", file_of(dataset(end, 1 << 60))
    yield "a shape whose product overflows", file_of(dataset(end, 1 << 33, 1 << 33, length=0))
    yield (
        "a rank of 255",
        file_of(header((1, b"\x02\xff\0\1" + bytes(8 * 255)), (3, FLOAT), (8, b"\x03\x01"))),
    )
    yield "two datasets in one place", file_of(*[dataset(end + len(good) + 20, 4)] * 2)
    yield (
        "an empty message where a layout should be",
        file_of(header((1, b"\x02\0\0\0"), (3, FLOAT), (8, b""))),
    )
    continuation = struct.pack("<QQ", 48, 60)
    yield "a header that goes on in itself", superblock(48) + header((16, continuation)) + bytes(100)
    yield "an old one too", superblock(48) + old_header((16, struct.pack("<QQ", 64, 24))) + bytes(100)
    yield "one that goes on nowhere", superblock(48) + header((16, struct.pack("<QQ", UNDEFINED, 9)))
    yield (
        "a continuation without its signature",
        (superblock(48) + header((16, struct.pack("<QQ", 100, 60))) + bytes(200)),
    )
    yield (
        "a continuation of three bytes",
        superblock(48) + header((16, struct.pack("<QQ", 60, 3))) + bytes(99),
    )
    yield (
        "a message longer than its block",
        superblock(48) + header((6, b""))[:-7] + b"\xff\xff\0" + bytes(99),
    )
    yield "a header of 2^32 bytes", superblock(48) + b"OHDR\x02\x02\xff\xff\xff\xff" + bytes(99)
    yield "no root", superblock(UNDEFINED) + bytes(99)
    yield "a root beyond the file", superblock(1 << 60) + bytes(99)
    yield "addresses of 16 bytes", superblock(48, 16) + bytes(99)
    yield "lengths of 0 bytes", superblock(48, 8, 0) + bytes(99)
    yield "a superblock of version 9", b"\x89HDF\r\n\x1a\n\x09" + bytes(200)
    yield "a group that leads to itself only", superblock(48) + header(link(b"a", 48))
    yield "a tree that leads to itself", superblock(48) + circular_tree() + bytes(600)
    for name in (b"", b".", b"a/b", b"a\0b", b"\xff"):
        yield f"a member called {name!r}", superblock(48) + header(link(name, 48)) + bytes(99)
    yield "a name of a megabyte", superblock(48) + header(link(b"x" * 60_000, 48)) + bytes(99)


def circular_tree() -> bytes:
    """An old group whose B-tree has itself for a child."""
    root = old_header((17, struct.pack("<QQ", 48 + 40, 48 + 40 + 80)))
    tree = b"TREE\0\1" + struct.pack("<HQQQQQ", 1, UNDEFINED, UNDEFINED, 0, 48 + 40, 0)
    heap = b"HEAP\0\0\0\0" + struct.pack("<QQQ", 8, UNDEFINED, 48)
    return root.ljust(40, b"\0") + tree.ljust(80, b"\0") + heap


HOSTILE = dict(hostile())


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused(name: str) -> None:
    assert ask(READER, HOSTILE[name]) is None


def test_the_files_made_by_hand_would_be_read() -> None:
    good = dataset(0, 4)
    file = file_of(dataset(len(file_of(good)) - 64, 4))
    layout = ask(READER, file)
    assert layout is not None
    assert [(t.name, t.shape, t.offset) for t in layout.tensors] == [("a", (4,), len(file) - 64)]


def nested(depth: int) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", libver="latest") as file:
        group: Any = file
        for _ in range(depth):
            group = group.create_group("g")
        group["x"] = VALUES
    return buffer.getvalue()


def test_nesting_is_bounded_by_the_length_of_a_path() -> None:
    layout = ask(READER, nested(400))
    assert layout is not None
    assert layout.tensors[0].name == "g/" * 400 + "x"
    assert ask(READER, nested(600)) is None


def test_metadata_is_bounded() -> None:
    file = EVERYTHING["new"]
    assert ask(READER, file, DEFAULT_LIMITS._replace(header_bytes=5000)) is None


def test_what_is_looked_at_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    empty_messages = superblock(48) + header(*[(0, b"")] * 500, link(b"a", 48))
    for file in (empty_messages, *EVERYTHING.values()):
        opened = hdf5_file.open_file(BytesSource(file), DEFAULT_LIMITS)[0]
        opened.count(hdf5_file.MAX_ITEMS)
        with pytest.raises(NotThisFormat, match="too many"):
            opened.count()
    monkeypatch.setattr(hdf5_file, "MAX_ITEMS", 300)
    for file in (empty_messages, *EVERYTHING.values()):
        with pytest.raises(NotThisFormat, match="too many"):
            READER.layout(BytesSource(file), DEFAULT_LIMITS)


def test_a_declared_petabyte_is_only_a_number() -> None:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", libver="latest") as file:
        file.create_dataset("huge", (1 << 50,), "f4", chunks=(1 << 20,))
        file.create_dataset("plain", data=VALUES)
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        space = h5py.h5s.create_simple((1 << 50,))
        h5py.h5d.create(file.id, b"late", h5py.h5t.IEEE_F32LE, space, properties)
    layout = ask(READER, buffer.getvalue())
    assert layout is not None
    assert [tensor.name for tensor in layout.tensors] == ["plain"]


def chunked(index: bytes, address: int) -> bytes:
    """A dataset of 2^62 floats in chunks of a kilobyte."""
    layout = b"\x04\x02\0\x02\x04" + struct.pack("<II", 1 << 10, 4) + index + struct.pack("<Q", address)
    return header((1, struct.pack("<BBBBQ", 2, 1, 0, 1, 1 << 62)), (3, FLOAT), (8, layout))


def test_indexes_of_impossible_length() -> None:
    end = len(file_of(chunked(b"\x03\x0a", 0)))
    array = b"FAHD\0\0\x08\x0a" + struct.pack("<QQI", 1 << 52, end, 0)
    for file in (file_of(chunked(b"\x02", 48)), file_of(chunked(b"\x03\x0a", end)) + array):
        with pytest.raises(NotThisFormat, match=r"too many|another length|exceed the file"):
            READER.layout(BytesSource(file), DEFAULT_LIMITS)
