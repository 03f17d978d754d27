"""A training in several processes: who writes, and the state of each of them in one place. No pickle."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist

from coral_git.formats.base import TensorData, TensorSegment
from coral_git.formats.safetensors import SafetensorsReader
from coral_git.integrations.models import as_torch
from coral_git.integrations.sources import source_of
from coral_git.integrations.state import flatten, read_state
from coral_git.limits import DEFAULT_LIMITS
from coral_git.types import BytesSource


def rank() -> int:
    """The number of this process; 0 where there is only one."""
    return dist.get_rank() if _is_distributed() else 0


def world_size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if _is_distributed() else 1


def wait_for_all() -> None:
    """Wait until every process is here."""
    if _is_distributed():
        dist.barrier()


def gather_states(state: Any) -> list[Any]:
    """The states of all processes, in their order; each of them has to call this.

    Args:
        state: what ``flatten`` takes.
    """
    if not _is_distributed():
        return [state]
    source = source_of(flatten(state))
    return [_read_state(one) for one in _gather(source.read_at(0, source.size))]


def _is_distributed() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def _gather(data: bytes) -> list[bytes]:
    """The bytes of all processes; shorter ones travel filled up."""
    device = torch.device("cpu" if "gloo" in str(dist.get_backend()) else "cuda")
    length = torch.tensor([len(data)], dtype=torch.int64, device=device)
    lengths = [torch.zeros_like(length) for _ in range(dist.get_world_size())]
    dist.all_gather(lengths, length)
    longest = max(int(one) for one in lengths)
    mine = torch.frombuffer(bytearray(data.ljust(longest, b"\0")), dtype=torch.uint8).to(device)
    found = [torch.empty_like(mine) for _ in lengths]
    dist.all_gather(found, mine)
    return [one.cpu().numpy().tobytes()[: int(size)] for one, size in zip(found, lengths, strict=True)]


def _read_state(data: bytes) -> Any:
    source = BytesSource(data)
    found = SafetensorsReader().layout(source, DEFAULT_LIMITS).tensors
    return read_state([_tensor_in(source, one) for one in found], as_torch)


def _tensor_in(source: BytesSource, one: TensorSegment) -> TensorData:
    def read(start: int, length: int) -> bytes:
        return source.read_at(one.offset + start, length)

    return TensorData(one.name, one.dtype, one.shape, read)
