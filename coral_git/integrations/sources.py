"""Arrays and tensors in memory as the bytes of a weight file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from coral_git.api.arrays import tensor_data
from coral_git.formats.safetensors_writer import safetensors_header
from coral_git.pipeline.memory_source import MemorySource


def source_of(tensors: Mapping[str, Any]) -> MemorySource:
    """Tensors as the bytes of a safetensors file."""
    header, ordered = safetensors_header([tensor_data(name, value) for name, value in tensors.items()], {})
    return MemorySource(header, ordered)
