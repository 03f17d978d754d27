"""Files of ``torch.save`` since 1.6 and of TorchScript: a zip file of pickles and storages.

    <folder>/data.pkl       a pickle that names storages by their keys
    <folder>/data/<key>     the bytes of a storage, not compressed
    <folder>/byteorder      "little" or "big"; little where it is missing
    <folder>/constants.pkl, <folder>/constants/<key>     the same for the constants of TorchScript

See ``torch/serialization.py`` and ``torch/csrc/jit/serialization``. The pickles are read, not executed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from coral_git.formats.base import Layout, NotThisFormat
from coral_git.limits import Limits
from coral_git.types import ByteSource

if TYPE_CHECKING:
    from coral_git.formats.torch_objects import View
    from coral_git.formats.torch_storages import Extent
    from coral_git.formats.zip_index import ZipEntry

_MAGIC = b"PK\x03\x04"
_MAIN = "data"
_CONSTANTS = "constants"
_LONGEST_WORD = 16


class TorchZipReader:
    """The reader of ``.pt``, ``.pth``, ``.bin``, ``.ckpt`` and ``.ptl`` files, whatever they are called."""

    name = "torch-zip"
    version = 1

    def sniff(self, head: bytes, size: int) -> bool:
        """Whether it begins as a zip file."""
        return head.startswith(_MAGIC)

    def layout(self, source: ByteSource, limits: Limits) -> Layout:
        """The tensors that the pickles name, and the storages that none of them does.

        Raises:
            NotThisFormat: it is no sound zip file, or not one of torch, or its main pickle is not understood.
        """
        from coral_git.formats.torch_storages import segments  # dtypes, opcodes: only when a file is one

        archive = read_archive(source, limits)
        tensors = segments(archive.storages, archive.views, archive.is_big_endian, limits)
        return Layout(f"{self.name}/{self.version}", tensors)


class Archive(NamedTuple):
    """What is in a file of torch.

    Attributes:
        values: what the pickles say, the main one first.
        storages: key → where it is; they do not overlap.
        views: the tensors that the pickles name.
        is_big_endian: whether values lie in that order.
    """

    values: list[object]
    storages: dict[str, Extent]
    views: list[View]
    is_big_endian: bool


def read_archive(source: ByteSource, limits: Limits) -> Archive:
    """Read the index and the pickles of a file.

    Raises:
        NotThisFormat: it is no sound zip file, or not one of torch, or its main pickle is not understood.
    """
    from coral_git.formats.zip_index import read_zip

    entries = _in_folder(read_zip(source, limits))
    archive = Archive([], {}, [], _is_big_endian(source, entries))
    for group in (_MAIN, _CONSTANTS):
        if f"{group}.pkl" in entries:
            _read_group(source, group, entries, archive, limits)
    return archive


def _in_folder(entries: Sequence[ZipEntry]) -> dict[str, ZipEntry]:
    """The entries of the folder that has the main pickle, by their names in it."""
    folders = [entry.name.removesuffix(f"{_MAIN}.pkl") for entry in entries if _is_main(entry.name)]
    if len(folders) != 1:
        raise NotThisFormat("there is no data.pkl, or more than one")
    (folder,) = folders
    return {entry.name[len(folder) :]: entry for entry in entries if entry.name.startswith(folder)}


def _is_main(name: str) -> bool:
    return name.endswith(f"/{_MAIN}.pkl") and name.count("/") == 1


def _is_big_endian(source: ByteSource, entries: dict[str, ZipEntry]) -> bool:
    entry = entries.get("byteorder")
    word = _read(source, entry, _LONGEST_WORD) if entry else b"little"
    if word not in (b"little", b"big"):
        raise NotThisFormat("the byte order is unknown")
    return word == b"big"


def _read(source: ByteSource, entry: ZipEntry, most: int) -> bytes:
    """The bytes of an entry that is not compressed."""
    from coral_git.formats.zip_index import STORED

    if entry.method != STORED or entry.size > most:
        raise NotThisFormat("an entry is compressed or too long")
    data = source.read_at(entry.offset, entry.size)
    if len(data) != entry.size:
        raise NotThisFormat("the file is cut short")
    return data


def _read_group(
    source: ByteSource, group: str, entries: dict[str, ZipEntry], archive: Archive, limits: Limits
) -> None:
    """Add a pickle, its storages by their names in the folder, and the tensors that it has of them."""
    from coral_git.formats.pickle_values import read_pickle
    from coral_git.formats.torch_objects import UNTYPED, find_tensors
    from coral_git.formats.torch_storages import Extent
    from coral_git.formats.zip_index import STORED

    pickled = _read(source, entries[f"{group}.pkl"], limits.header_bytes)
    value, _ = read_pickle(pickled, 0, limits)
    archive.values.append(value)
    found = find_tensors(value, () if group == _MAIN else ((), group), limits)
    archive.views.extend(view._replace(key=f"{group}/{view.key}") for view in found.views)
    for name, entry in entries.items():
        if name.startswith(f"{group}/") and entry.method == STORED:
            storage = found.storages.get(name[len(group) + 1 :])
            dtype = storage.dtype if storage else UNTYPED
            archive.storages[name] = Extent(name, dtype, entry.offset, entry.size)
