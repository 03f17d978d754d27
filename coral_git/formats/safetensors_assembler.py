"""Puts a safetensors file together: its metadata merges by key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import BinaryIO

from coral_git.formats.base import NotThisFormat, TensorData
from coral_git.formats.safetensors_writer import SafetensorsWriter
from coral_git.formats.three_way import merge_entries
from coral_git.limits import DEFAULT_LIMITS
from coral_git.types import ByteSource

_LENGTH_BYTES = 8


class SafetensorsAssembler:
    """The assembler of ``.safetensors`` files."""

    name = "safetensors"

    def assemble(
        self,
        out: BinaryIO,
        base: ByteSource | None,
        sides: Sequence[ByteSource],
        tensors: Sequence[TensorData],
        prefers: int | None,
    ) -> None:
        """Write a file with these tensors and the merged metadata.

        Raises:
            CannotAssemble: sides changed the same metadata and none wins.
            NotThisFormat: a version is no safetensors file.
        """
        before = None if base is None else _metadata(base)
        metadata = merge_entries(before, [_metadata(side) for side in sides], prefers)
        SafetensorsWriter().write(out, tensors, metadata)


def _metadata(source: ByteSource) -> dict[str, str]:
    """The metadata of a file whose header a reader has understood."""
    import json

    length = int.from_bytes(source.read_at(0, _LENGTH_BYTES), "little")
    if length > DEFAULT_LIMITS.header_bytes:
        raise NotThisFormat("the header has an impossible length")
    try:
        found = json.loads(source.read_at(_LENGTH_BYTES, length)).get("__metadata__") or {}
    except (ValueError, RecursionError, AttributeError) as error:
        raise NotThisFormat("the header is malformed") from error
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise NotThisFormat("the metadata is malformed")
    return found
