"""Arrays of numpy and torch as the bytes of tensors, and back; torch is imported only when it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from coral_git.errors import UsageError
from coral_git.formats.base import TensorData
from coral_git.types import DTYPES, Buffer, DType

if TYPE_CHECKING:
    import torch

_NAMES = {
    "bool": "BOOL", "uint8": "U8", "int8": "I8", "uint16": "U16", "int16": "I16", "uint32": "U32",
    "int32": "I32", "uint64": "U64", "int64": "I64", "float16": "F16", "bfloat16": "BF16", "float32": "F32",
    "float64": "F64",
    "complex64": "C64", "complex128": "C128", "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2",
    "float8_e4m3fnuz": "F8_E4M3FNUZ", "float8_e5m2fnuz": "F8_E5M2FNUZ", "float8_e8m0fnu": "F8_E8M0",
}  # fmt: skip
_BACK = {dtype: name for name, dtype in _NAMES.items()}


def is_torch(value: object) -> bool:
    """Whether a value is a tensor of torch."""
    return any(kind.__module__.partition(".")[0] == "torch" for kind in type(value).__mro__[:-1])


def dtype_name(dtype: Any) -> str:
    """The name that manifests use for a dtype, e.g. ``"F32"``.

    Args:
        dtype: such a name, or a dtype of numpy, ml_dtypes or torch, or its name there.

    Raises:
        UsageError: no file of weights has it.
    """
    text = str(dtype).removeprefix("torch.")
    if text in DTYPES:
        return text
    if text not in _NAMES:
        try:
            text = np.dtype(dtype).name
        except TypeError:
            text = ""
    if text not in _NAMES:
        raise UsageError(
            f"{str(dtype)[:80]!a} is no dtype of weights", hint=f"e.g. {', '.join(list(DTYPES)[:5])}"
        )
    return _NAMES[text]


def tensor_data(name: str, value: Any) -> TensorData:
    """An array as a tensor that can be written; it is not copied where its bytes are in order already.

    Args:
        name: its name.
        value: an array of numpy (with ml_dtypes too), a tensor of torch on any device, or what
            ``numpy.asarray`` takes.

    Raises:
        UsageError: no file of weights has such a dtype.
    """
    found = value if is_torch(value) else _little_endian(np.asarray(value))
    dtype_name = str(found.dtype).removeprefix("torch.") if is_torch(found) else found.dtype.name
    dtype = dtype_named(dtype_name)
    if dtype is None:
        raise UsageError(f"tensor {name!a} has the dtype {dtype_name}, which cannot be stored")
    data = _torch_bytes(found) if is_torch(found) else _bytes(found)
    shape = tuple(found.shape)
    view = memoryview(data)
    return TensorData(name, dtype, shape, lambda start, length: view[start : start + length])


def read_all(source: TensorData) -> bytearray:
    """All bytes of a tensor; those of a stored one are compared with its ids."""
    data = bytearray(source.length)
    place = 0
    for piece in source.pieces():
        data[place : place + len(piece)] = piece
        place += len(piece)
    return data


def numpy_dtype(dtype: DType) -> np.dtype[Any]:
    """The dtype of numpy for one of ours.

    Raises:
        UsageError: numpy has none, or ml_dtypes is not installed.
    """
    name = _BACK.get(dtype.name.removesuffix("_BE"))
    if name is None:
        raise UsageError(f"numpy has no dtype for {dtype.name}")
    if name.startswith(("bfloat16", "float8")):
        try:
            import ml_dtypes
        except ImportError as error:
            raise UsageError(
                f"numpy has no {name}", hint="pip install ml_dtypes, or ask for torch"
            ) from error
        found: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
        return found
    return np.dtype(name).newbyteorder(">" if dtype.name.endswith("_BE") else "<")


def array_of(data: Buffer, dtype: DType, shape: tuple[int, ...]) -> NDArray[Any]:
    """The bytes of a tensor as an array of its shape; writable when they are.

    Raises:
        UsageError: as ``numpy_dtype``.
    """
    return np.frombuffer(data, numpy_dtype(dtype)).reshape(shape)


def dtype_named(name: str) -> DType | None:
    """Our dtype for what numpy and torch call so; None where no file of weights has it."""
    found = _NAMES.get(name.removeprefix("torch."))
    return None if found is None else DTYPES[found]


def torch_dtype(dtype: DType) -> torch.dtype:
    """The dtype of torch for one of ours.

    Raises:
        UsageError: torch has no such dtype, or is not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise UsageError("torch is not installed", hint="pip install torch") from error
    name = _BACK.get(dtype.name, "")
    found = getattr(torch, name, None)
    if not isinstance(found, torch.dtype):
        raise UsageError(f"torch has no dtype for {dtype.name}")
    return found


def torch_of(data: bytearray, dtype: DType, shape: tuple[int, ...]) -> torch.Tensor:
    """The bytes of a tensor as a tensor of torch, which owns them.

    Raises:
        UsageError: torch has no such dtype, or is not installed.
    """
    found = torch_dtype(dtype)
    import torch

    if not data:
        return torch.empty(shape, dtype=found)
    return torch.frombuffer(data, dtype=found).reshape(shape)


def _torch_bytes(value: Any) -> memoryview:
    """The bytes of a tensor of torch, on the CPU and in the order of C."""
    import torch

    plain = value.detach().to("cpu").contiguous().reshape(-1)
    if plain.numel() == 0:
        return memoryview(b"")
    return memoryview(plain.view(torch.uint8).numpy()).cast("B")


def _little_endian(array: NDArray[Any]) -> NDArray[Any]:
    return array.astype(array.dtype.newbyteorder("<"), copy=False)


def _bytes(array: NDArray[Any]) -> memoryview:
    if array.size == 0:
        return memoryview(b"")
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data.cast("B")
