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
sub_merges_to = _chosen.sub_merges_to
keep_memory = _chosen.keep_memory
