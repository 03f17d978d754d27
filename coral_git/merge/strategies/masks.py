"""Random masks that depend on seed, tensor, side and place alone: the same in every run, for any blocks.

The numbers are those of Philox4x64-10, a generator that makes any part of its sequence from a counter
(J. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial

import numpy as np

from coral_git.merge.strategies.base import Parameters, Values, Versions
from coral_git.merge.strategies.checks import check_density
from coral_git.merge.strategies.sums import Recipe, delta_recipe, drop

_PER_COUNT = 8  # a step of the counter gives four words of 64 bits: eight of 32, one per value
_ALL = 1 << 32


def mask_key(seed: int, name: str, side: int) -> int:
    """The key of the mask for one side of a tensor: 128 bits of BLAKE2b over side, seed and name.

    Args:
        seed: what the user chose.
        name: the name of the tensor.
        side: the number of the side, 0 for ours.
    """
    digest = hashlib.blake2b(f"{side} {seed} {name}".encode(), digest_size=16).digest()
    return int.from_bytes(digest, "little")


def random_mask(key: int, start: int, count: int, density: float) -> Values:
    """Part of a mask, bool of shape (count,), each true with the probability ``density``.

    Args:
        key: which mask.
        start: the index in the tensor where the part begins.
        count: how many values it has.
        density: above 0 to 1.
    """
    skipped = start % _PER_COUNT
    words = -(-(skipped + count) // _PER_COUNT) * 4
    drawn = np.random.Philox(key=key, counter=start // _PER_COUNT).random_raw(words)
    numbers = drawn.astype("<u8", copy=False).view("<u4")[skipped : skipped + count]
    return numbers <= max(round(density * _ALL), 1) - 1


def dare_recipe(versions: Versions, parameters: Parameters) -> Recipe:
    """Differences of which each value is kept with the probability ``density``, and divided by it.

    As all sides have the same density, dividing the sum does it.

    Raises:
        UsageError: density, weights or scale are out of range.
    """
    recipe = delta_recipe(versions, parameters, normalize=False)
    density = check_density(parameters)
    if density == 1:
        return recipe
    keys = [mask_key(parameters.seed, versions.name, side) for side in range(versions.sides)]
    return recipe._replace(scale=recipe.scale / density, sparsify=partial(_drop_at_random, keys, density))


def _drop_at_random(keys: Sequence[int], density: float, delta: Values, side: int, start: int) -> None:
    drop(delta, random_mask(keys[side], start, len(delta), density))
