"""Whose structure a merged file has: the header, the order of the tensors, every byte that is no tensor.

It merges three ways as a whole. Where only one side changed it, it is that side's. Checksums over tensors
are no change: they are computed anew.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from blake3 import blake3

from coral_git.formats.base import Checksum
from coral_git.formats.menders import mender_by_name
from coral_git.manifest.entries import Manifest, TensorEntry
from coral_git.pipeline.stored_file import RestSource, layout_of
from coral_git.store.store import Store

_READ_BYTES = 1 << 20

Signature = tuple[tuple[str, str, tuple[int, ...]], ...]
"""Names, dtypes and shapes of the tensors of a file, in its order."""


def choose_skeleton(base: Manifest | None, sides: Sequence[Manifest], store: Store) -> int | None:
    """The number of the side whose structure the result has, or None where sides changed it differently.

    Args:
        base: the common ancestor, expanded; None where there is none.
        sides: the sides, expanded, ours first.
        store: has the bytes between their tensors.
    """
    changed = [number for number, side in enumerate(sides) if base is None or not alike(base, side, store)]
    if not changed:
        return 0
    first = changed[0]
    others_agree = all(alike(sides[first], sides[number], store) for number in changed[1:])
    return first if others_agree else None


def alike(one: Manifest, other: Manifest, store: Store) -> bool:
    """Whether two files differ in nothing but the bytes of their tensors, and checksums over them."""
    if (one.format, one.gaps) != (other.format, other.gaps) or signature(one) != signature(other):
        return False
    return one.rest == other.rest or _bare(one, store) == _bare(other, store)


def signature(manifest: Manifest) -> Signature:
    """Names, dtypes and shapes of the tensors, in file order."""
    return tuple(map(_kind, manifest.tensors))


def fits(manifest: Manifest, tensors: Sequence[TensorEntry]) -> bool:
    """Whether a file has a place for exactly these tensors."""
    return sorted(signature(manifest)) == sorted(map(_kind, tensors))


def checksums_of(manifest: Manifest, store: Store) -> Sequence[Checksum]:
    """The checksums over tensors in a file."""
    mender = mender_by_name(manifest.format)
    return () if mender is None else mender.checksums(RestSource(manifest, store), layout_of(manifest))


def _kind(tensor: TensorEntry) -> tuple[str, str, tuple[int, ...]]:
    return tensor.name, tensor.dtype.name, tensor.shape


def _bare(manifest: Manifest, store: Store) -> bytes:
    """A digest of the bytes between the tensors, without those that change whenever tensors do."""
    source = RestSource(manifest, store)
    mender = mender_by_name(manifest.format)
    volatile = sorted(mender.volatile(source, layout_of(manifest)) if mender else ())
    hasher = blake3()
    for offset, length in source.ranges:
        end = offset + length
        first = bisect_left(volatile, (offset, 0))
        for place, blank in volatile[first : bisect_left(volatile, (end, 0))]:
            _update(hasher, source, offset, place)
            offset = max(offset, place + blank)
        _update(hasher, source, offset, end)
    return hasher.digest()


def _update(hasher: blake3, source: RestSource, start: int, end: int) -> None:
    for position in range(start, end, _READ_BYTES):
        hasher.update(source.read_at(position, min(_READ_BYTES, end - position)))
