"""How far the sides of a merge went, tensor by tensor: norms of their changes, and the angle between them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from coral_git.manifest.entries import Manifest, TensorEntry
from coral_git.merge.three_way import Change
from coral_git.pipeline.float_dtypes import BLOCK_VALUES, is_float
from coral_git.pipeline.tensors import StoredBytes
from coral_git.pipeline.values import decode, value_width
from coral_git.store.store import Store


class Distance(NamedTuple):
    """What the sides did to a tensor.

    Attributes:
        norms: the Euclidean norm of the change of each side; None for a side whose change is none of values:
            it was added or removed, has another dtype or shape, or no floats.
        cosine: of the changes of the first two sides; None where one of them is none, or zero.
    """

    norms: tuple[float | None, ...]
    cosine: float | None


def measure(change: Change, manifests: Sequence[Manifest | None], store: Store) -> Distance:
    """Measure a tensor; memory is a few blocks.

    Args:
        change: the tensor.
        manifests: the common ancestor's, or None, and those of the sides, for messages.
        store: has the objects.

    Raises:
        ObjectMissingError: an object is not in the store.
        IntegrityError: an object is damaged.
    """
    base = change.base
    if base is None or manifests[0] is None or not is_float(base.dtype):
        return Distance((None,) * len(change.sides), None)
    readers = [
        _reader(side, manifests[number], store) if side is not None and _is_like(side, base) else None
        for number, side in enumerate(change.sides, 1)
    ]
    squares, product = _sums(base, _reader(base, manifests[0], store), readers, change)
    norms = [None if square is None else math.sqrt(square) for square in squares]
    one, other = norms[:2]
    cosine = product / (one * other) if one and other else None
    return Distance(tuple(norms), cosine)


def _sums(
    base: TensorEntry, start: StoredBytes, readers: Sequence[StoredBytes | None], change: Change
) -> tuple[list[float | None], float]:
    """Sums of squares of each change, and the inner product of the first two."""
    squares = [None if reader is None else 0.0 for reader in readers]
    product = 0.0
    step = BLOCK_VALUES * value_width(base.dtype)
    for position in range(0, base.nbytes, step):
        length = min(step, base.nbytes - position)
        before = decode(start(position, length), base.dtype).astype(np.float64)
        deltas = []
        for number, reader in enumerate(readers):
            changed = reader is not None and change.sides[number] != base
            delta = _delta(reader, position, length, base, before) if reader is not None and changed else None
            deltas.append(delta)
            if delta is not None:
                squares[number] = (squares[number] or 0.0) + float(delta @ delta)
        if len(deltas) > 1 and deltas[0] is not None and deltas[1] is not None:
            product += float(deltas[0] @ deltas[1])
    return squares, product


def _delta(
    reader: StoredBytes, position: int, length: int, base: TensorEntry, before: np.ndarray
) -> np.ndarray:
    """A piece of a change; what is not finite counts as no change."""
    with np.errstate(invalid="ignore"):
        delta: np.ndarray = decode(reader(position, length), base.dtype) - before
    delta[~np.isfinite(delta)] = 0
    return delta


def _reader(entry: TensorEntry, manifest: Manifest | None, store: Store) -> StoredBytes:
    assert manifest is not None
    return StoredBytes(entry, manifest, store)


def _is_like(side: TensorEntry, base: TensorEntry) -> bool:
    return (side.dtype, side.shape) == (base.dtype, base.shape)
