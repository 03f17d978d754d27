"""The commit that a ref of a git remote points at: one file, no parents, nothing that could differ.

Two pushes of the same pack, from any machine at any time, make the same commit id; the second finds that
there is nothing to do. ``docs/format/git-refs.md`` gives the bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from coral_git.types import PackId, parse_id

Kind = Literal["pack", "idx"]
KINDS: tuple[Kind, Kind] = ("pack", "idx")

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


def file_name(kind: Kind, pack: PackId) -> str:
    """The name of the only file in the tree."""
    return f"{pack.hex()}.{kind}"


def tree_bytes(kind: Kind, pack: PackId, blob: str) -> bytes:
    """The tree object: one regular file.

    Args:
        kind: pack or index.
        pack: the pack.
        blob: id of the blob in hexadecimal digits.
    """
    return b"100644 " + file_name(kind, pack).encode() + b"\0" + bytes.fromhex(blob)


def commit_bytes(kind: Kind, pack: PackId, tree: str) -> bytes:
    """The commit object.

    Args:
        kind: pack or index.
        pack: the pack.
        tree: id of the tree in hexadecimal digits.
    """
    header = b"tree %b\nauthor %b\ncommitter %b\n" % (tree.encode(), _PERSON, _PERSON)
    return header + f"\ncoral {kind} {pack.hex()}\n".encode()
