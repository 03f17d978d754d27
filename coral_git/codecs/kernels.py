"""The arithmetic inner loops, in C where the extension was built and in numpy elsewhere.

Both give equal bytes. ``CORAL_KERNEL=numpy`` in the environment forces the second one.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from typing import Protocol, cast

from coral_git.types import Buffer


class Kernels(Protocol):
    """The loops. Units are little endian and ``width`` is 1, 2, 4 or 8 bytes; any alignment is fine."""

    def split(self, raw: Buffer, width: int, rotate: bool) -> Buffer:
        """Byte planes of the units, least significant first, back to back.

        Args:
            raw: whole units.
            width: bytes of a unit.
            rotate: rotate each unit left by one bit first.
        """

    def merge(self, planes: Sequence[Buffer], rotate: bool) -> Buffer:
        """The raw bytes whose ``split`` gave these planes; their number is the width."""

    def sub_split(self, raw: Buffer, base: Buffer, width: int, is_float: bool) -> Buffer:
        """Byte planes of the zigzagged differences to the units of ``base``, which is as long as ``raw``.

        Args:
            raw: whole units.
            base: as many bytes.
            width: bytes of a unit.
            is_float: map sign-magnitude floats to order-preserving integers before subtracting.
        """

    def sub_merge(self, planes: Sequence[Buffer], base: Buffer, width: int, is_float: bool) -> Buffer:
        """The raw bytes whose ``sub_split`` against ``base`` gave these planes."""

    def merges_to(self, planes: Sequence[Buffer], raw: Buffer, rotate: bool) -> bool:
        """Whether ``merge`` gives just these bytes; nothing is written down for that."""

    def sub_merges_to(self, planes: Sequence[Buffer], base: Buffer, raw: Buffer, is_float: bool) -> bool:
        """Whether ``sub_merge`` against ``base``, which is as long as ``raw``, gives just these bytes."""

    def bucket_lengths(self, base: Buffer, width: int, shift: int, bits: int) -> list[int]:
        """The number of units in each bucket.

        The *key* of a unit is its bits ``shift`` to ``shift + bits - 1``. Keys are gone through from 0 up; a
        bucket ends with the key at which it has at least 512 units and at least one in 256 of all. What is
        left at the end belongs to the last bucket, or is the only one.

        Args:
            base: whole units.
            width: bytes of a unit.
            shift: lowest bit of the key.
            bits: bits of the key, at most 8; none puts all units into one bucket.
        """

    def bucket_split(
        self, raw: Buffer, base: Buffer, width: int, is_float: bool, shift: int, bits: int
    ) -> Buffer:
        """What ``sub_split`` gives, with the units of each bucket of ``base`` together, in their order."""

    def bucket_merge(
        self, planes: Sequence[Buffer], base: Buffer, is_float: bool, shift: int, bits: int
    ) -> Buffer:
        """The raw bytes whose ``bucket_split`` against ``base`` gave these planes."""

    def usual_steps(self, raw: Buffer, base: Buffer, width: int, shift: int, bits: int) -> Buffer:
        """The most usual step from the units of ``base`` to those of ``raw``, for each kind of mantissa.

        A step is the difference of the order-preserving integers of two floats, with the sign turned over
        where the base's unit is negative, so that it is positive away from zero. The *cell* of a unit is
        bits ``shift`` to ``shift + bits - 1`` of the base's unit. Of each cell the first 32 steps are sorted;
        the middle of the narrowest interval with a quarter of them counts (the shorth, of Andrews et al.,
        Robust Estimates of Location, 1972). A cell with fewer than 8 has the step of the one before it, the
        first one zero.

        Args:
            raw: whole units, all of them floats.
            base: as many bytes.
            width: bytes of a unit.
            shift: lowest bit of the cell.
            bits: bits of the cell, at most 16, below the sign.

        Returns:
            One step for each cell, modulo 2^(8 * width).
        """

    def move_units(self, base: Buffer, table: Buffer, width: int, shift: int, bits: int) -> Buffer:
        """The units of a base, each moved away from zero by the step that the table has for its cell."""

    def running_sums(self, planes: Sequence[Buffer]) -> Buffer:
        """The units whose zigzagged differences to the unit before, the first to zero, are in the planes."""

    def nonzero_count(self, planes: Sequence[Buffer]) -> int:
        """How many units have a byte that is not zero in any plane."""

    def nonzero_split(self, planes: Sequence[Buffer]) -> tuple[Buffer, Buffer]:
        """A mask with a bit for each unit, the first unit lowest, and the planes of the units with a bit."""

    def nonzero_merge(self, mask: Buffer, planes: Sequence[Buffer], units: int) -> Buffer:
        """The planes of all units, back to back; units without a bit in the mask are zero.

        Raises:
            ValueError: mask or planes have other lengths than the units and the mask say.
        """

    def keep_memory(self) -> None:
        """Let this process keep freed memory for the next block, where that can be arranged."""


def load_kernels(name: str) -> Kernels:
    """The kernels ``"c"`` or ``"numpy"``.

    Raises:
        ImportError: the C extension was not built.
    """
    module = "_kernels" if name == "c" else "_numpy_kernels"
    return cast("Kernels", importlib.import_module(f"coral_git.codecs.{module}"))


def _pick() -> tuple[str, Kernels]:
    if os.environ.get("CORAL_KERNEL") != "numpy":
        try:
            return "c", load_kernels("c")
        except ImportError:
            pass  # the extension is optional: no compiler when this was installed
    return "numpy", load_kernels("numpy")


KERNEL_NAME, _chosen = _pick()
split = _chosen.split
merge = _chosen.merge
sub_split = _chosen.sub_split
sub_merge = _chosen.sub_merge
merges_to = _chosen.merges_to
bucket_lengths = _chosen.bucket_lengths
bucket_split = _chosen.bucket_split
bucket_merge = _chosen.bucket_merge
usual_steps = _chosen.usual_steps
move_units = _chosen.move_units
running_sums = _chosen.running_sums
nonzero_count = _chosen.nonzero_count
nonzero_split = _chosen.nonzero_split
nonzero_merge = _chosen.nonzero_merge
sub_merges_to = _chosen.sub_merges_to
keep_memory = _chosen.keep_memory
