import hashlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coral_git.errors import FormatVersionError, IntegrityError
from coral_git.store.location import Location
from coral_git.store.pack_index import decode_index, encode_index, index_length
from coral_git.types import Element, ObjectId, PackId

PACK = PackId(b"p" * 32)
ids = st.binary(min_size=32, max_size=32).filter(any)


@st.composite
def packs(draw):
    """Locations that lie back to back, as they do in a pack."""
    offset = 16
    locations = []
    for object_id in draw(st.lists(ids, min_size=1, max_size=20, unique=True)):
        length = draw(st.integers(128, 2**30))
        locations.append(
            Location(
                ObjectId(object_id),
                PACK,
                offset,
                length,
                draw(st.integers(0, 2**40)),
                draw(st.none() | ids.map(ObjectId)),
                draw(st.integers(0, 255)),
                draw(st.sampled_from(Element)),
            )
        )
        offset += length
    return locations, offset + 16


@given(packs(), st.randoms())
def test_round_trip_in_any_order(pack, random):
    locations, size = pack
    data = encode_index(PACK, locations)
    assert len(data) == index_length(len(locations))
    assert decode_index(data, PACK, size) == sorted(locations, key=lambda location: location.object_id)
    random.shuffle(locations)
    assert encode_index(PACK, locations) == data


def small():
    locations = [
        Location(ObjectId(bytes([first]) * 32), PACK, 16 + 200 * number, 200, 5, None, 1, Element.BYTES)
        for number, first in enumerate((9, 3, 200))
    ]
    return encode_index(PACK, locations), 16 + 600 + 16


def test_every_flipped_bit_and_every_truncation_is_found():
    data, size = small()
    decode_index(data, PACK, size)
    for bit in range(len(data) * 8):
        broken = bytearray(data)
        broken[bit // 8] ^= 1 << bit % 8
        with pytest.raises(IntegrityError):
            decode_index(bytes(broken), PACK, size)
    for length in range(len(data)):
        with pytest.raises(IntegrityError):
            decode_index(data[:length], PACK, size)
    with pytest.raises(IntegrityError):
        decode_index(data + b"\0", PACK, size)


def test_another_pack_or_another_size_is_refused():
    data, size = small()
    for pack, wanted in ((PackId(b"q" * 32), size), (PACK, size + 1), (PACK, size - 1)):
        with pytest.raises(IntegrityError):
            decode_index(data, pack, wanted)


def resealed(data, offset, replacement):
    body = data[:offset] + replacement + data[offset + len(replacement) : -32]
    return body + hashlib.sha256(body).digest()


RECORDS = 48 + 1024


@pytest.mark.parametrize(
    ("offset", "replacement"),
    [
        (48, struct.pack("<I", 1)),  # fanout
        (RECORDS, b"\xff" * 32),  # order of the ids
        (RECORDS + 96, b"\x03" * 32),  # an id twice
        (RECORDS + 32, struct.pack("<Q", 17)),  # a hole between entries
        (RECORDS + 40, struct.pack("<Q", 199)),
        (RECORDS + 48, struct.pack("<Q", 2**63)),  # a length that SQLite could not keep
        (RECORDS + 89, b"\x0a"),  # an unknown element
        (RECORDS + 90, b"\x01"),  # zero bytes
        (12, struct.pack("<I", 2)),  # the count
        (12, struct.pack("<I", 2**32 - 1)),
    ],
)
def test_a_forged_index_with_a_right_digest_is_refused(offset, replacement):
    data, size = small()
    with pytest.raises(IntegrityError):
        decode_index(resealed(data, offset, replacement), PACK, size)


def test_a_newer_index_is_refused_by_number():
    data, size = small()
    with pytest.raises(FormatVersionError, match="version 2"):
        decode_index(resealed(data, 8, struct.pack("<I", 2)), PACK, size)


@given(st.binary(max_size=1500))
def test_noise_is_refused(data):
    with pytest.raises((IntegrityError, FormatVersionError)):
        decode_index(data, PACK)
