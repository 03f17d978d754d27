"""The inner loops in numpy, for where the C extension was not built. Same bytes, a third of the speed.

numpy is imported by the first call and not with the module, because that takes longer than everything else
that happens before the filter answers git.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from coral_git.types import Buffer

if TYPE_CHECKING:
    from numpy.typing import NDArray


def split(raw: Buffer, width: int, rotate: bool) -> Buffer:
    """Byte planes of the units, least significant first, back to back."""
    units = _units(raw, width)
    if rotate:
        units = (units << 1) | (units >> (8 * width - 1))
    return _to_planes(units, width)


def merge(planes: Sequence[Buffer], rotate: bool) -> Buffer:
    """The raw bytes whose ``split`` gave these planes."""
    units = _from_planes(planes)
    if rotate:
        top = units << (8 * len(planes) - 1)
        units >>= 1
        units |= top
    return _bytes_of(units)


def sub_split(raw: Buffer, base: Buffer, width: int, is_float: bool) -> Buffer:
    """Byte planes of the zigzagged differences to the units of ``base``."""
    units, others = _units(raw, width), _units(base, width)
    if units.size != others.size:
        raise ValueError("base and raw differ in length")
    if is_float:
        units, others = _ordered(units, width), _ordered(others, width)
    difference = units - others
    return _to_planes((difference << 1) ^ _sign_mask(difference, width), width)


def sub_merge(planes: Sequence[Buffer], base: Buffer, width: int, is_float: bool) -> Buffer:
    """The raw bytes whose ``sub_split`` against ``base`` gave these planes."""
    zigzag, others = _from_planes(planes), _units(base, width)
    if len(planes) != width or zigzag.size != others.size:
        raise ValueError("base and planes differ in length")
    odd = zigzag & 1
    zigzag >>= 1
    zigzag ^= -odd
    zigzag += _ordered(others, width) if is_float else others
    if is_float:
        mask = ~_sign_mask(zigzag, width)
        mask |= 1 << (8 * width - 1)
        zigzag ^= mask
    return _bytes_of(zigzag)


def merges_to(planes: Sequence[Buffer], raw: Buffer, rotate: bool) -> bool:
    """Whether ``merge`` gives just these bytes."""
    return _is_equal(merge(planes, rotate), raw)


def sub_merges_to(planes: Sequence[Buffer], base: Buffer, raw: Buffer, is_float: bool) -> bool:
    """Whether ``sub_merge`` against ``base`` gives just these bytes."""
    return _is_equal(sub_merge(planes, base, len(planes), is_float), raw)


def _is_equal(made: Buffer, raw: Buffer) -> bool:
    import numpy as np

    return np.array_equal(np.frombuffer(made, dtype=np.uint8), np.frombuffer(raw, dtype=np.uint8))


def _units(data: Buffer, width: int) -> NDArray[Any]:
    import numpy as np

    if width not in (1, 2, 4, 8) or len(data) % width:
        raise ValueError(f"{len(data)} bytes are no whole units of {width}")
    return np.frombuffer(data, dtype=f"<u{width}") if len(data) else np.empty(0, dtype=f"<u{width}")


def _sign_mask(units: NDArray[Any], width: int) -> NDArray[Any]:
    """All ones where the top bit is set, else zero."""
    return -(units >> (8 * width - 1))


def _ordered(units: NDArray[Any], width: int) -> NDArray[Any]:
    mask = _sign_mask(units, width)
    mask |= 1 << (8 * width - 1)
    mask ^= units
    return mask


def _to_planes(units: NDArray[Any], width: int) -> Buffer:
    import numpy as np

    little = units.astype(f"<u{width}", copy=False)
    columns = little.view(np.uint8).reshape(-1, width)
    planes = np.empty((width, units.size), dtype=np.uint8)
    for i in range(width):
        planes[i] = columns[:, i]
    return _bytes_of(planes)


def _from_planes(planes: Sequence[Buffer]) -> NDArray[Any]:
    import numpy as np

    width = len(planes)
    if width not in (1, 2, 4, 8):
        raise ValueError(f"{width} planes")
    count = len(planes[0])
    columns = np.empty((count, width), dtype=np.uint8)
    for i, plane in enumerate(planes):
        if len(plane) != count:
            raise ValueError("planes differ in length")
        if count:
            columns[:, i] = np.frombuffer(plane, dtype=np.uint8)
    return columns.reshape(-1).view(f"<u{width}")


def _bytes_of(array: NDArray[Any]) -> Buffer:
    import numpy as np

    return array.reshape(-1).view(np.uint8).data if array.size else b""


def keep_memory() -> None:
    """Nothing can be arranged from Python."""
