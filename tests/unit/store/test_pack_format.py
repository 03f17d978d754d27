import struct
from pathlib import Path

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from coral_git.codecs.base import EncodedObject
from coral_git.errors import FormatVersionError, IntegrityError
from coral_git.limits import DEFAULT_LIMITS, Limits
from coral_git.store import pack_format
from coral_git.store.pack_format import EntryHeader
from coral_git.types import Element, ObjectId

GOLDEN = Path(__file__).parents[2] / "golden" / "store"
LONG = b"the first object of the pack, 40 bytes.."
SHORT = b"a delta"


def golden_objects(build):
    """Payloads spelled out by hand (kind 1 raw, kind 0 constant), so that no compressor matters."""

    def stream(kind, data):
        return [struct.pack("<BI", kind, len(data)), data]

    full = EncodedObject(
        object_id=build.object_id(LONG),
        raw_length=40,
        codec=1,
        element=Element.BYTES,
        base=None,
        base_element=Element.BYTES,
        base_offset=0,
        block_size=19,
        blocks=[stream(1, LONG[:19]), stream(1, LONG[19:38]), stream(0, b".")],
    )
    delta = EncodedObject(
        object_id=build.object_id(SHORT),
        raw_length=7,
        codec=2,
        element=Element.BYTES,
        base=full.object_id,
        base_element=Element.BYTES,
        base_offset=5,
        block_size=64,
        blocks=[stream(1, SHORT)],
    )
    return full, delta


def test_golden_pack_and_index(store, build):
    pack = build.put_encoded(store, *golden_objects(build))
    written = Path(store.layout.pack_path(pack)).read_bytes()
    index = Path(store.layout.index_path(pack)).read_bytes()
    assert written == (GOLDEN / "two-objects.pack").read_bytes()
    assert index == (GOLDEN / "two-objects.idx").read_bytes()
    assert pack.hex() == "1faa549dfa17063e317d25c18d9c25c6c769e215bd2a0dca15880491d278ba38"
    assert store.read(build.object_id(LONG), 100) == LONG
    assert store.read(build.object_id(SHORT), 100) == SHORT


def test_golden_pack_read_by_the_byte_table():
    """An independent reader, written from docs/format/pack.md alone."""
    data = (GOLDEN / "two-objects.pack").read_bytes()
    assert data[:16] == b"CORALPCK" + struct.pack("<II", 1, 0)
    assert data[-16:] == b"CORALEND" + struct.pack("<II", 2, 0)
    at = 16
    entries = []
    while at < len(data) - 16:
        head = data[at : at + 128]
        magic, codec, element, base_element, flags, block_size = struct.unpack_from("<8sBBBBI", head, 0)
        assert (magic, element, base_element, flags) == (b"CORALOBJ", 0, 0, 0)
        (raw_length,) = struct.unpack_from("<Q", head, 48)
        base_offset, count, zero, payload, table_sum, head_sum = struct.unpack_from("<QIIQQQ", head, 88)
        assert zero == 0
        assert head_sum == xxhash.xxh3_64_intdigest(head[:120])
        table = data[at + 128 : at + 128 + 12 * count]
        assert table_sum == xxhash.xxh3_64_intdigest(table)
        block_at = at + 128 + 12 * count
        for stored, checksum in struct.iter_unpack("<IQ", table):
            assert xxhash.xxh3_64_intdigest(data[block_at : block_at + stored]) == checksum
            block_at += stored
        at += 128 + payload
        assert block_at == at
        entries.append((codec, block_size, head[16:48], raw_length, head[56:88], base_offset, count))
    assert entries[0][0::1][:2] == (1, 19)
    assert entries[0][3:] == (40, bytes(32), 0, 3)
    assert entries[1] == (2, 64, entries[1][2], 7, entries[0][2], 5, 1)


headers = st.builds(
    lambda object_id, base, raw_length, block_size, payload, offset, codec, element: EntryHeader(
        object_id=ObjectId(object_id),
        codec=codec,
        element=element,
        base=ObjectId(base) if base else None,
        base_element=element if base else Element.BYTES,
        base_offset=offset if base else 0,
        raw_length=raw_length,
        block_size=block_size,
        block_count=-(-raw_length // block_size),
        payload_length=payload + 12 * -(-raw_length // block_size),
        table_checksum=payload,
    ),
    st.binary(min_size=32, max_size=32),
    st.none() | st.binary(min_size=32, max_size=32).filter(any),
    st.integers(0, DEFAULT_LIMITS.part_bytes),
    st.integers(1024, 2**23),
    st.integers(0, 2**40),
    st.integers(0, 2**64 - 1),
    st.integers(0, 255),
    st.sampled_from(Element),
)


@given(headers)
def test_header_round_trip(header):
    data = pack_format.encode_entry_header(header)
    assert len(data) == 128
    assert pack_format.decode_entry_header(data, DEFAULT_LIMITS) == header


@given(headers, st.integers(0, 128 * 8 - 1))
def test_any_flipped_bit_of_a_header_is_found(header, bit):
    data = bytearray(pack_format.encode_entry_header(header))
    data[bit // 8] ^= 1 << bit % 8
    with pytest.raises(IntegrityError):
        pack_format.decode_entry_header(bytes(data), DEFAULT_LIMITS)


def forged(**changes):
    """A header with a valid checksum whose fields contradict each other."""
    fields = {
        "magic": b"CORALOBJ", "codec": 1, "element": 0, "base_element": 0, "flags": 0, "block_size": 10,
        "id": b"i" * 32, "raw": 25, "base": bytes(32), "base_offset": 0, "count": 3, "zero": 0, "payload": 36,
        "table": 0,
    } | changes  # fmt: skip
    body = struct.pack("<8sBBBBI32sQ32sQIIQQ", *fields.values())
    return body + struct.pack("<Q", xxhash.xxh3_64_intdigest(body))


def test_the_forged_header_is_valid_without_changes():
    assert pack_format.decode_entry_header(forged(), DEFAULT_LIMITS).block_count == 3


@pytest.mark.parametrize(
    "changes",
    [
        {"flags": 1},
        {"zero": 1},
        {"element": 10},
        {"base_element": 255},
        {"base_element": 1},
        {"base_offset": 1},
        {"count": 2},
        {"count": 4},
        {"block_size": 0},
        {"block_size": 0, "count": 0},
        {"payload": 35},
        {"raw": 2**63, "count": 0},
        {"raw": DEFAULT_LIMITS.part_bytes + 1, "block_size": 2**23, "count": 9, "payload": 200},
        {"raw": 100, "block_size": 2**23 + 1, "count": 1},
        {"raw": 2**16 + 1, "block_size": 1, "count": 2**16 + 1, "payload": 2**20},
        {"magic": b"CORALOBK"},
    ],
)
def test_contradicting_headers_are_refused(changes):
    with pytest.raises(IntegrityError):
        pack_format.decode_entry_header(forged(**changes), DEFAULT_LIMITS)


def test_the_cap_on_the_raw_length_is_a_limit():
    small = Limits(part_bytes=24, table_bytes=24)
    with pytest.raises(IntegrityError, match="declares 25 bytes"):
        pack_format.decode_entry_header(forged(), small)


def test_a_newer_pack_is_refused_by_number():
    with pytest.raises(FormatVersionError, match="version 2"):
        pack_format.check_pack_header(b"CORALPCK" + struct.pack("<II", 2, 0))
    for bad in (
        b"",
        b"CORALPCK",
        b"CORALPCK" + struct.pack("<II", 0, 0),
        b"CORALPCK" + struct.pack("<II", 1, 1),
    ):
        with pytest.raises(IntegrityError):
            pack_format.check_pack_header(bad)


@given(st.lists(st.binary(max_size=300), max_size=5))
def test_checksum_of_pieces_is_that_of_the_joined_bytes(pieces):
    assert pack_format.checksum_pieces(pieces) == xxhash.xxh3_64_intdigest(b"".join(pieces))
