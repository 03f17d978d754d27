"""The members of a group of HDF5: in symbol tables, in link messages, in a fractal heap of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from coral_git.formats.base import NotThisFormat
from coral_git.formats.hdf5_file import Hdf5File
from coral_git.formats.hdf5_header import Kind, Message
from coral_git.formats.hdf5_heap import FractalHeap
from coral_git.formats.hdf5_trees import walk_records, walk_tree

_SOFT_LINK = 2
_HARD = 0
_LINKS_BY_NAME = 5


def hard_links(file: Hdf5File, messages: Iterable[Message]) -> Iterator[tuple[str, int]]:
    """Name and address of each member of a group; what soft and external links name is not looked for.

    Raises:
        NotThisFormat: a structure is broken, or a name is none.
    """
    for message in messages:
        if message.is_shared:
            continue
        if message.kind == Kind.SYMBOL_TABLE:
            yield from _symbols(file, message.data)
        elif message.kind == Kind.LINK:
            yield from _link(file, message.data)
        elif message.kind == Kind.LINK_INFO:
            yield from _dense_links(file, message.data)


def _text(name: bytes) -> str:
    try:
        text = name.decode()
    except UnicodeDecodeError as error:
        raise NotThisFormat("a name is not UTF-8") from error
    if text in ("", ".") or "/" in text or "\0" in text:
        raise NotThisFormat("a member has an impossible name")
    return text


def _symbols(file: Hdf5File, data: bytes) -> Iterator[tuple[str, int]]:
    """The members of an old group: a B-tree of symbol table nodes, and a local heap with the names."""
    fields = file.fields(data)
    tree, heap = fields.address(), fields.address()
    names = _local_heap(file, heap)
    for _, node in walk_tree(file, tree, 0, file.length_size):
        fields = file.read(node, 8)
        fields.expect(b"SNOD\x01")
        fields.take(1)
        used = fields.integer(2)
        file.count(used)
        fields = file.read(node + 8, used * (2 * file.address_size + 24))
        for _ in range(used):
            start, header, cached = fields.address(), fields.address(), fields.integer(4)
            fields.take(20)
            if cached == _SOFT_LINK:
                continue
            if start is None or header is None or start >= len(names):
                raise NotThisFormat("a member of a group is nowhere")
            end = names.find(b"\0", start)
            yield _text(names[start : None if end < 0 else end]), header


def _local_heap(file: Hdf5File, address: int | None) -> bytes:
    """The data of a local heap."""
    fields = file.read(address, 8 + 2 * file.length_size + file.address_size)
    fields.expect(b"HEAP\0")
    fields.take(3)
    size = fields.length()
    fields.length()
    return file.read(fields.address(), size).take(size)


def _link(file: Hdf5File, data: bytes) -> Iterator[tuple[str, int]]:
    """The member that a link message names, or none if the link is not a hard one."""
    fields = file.fields(data)
    fields.expect(b"\x01")
    flags = fields.integer(1)
    link_type = fields.integer(1) if flags & 0x08 else _HARD
    fields.take(8 if flags & 0x04 else 0)
    fields.take(1 if flags & 0x10 else 0)
    name = fields.take(fields.integer(1 << (flags & 3)))
    if link_type == _HARD:
        header = fields.address()
        if header is None:
            raise NotThisFormat("a member of a group is nowhere")
        yield _text(name), header


def _dense_links(file: Hdf5File, data: bytes) -> Iterator[tuple[str, int]]:
    """The members of a group with many links: a B-tree of ids in a fractal heap of link messages."""
    fields = file.fields(data)
    fields.expect(b"\0")
    fields.take(8 if fields.integer(1) & 1 else 0)
    heap_address, tree = fields.address(), fields.address()
    if heap_address is None:
        return
    heap = FractalHeap(file, heap_address)
    for record in walk_records(file, tree, _LINKS_BY_NAME):
        yield from _link(file, heap.get(record[4:]))
