"""What torch saves, and what a reader should see in it: an oracle that asks torch itself."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import torch

from coral_git.formats.base import Layout
from coral_git.formats.registry import read_layout
from coral_git.limits import DEFAULT_LIMITS, Limits
from coral_git.types import BytesSource

DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint64: "U64",
    torch.uint32: "U32",
    torch.uint16: "U16",
    torch.uint8: "U8",
    torch.bool: "BOOL",
    torch.complex64: "C64",
    torch.complex128: "C128",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.float8_e4m3fnuz: "F8_E4M3FNUZ",
    torch.float8_e5m2fnuz: "F8_E5M2FNUZ",
    torch.float8_e8m0fnu: "F8_E8M0",
}


def saved(value: object, **options: Any) -> bytes:
    """The bytes that ``torch.save`` writes."""
    file = io.BytesIO()
    torch.save(value, file, **options)
    return file.getvalue()


def old(value: object) -> bytes:
    """The same in the format before 1.6."""
    return saved(value, _use_new_zipfile_serialization=False)


WAYS: dict[str, Callable[[object], bytes]] = {"torch-zip/1": saved, "torch-legacy/1": old}


def random_tensor(shape: tuple[int, ...], dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    """A tensor of any bits (of zeros and ones, for bool)."""
    generator = torch.Generator().manual_seed(seed)
    width = torch.empty((), dtype=dtype).element_size()
    most = 2 if dtype == torch.bool else 256
    raw = torch.randint(0, most, (*shape, width), generator=generator, dtype=torch.uint8)
    return raw.view(dtype).reshape(shape) if raw.numel() else torch.empty(shape, dtype=dtype)


def layout_of(data: bytes, limits: Limits = DEFAULT_LIMITS) -> Layout | None:
    return read_layout(BytesSource(data), limits)


def seen_in(data: bytes, name: str = "") -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """Name → dtype, shape and bytes, as the reader sees them."""
    layout = layout_of(data)
    assert layout is not None
    assert not name or layout.format == name
    return {
        tensor.name: (
            tensor.dtype.name,
            tensor.shape,
            data[tensor.offset : tensor.offset + tensor.length],
        )
        for tensor in layout.tensors
    }


def content(tensor: torch.Tensor) -> bytes:
    """The bytes of a tensor, in the order of C."""
    flat = tensor.detach().resolve_conj().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""


def flat(value: object, prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors in what ``torch.load`` gives, with the keys and indices that lead to them."""
    if isinstance(value, torch.Tensor):
        yield ".".join(prefix), value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from flat(item, (*prefix, str(key)))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from flat(item, (*prefix, str(index)))


def expected_of(value: object) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """What a reader should see of tensors that are contiguous and share no bytes."""
    return {name: (DTYPES[t.dtype], tuple(t.shape), content(t)) for name, t in flat(value)}


def check_against_torch(data: bytes, name: str) -> None:
    """The same names, dtypes, shapes and bytes as torch sees when it loads the file."""
    loaded = torch.load(io.BytesIO(data), weights_only=True)
    assert seen_in(data, name) == expected_of(loaded)
