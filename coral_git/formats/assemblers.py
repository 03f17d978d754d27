"""Which formats can be put together anew: from tensors, and what versions of a file have beside them."""

from __future__ import annotations

from typing import cast

from coral_git.formats.base import Assembler
from coral_git.formats.late import make

ASSEMBLERS = {
    "safetensors": "safetensors_assembler:SafetensorsAssembler",
    "npz": "npz_assembler:NpzAssembler",
    "gguf": "gguf_assembler:GgufAssembler",
}
"""Name of the reader → module and class, for each format that can be assembled."""


def assembler_by_name(format_name: str) -> Assembler | None:
    """The assembler of a format, or None where there is none.

    Args:
        format_name: the name of the reader, with its version (``"gguf/1"``) or without.
    """
    place = ASSEMBLERS.get(format_name.partition("/")[0])
    return None if place is None else cast("Assembler", make(place))
