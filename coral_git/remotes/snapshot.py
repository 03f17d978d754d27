"""The commit that a ref of a git remote points at: numbered parts, no parents, nothing that could differ.

Two pushes of the same pack, from any machine at any time, make the same commit id; the second finds that
there is nothing to do. ``docs/format/git-refs.md`` gives the bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from coral_git.limits import KIB
from coral_git.types import PackId, parse_id

Kind = Literal["pack", "idx"]
KINDS: tuple[Kind, Kind] = ("pack", "idx")

PART_BYTES = 256 * KIB
"""Length of every part but the last.

By default a host unpacks a push of fewer than 100 objects: it inflates each in memory and deflates it anew,
and again for every fetch. With parts, the push of a pack of usual length has more objects and is kept as it
comes; fetching was measured six times as fast, and git on the host took 150 MB instead of 900.
"""

_PERSON = b"coral-git <coral-git@invalid> 1767225600 +0000"
"""Author and committer; the time is 2026-01-01T00:00:00Z."""


@dataclass(frozen=True, slots=True)
class RefNames:
    """The names of the refs below one prefix.

    Attributes:
        prefix: a full ref name without a slash at its end, e.g. ``refs/coral/store``.
    """

    prefix: str

    def ref(self, kind: Kind, pack: PackId) -> str:
        """The ref of a pack or of its index."""
        return f"{self.prefix}/{kind}/{pack.hex()}"

    def patterns(self) -> list[str]:
        """What to ask ``git ls-remote`` for."""
        return [f"{self.prefix}/{kind}/*" for kind in KINDS]

    def parse(self, ref: str) -> tuple[Kind, PackId] | None:
        """The kind and the pack of a ref name, or None for any other ref."""
        for kind in KINDS:
            start = f"{self.prefix}/{kind}/"
            if ref.startswith(start):
                identifier = parse_id(ref[len(start) :])
                return None if identifier is None else (kind, PackId(identifier))
        return None


def tree_bytes(parts: Sequence[str]) -> bytes:
    """The tree object: the parts as regular files, numbered in six decimal digits.

    Args:
        parts: ids of their blobs in hexadecimal digits, in order.
    """
    return b"".join(b"100644 %06d\0%b" % (number, bytes.fromhex(part)) for number, part in enumerate(parts))


def parse_tree(data: bytes, id_length: int) -> list[str] | None:
    """The ids of the parts in a tree that :func:`tree_bytes` made, or None for any other tree."""
    start = len(b"100644 000000\0")
    step = start + id_length
    parts = [data[at + start : at + step].hex() for at in range(0, len(data), step)]
    return parts if tree_bytes(parts) == data else None


def commit_bytes(kind: Kind, pack: PackId, tree: str) -> bytes:
    """The commit object.

    Args:
        kind: pack or index.
        pack: the pack.
        tree: id of the tree in hexadecimal digits.
    """
    header = b"tree %b\nauthor %b\ncommitter %b\n" % (tree.encode(), _PERSON, _PERSON)
    return header + f"\ncoral {kind} {pack.hex()}\n".encode()
