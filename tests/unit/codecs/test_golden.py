"""Payloads frozen when a codec was first released: every later version decodes them to the same bytes.

Encoding may change where zstd or its parameters do, so only payloads without a zstd frame are compared.
The files are never regenerated; a new codec or element adds new ones.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from coral_git.codecs.registry import BUILT_IN, codec_by_id
from coral_git.codecs.streams import CONSTANT, RAW, ZSTD
from coral_git.types import Element

FOLDER = Path(__file__).parents[2] / "golden" / "codecs"
FILES = sorted(FOLDER.glob("*.json"))


@dataclass(frozen=True)
class Golden:
    codec: int
    element: Element
    kinds: set[int]
    raw: bytes
    base: bytes
    payload: bytes


def load(path: Path) -> Golden:
    fields = json.loads(path.read_text())
    raw, base, payload = (bytes.fromhex("".join(fields[name])) for name in ("raw", "base", "payload"))
    return Golden(fields["codec"], Element(fields["element"]), set(fields["kinds"]), raw, base, payload)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_frozen_payloads_decode_for_ever(path: Path) -> None:
    golden = load(path)
    codec = codec_by_id(golden.codec)
    decoded = codec.decode_block(golden.payload, len(golden.raw), golden.base, golden.element)
    assert bytes(decoded) == golden.raw
    if ZSTD not in golden.kinds:
        encoded = b"".join(codec.encode_block(golden.raw, golden.base, golden.element))
        assert encoded == golden.payload


def test_every_codec_element_and_stream_kind_is_frozen() -> None:
    goldens = [load(path) for path in FILES]
    seen = {(golden.codec, golden.element) for golden in goldens}
    wanted = {(1, Element.BYTES), (2, Element.BYTES)}
    wanted |= {(codec_id, element) for codec_id in range(3, 13) for element in Element}
    assert seen == wanted
    for codec in BUILT_IN:
        kinds = set[int]().union(*(golden.kinds for golden in goldens if golden.codec == codec.codec_id))
        assert kinds == ({RAW} if codec.name == "raw" else {CONSTANT, RAW, ZSTD})
