"""Files of ``torch.save`` before 1.6, which still writes them when it is asked to.

Five pickles one behind the other: a magic number, the version of the protocol, facts about the machine, what
was saved, and the keys of the storages. Then the storages in the order of the keys: the number of elements in
eight bytes, and the elements, all little endian. See ``_legacy_save`` in ``torch/serialization.py``. The
pickles are read, not executed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from coral_git.formats.base import HEAD_BYTES, Layout, NotThisFormat
from coral_git.limits import MIB, Limits
from coral_git.types import ByteSource

if TYPE_CHECKING:
    from coral_git.formats.torch_objects import Findings
    from coral_git.formats.torch_storages import Extent

_MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
_MAGIC = b"\x8a\x0a" + _MAGIC_NUMBER.to_bytes(10, "little")
_PROTOCOL_VERSION = 1001
_FIRST_READ = MIB
_COUNT_BYTES = 8


class TorchLegacyReader:
    """The reader of old ``.pt``, ``.pth`` and ``.bin`` files, whatever they are called."""

    name = "torch-legacy"
    version = 1

    def sniff(self, head: bytes, size: int) -> bool:
        """Whether it begins with a pickle of the magic number."""
        return head.startswith(b"\x80") and _MAGIC in head[:HEAD_BYTES]

    def layout(self, source: ByteSource, limits: Limits) -> Layout:
        """The tensors that the pickle names, and the storages that it does not.

        Raises:
            NotThisFormat: it is no such file, or its pickles are not understood.
        """
        from coral_git.formats.torch_storages import segments  # dtypes, opcodes: only when a file is one

        found, keys, position = _read_pickles(source, limits)
        storages = _find_storages(source, found, keys, position)
        return Layout(f"{self.name}/{self.version}", segments(storages, found.views, False, limits))


def _read_pickles(source: ByteSource, limits: Limits) -> tuple[Findings, list[str], int]:
    """What was saved, the keys of the storages, and the byte at which those begin.

    The length of the pickles is nowhere written, so more and more of the file is read until it is enough.
    """
    from coral_git.formats.pickle_values import CutShortError

    most = min(source.size, limits.header_bytes)
    length = min(_FIRST_READ, most)
    while True:
        try:
            return _parse_pickles(source.read_at(0, length), limits)
        except CutShortError:
            if length == most:
                raise
        length = min(4 * length, most)


def _parse_pickles(data: bytes, limits: Limits) -> tuple[Findings, list[str], int]:
    from coral_git.formats.pickle_values import read_pickle
    from coral_git.formats.torch_objects import find_tensors

    magic, position = read_pickle(data, 0, limits)
    version, position = read_pickle(data, position, limits)
    if magic != _MAGIC_NUMBER or version != _PROTOCOL_VERSION:
        raise NotThisFormat("the magic number or the version of the protocol is another")
    _, position = read_pickle(data, position, limits)
    value, position = read_pickle(data, position, limits)
    keys, position = read_pickle(data, position, limits)
    if not isinstance(keys, list):
        raise NotThisFormat("the storages are not listed")
    names = [key for key in keys if isinstance(key, str)]
    if len(names) != len(keys) or len(set(names)) != len(names):
        raise NotThisFormat("a storage has an odd key")
    return find_tensors(value, (), limits), names, position


def _find_storages(source: ByteSource, found: Findings, keys: list[str], position: int) -> dict[str, Extent]:
    """Where the storages are; the first is at ``position``."""
    from coral_git.formats.torch_storages import Extent

    storages = {}
    for key in keys:
        storage = found.storages.get(key)
        count = source.read_at(position, _COUNT_BYTES)
        if storage is None or len(count) != _COUNT_BYTES:
            raise NotThisFormat("a storage is missing")
        if int.from_bytes(count, "little") != storage.elements:
            raise NotThisFormat("a storage is not where the pickle says")
        position += _COUNT_BYTES
        length = storage.elements * storage.dtype.width
        if length > source.size - position:
            raise NotThisFormat("the file is cut short")
        storages[key] = Extent(f"data/{key}", storage.dtype, position, length)
        position += length
    return storages
