"""What a user may set about a strategy."""

from __future__ import annotations

from typing import NamedTuple


class Parameters(NamedTuple):
    """The parameters of the strategies; each takes what it knows.

    Attributes:
        alpha: the share of ours in ``weighted`` and ``slerp``, 0 to 1.
        weights: one per side, ours first; empty for equal ones, or those that ``alpha`` says.
        scale: λ, by which a sum of differences is multiplied.
        density: the share of values of a difference that is kept, above 0 to 1.
        gamma: the share of the largest values of a difference that ``breadcrumbs`` drops as outliers.
        normalize: whether sums are divided by the sum of the weights; None for what is usual.
        seed: of the random masks of the ``dare`` strategies.
    """

    alpha: float = 0.5
    weights: tuple[float, ...] = ()
    scale: float = 1.0
    density: float = 0.5
    gamma: float = 0.01
    normalize: bool | None = None
    seed: int = 0
