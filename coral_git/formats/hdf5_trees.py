"""The two B-trees of HDF5, walked without recursion; what they hold comes in the order of their keys."""

from __future__ import annotations

from collections.abc import Iterator

from coral_git.formats.base import NotThisFormat
from coral_git.formats.hdf5_file import Hdf5File

_NODE_FRAME = 10
"""Signature, version, type and checksum of a node of version 2."""


def walk_tree(
    file: Hdf5File, address: int | None, node_type: int, key_size: int
) -> Iterator[tuple[bytes, int]]:
    """Keys and addresses in the leaves of a B-tree of version 1.

    Args:
        file: the file.
        address: the address of the root; there is nothing in a tree without one.
        node_type: 0 for the members of a group, 1 for chunks.
        key_size: bytes of a key.

    Raises:
        NotThisFormat: a node is something else, or is reached twice.
    """
    pending = [] if address is None else [(address, -1)]
    seen = set()
    while pending:
        node, expected = pending.pop()
        if node in seen:
            raise NotThisFormat("a B-tree runs in circles")
        seen.add(node)
        fields = file.read(node, 8 + 2 * file.address_size)
        fields.expect(b"TREE")
        if fields.integer(1) != node_type:
            raise NotThisFormat("a B-tree is one of something else")
        level = fields.integer(1)
        if expected not in (-1, level):
            raise NotThisFormat("the levels of a B-tree are out of order")
        used = fields.integer(2)
        file.count(used)
        fields = file.read(node + 8 + 2 * file.address_size, used * (key_size + file.address_size))
        entries = [(fields.take(key_size), fields.address()) for _ in range(used)]
        for key, child in reversed(entries) if level else entries:
            if child is None:
                raise NotThisFormat("a B-tree has a hole")
            if level:
                pending.append((child, level - 1))
            else:
                yield key, child


def walk_records(file: Hdf5File, address: int | None, record_type: int) -> Iterator[bytes]:
    """The records of a B-tree of version 2; those of a node come before those below it.

    Raises:
        NotThisFormat: the tree has other records, a node is something else, or is reached twice.
    """
    fields = file.read(address, 22 + file.address_size)
    fields.expect(b"BTHD\0")
    found_type = fields.integer(1)
    node_size, record_size, depth = fields.integer(4), fields.integer(2), fields.integer(2)
    fields.take(2)
    root, used = fields.address(), fields.integer(2)
    if found_type != record_type or record_size == 0 or node_size < _NODE_FRAME + record_size:
        raise NotThisFormat("a B-tree is one of something else")
    pending = [(root, used, depth)] if root is not None and used else []
    count_size, subtree_sizes = _pointer_sizes(file, node_size, record_size, depth)
    seen = set()
    while pending:
        node, used, level = pending.pop()
        if node in seen:
            raise NotThisFormat("a B-tree runs in circles")
        seen.add(node)
        file.count(used)
        subtree_size = subtree_sizes[level - 1] if level > 1 else 0
        pointer = file.address_size + count_size + subtree_size if level else 0
        fields = file.read(node, 6 + used * record_size + (used + 1) * pointer)
        fields.expect(b"BTIN\0" if level else b"BTLF\0")
        fields.take(1)
        for _ in range(used):
            yield fields.take(record_size)
        for _ in range(used + 1 if level else 0):
            child, below = fields.address(), fields.integer(count_size)
            fields.take(subtree_size)
            if child is None:
                raise NotThisFormat("a B-tree has a hole")
            pending.append((child, below, level - 1))


def _pointer_sizes(file: Hdf5File, node_size: int, record_size: int, depth: int) -> tuple[int, list[int]]:
    """Bytes of the number of records of a child, and for each level of the number in the tree below it."""
    if depth > 16:
        raise NotThisFormat("a B-tree is too deep")
    most = (node_size - _NODE_FRAME) // record_size
    count_size = _bytes_for(most)
    total, sizes = most, [0]
    for _ in range(depth):
        pointer = file.address_size + count_size + sizes[-1]
        most = (node_size - _NODE_FRAME - pointer) // (record_size + pointer)
        if most < 1:
            raise NotThisFormat("the nodes of a B-tree are too small")
        total += most * (total + 1)
        sizes.append(_bytes_for(total))
    return count_size, sizes


def _bytes_for(number: int) -> int:
    """Bytes that a number up to ``number`` is written with."""
    return (number.bit_length() + 7) // 8
