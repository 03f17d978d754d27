"""Real stores, and objects encoded by the real codecs with blocks small enough for exhaustive tests."""

import random
from pathlib import Path

import pytest
from blake3 import blake3

from coral_git import fsops
from coral_git.codecs.base import EncodedObject
from coral_git.codecs.facing import base_window
from coral_git.codecs.registry import codec_by_id
from coral_git.store.store import Store
from coral_git.types import Element, ObjectId

BYTES, BYTES_DELTA = 1, 2


class Builder:
    """Makes objects and puts them into stores."""

    @staticmethod
    def object_id(raw):
        return ObjectId(blake3(raw).digest())

    @staticmethod
    def raw(seed, length=300):
        return random.Random(seed).randbytes(length)

    def encode(self, raw, base=None, *, base_offset=0, block_size=128, object_id=None, base_id=None):
        codec = codec_by_id(BYTES if base is None and base_id is None else BYTES_DELTA)
        blocks = []
        for start in range(0, len(raw), block_size):
            block = raw[start : start + block_size]
            window = b""
            if base is not None:
                first, length = base_window(
                    codec, Element.BYTES, Element.BYTES, base_offset, start, len(block)
                )
                window = base[first : first + length]
            blocks.append(codec.encode_block(block, window, Element.BYTES))
        named = base_id if base is None else self.object_id(base)
        return EncodedObject(
            object_id=object_id or self.object_id(raw),
            raw_length=len(raw),
            codec=codec.codec_id,
            element=Element.BYTES,
            base=named,
            base_element=Element.BYTES,
            base_offset=base_offset,
            block_size=block_size,
            blocks=blocks,
        )

    def put(self, store, *raws):
        """One pack with these objects as full copies; its id."""
        with store.writer() as writer:
            for raw in raws:
                writer.add(self.encode(raw))
            return writer.finish()[0]

    def put_encoded(self, store, *objects):
        with store.writer() as writer:
            for encoded in objects:
                writer.add(encoded)
            return writer.finish()[0]

    @staticmethod
    def contents(store):
        """All files below the store except the cache, with their bytes."""
        root = Path(store.root)
        return {
            str(path.relative_to(root)): path.read_bytes()
            for path in sorted(root.rglob("*"))
            if path.is_file() and not path.name.startswith("cache.sqlite")
        }

    @staticmethod
    def incoming(store):
        return sorted(path.name for path in Path(store.layout.incoming).iterdir())


@pytest.fixture
def build():
    return Builder()


@pytest.fixture
def store(tmp_path):
    with Store.create(str(tmp_path / "coral")) as opened:
        yield opened


@pytest.fixture(autouse=True)
def no_fault_hook_left():
    yield
    fsops.set_fault_hook(None)
