"""Puts a GGUF file together: its metadata merges by key, with the types that the values have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import BinaryIO

from coral_git.errors import UsageError
from coral_git.formats.base import CannotAssemble, TensorData
from coral_git.formats.gguf import ALIGNMENT_KEY, DEFAULT_ALIGNMENT, read_metadata
from coral_git.formats.gguf_writer import write_gguf
from coral_git.formats.three_way import merge_entries
from coral_git.limits import DEFAULT_LIMITS
from coral_git.types import ByteSource


class GgufAssembler:
    """The assembler of ``.gguf`` files."""

    name = "gguf"

    def assemble(
        self,
        out: BinaryIO,
        base: ByteSource | None,
        sides: Sequence[ByteSource],
        tensors: Sequence[TensorData],
        prefers: int | None,
    ) -> None:
        """Write a file of version 3 with these tensors and the merged metadata.

        Raises:
            CannotAssemble: sides changed the same metadata and none wins, a version is big-endian, or a name
                is too long for another file.
            NotThisFormat: a version is no GGUF file.
        """
        found = [read_metadata(side, DEFAULT_LIMITS) for side in sides]
        before = None if base is None else read_metadata(base, DEFAULT_LIMITS)
        if any(one.big_endian for one in found) or (before is not None and before.big_endian):
            raise CannotAssemble("a version is big-endian")
        pairs = merge_entries(before and before.pairs, [one.pairs for one in found], prefers)
        alignment = next(
            (one.alignment for one in found if one.pairs.get(ALIGNMENT_KEY) == pairs.get(ALIGNMENT_KEY)),
            DEFAULT_ALIGNMENT,
        )
        try:
            write_gguf(out, tensors, list(pairs.values()), alignment)
        except UsageError as error:
            raise CannotAssemble(error.message) from error
