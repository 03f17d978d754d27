"""Which formats can be put together anew: from tensors, and what versions of a file have beside them."""

from __future__ import annotations

from coral_git.formats.base import Assembler
from coral_git.formats.gguf_assembler import GgufAssembler
from coral_git.formats.npz_assembler import NpzAssembler
from coral_git.formats.safetensors_assembler import SafetensorsAssembler

ASSEMBLERS: tuple[Assembler, ...] = (SafetensorsAssembler(), NpzAssembler(), GgufAssembler())
"""One for each format that can be assembled."""


def assembler_by_name(format_name: str) -> Assembler | None:
    """The assembler of a format, or None where there is none.

    Args:
        format_name: the name of the reader, with its version (``"gguf/1"``) or without.
    """
    name = format_name.partition("/")[0]
    return next((one for one in ASSEMBLERS if one.name == name), None)
