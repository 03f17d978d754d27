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

BUCKET_UNITS = 512
BUCKETS_MOST = 256
STEPS_SEEN = 32
STEPS_FEWEST = 8


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
    return _to_planes(_residuals(raw, base, width, is_float), width)


def sub_merge(planes: Sequence[Buffer], base: Buffer, width: int, is_float: bool) -> Buffer:
    """The raw bytes whose ``sub_split`` against ``base`` gave these planes."""
    zigzag, others = _from_planes(planes), _units(base, width)
    if len(planes) != width or zigzag.size != others.size:
        raise ValueError("base and planes differ in length")
    return _bytes_of(_undo_residuals(zigzag, others, width, is_float))


def merges_to(planes: Sequence[Buffer], raw: Buffer, rotate: bool) -> bool:
    """Whether ``merge`` gives just these bytes."""
    return _is_equal(merge(planes, rotate), raw)


def sub_merges_to(planes: Sequence[Buffer], base: Buffer, raw: Buffer, is_float: bool) -> bool:
    """Whether ``sub_merge`` against ``base`` gives just these bytes."""
    return _is_equal(sub_merge(planes, base, len(planes), is_float), raw)


def bucket_lengths(base: Buffer, width: int, shift: int, bits: int) -> list[int]:
    """The number of units in each bucket."""
    return _plan(_keys(base, width, shift, bits))[1]


def bucket_split(raw: Buffer, base: Buffer, width: int, is_float: bool, shift: int, bits: int) -> Buffer:
    """What ``sub_split`` gives, with the units of each bucket together."""
    order = _bucket_order(_keys(base, width, shift, bits))
    return _to_planes(_residuals(raw, base, width, is_float)[order], width)


def bucket_merge(planes: Sequence[Buffer], base: Buffer, is_float: bool, shift: int, bits: int) -> Buffer:
    """The raw bytes whose ``bucket_split`` against ``base`` gave these planes."""
    import numpy as np

    width = len(planes)
    ordered, others = _from_planes(planes), _units(base, width)
    if ordered.size != others.size:
        raise ValueError("base and planes differ in length")
    zigzag = np.empty_like(ordered)
    zigzag[_bucket_order(_keys(base, width, shift, bits))] = ordered
    return _bytes_of(_undo_residuals(zigzag, others, width, is_float))


def usual_steps(raw: Buffer, base: Buffer, width: int, shift: int, bits: int) -> Buffer:
    """The table of the most usual step away from zero for each value of the mantissa's top bits."""
    import numpy as np

    units, others = _units(raw, width), _units(base, width)
    if units.size != others.size:
        raise ValueError("base and raw differ in length")
    cells = _cells(others, width, shift, bits)
    sign = _sign_mask(others, width)
    steps = ((_ordered(units, width) - _ordered(others, width)) ^ sign) - sign
    order = np.argsort(cells.astype(np.uint16), kind="stable")
    found = np.bincount(cells, minlength=1 << bits)
    rank = np.arange(cells.size) - np.repeat(np.cumsum(found) - found, found)
    taken = rank < STEPS_SEEN
    seen = np.full((1 << bits, STEPS_SEEN), np.iinfo(f"i{width}").max, dtype=f"i{width}")
    seen[cells[order][taken], rank[taken]] = steps[order][taken].view(f"i{width}")
    seen.sort(axis=1)
    count = np.minimum(found, STEPS_SEEN)[:, None]
    last = np.arange(STEPS_SEEN)[None, :] + count // 4
    ends = np.take_along_axis(seen, np.minimum(last, STEPS_SEEN - 1), axis=1)
    spans = np.where(last < count, (ends - seen).view(f"u{width}"), np.iinfo(f"u{width}").max)
    middle = np.argmin(spans, axis=1)[:, None] + count // 8
    usual = np.take_along_axis(seen, middle, axis=1)[:, 0]
    known = np.maximum.accumulate(np.where(count[:, 0] >= STEPS_FEWEST, np.arange(1 << bits), -1))
    return _bytes_of(np.where(known >= 0, usual[known], 0).astype(f"<i{width}"))


def move_units(base: Buffer, table: Buffer, width: int, shift: int, bits: int) -> Buffer:
    """Each unit moved away from zero by the step that the table has for its mantissa."""
    units, steps = _units(base, width), _units(table, width)
    cells = _cells(units, width, shift, bits)
    if steps.size != 1 << bits:
        raise ValueError("the table has another length than its bits say")
    sign = _sign_mask(units, width)
    moved = _ordered(units, width) + ((steps[cells] ^ sign) - sign)
    return _bytes_of(moved ^ (~_sign_mask(moved, width) | (1 << (8 * width - 1))))


def running_sums(planes: Sequence[Buffer]) -> Buffer:
    """The units whose zigzagged differences to the one before are in the planes."""
    import numpy as np

    zigzag = _from_planes(planes)
    return _bytes_of(np.cumsum((zigzag >> 1) ^ -(zigzag & 1), dtype=zigzag.dtype))


def nonzero_count(planes: Sequence[Buffer]) -> int:
    """How many units are not zero."""
    import numpy as np

    return int(np.count_nonzero(_any(planes)))


def nonzero_split(planes: Sequence[Buffer]) -> tuple[Buffer, Buffer]:
    """A bit for each unit, first unit lowest, and the planes of the units that are not zero."""
    import numpy as np

    changed = _any(planes) != 0
    kept = [np.frombuffer(plane, dtype=np.uint8)[changed] for plane in planes]
    return np.packbits(changed, bitorder="little").tobytes(), np.concatenate(kept).tobytes()


def nonzero_merge(mask: Buffer, planes: Sequence[Buffer], units: int) -> Buffer:
    """The planes of all units, back to back; those without a bit are zero."""
    import numpy as np

    _check_width(planes)
    if len(mask) != (units + 7) // 8:
        raise ValueError("the mask has another length than the units")
    changed = np.unpackbits(np.frombuffer(mask, dtype=np.uint8), count=units, bitorder="little") != 0
    whole = np.zeros((len(planes), units), dtype=np.uint8)
    for row, plane in zip(whole, planes, strict=True):
        if len(plane) != np.count_nonzero(changed):
            raise ValueError("a plane has another length than the mask says")
        row[changed] = np.frombuffer(plane, dtype=np.uint8)
    return _bytes_of(whole)


def _any(planes: Sequence[Buffer]) -> NDArray[Any]:
    import numpy as np

    _check_width(planes)
    together = np.frombuffer(planes[0], dtype=np.uint8).copy()
    for plane in planes[1:]:
        together |= np.frombuffer(plane, dtype=np.uint8)
    return together


def _check_width(planes: Sequence[Buffer]) -> None:
    if len(planes) not in (1, 2, 4, 8):
        raise ValueError(f"{len(planes)} planes")


def _keys(base: Buffer, width: int, shift: int, bits: int) -> NDArray[Any]:
    import numpy as np

    if not (0 <= bits <= 8 and 0 <= shift < 8 * width and shift + bits <= 8 * width):
        raise ValueError(f"no unit of {width} bytes has a key of {bits} bits at bit {shift}")
    keys: NDArray[Any] = ((_units(base, width) >> shift) & ((1 << bits) - 1)).astype(np.uint8)
    return keys


def _cells(units: NDArray[Any], width: int, shift: int, bits: int) -> NDArray[Any]:
    import numpy as np

    if not (0 <= bits <= 16 and shift >= 0 and shift + bits < 8 * width):
        raise ValueError(f"no unit of {width} bytes has {bits} bits of mantissa at bit {shift}")
    cells: NDArray[Any] = ((units >> shift) & ((1 << bits) - 1)).astype(np.intp)
    return cells


def _plan(keys: NDArray[Any]) -> tuple[NDArray[Any], list[int]]:
    """The bucket of each key, and the number of units in each bucket; ``kernels.py`` has the rule."""
    import numpy as np

    lengths: list[int] = []
    buckets = np.zeros(256, dtype=np.uint8)
    held = 0
    for key, count in enumerate(np.bincount(keys, minlength=256).tolist()):
        held += count
        buckets[key] = len(lengths)
        if held >= BUCKET_UNITS and held * BUCKETS_MOST >= keys.size:
            lengths.append(held)
            held = 0
    if not lengths:
        return np.zeros(256, dtype=np.uint8), [held] if held else []
    lengths[-1] += held
    return np.minimum(buckets, len(lengths) - 1), lengths


def _bucket_order(keys: NDArray[Any]) -> NDArray[Any]:
    import numpy as np

    return np.argsort(_plan(keys)[0][keys], kind="stable")


def _residuals(raw: Buffer, base: Buffer, width: int, is_float: bool) -> NDArray[Any]:
    """The zigzagged differences of the units."""
    units, others = _units(raw, width), _units(base, width)
    if units.size != others.size:
        raise ValueError("base and raw differ in length")
    if is_float:
        units, others = _ordered(units, width), _ordered(others, width)
    difference = units - others
    zigzag: NDArray[Any] = (difference << 1) ^ _sign_mask(difference, width)
    return zigzag


def _undo_residuals(zigzag: NDArray[Any], others: NDArray[Any], width: int, is_float: bool) -> NDArray[Any]:
    """The units of zigzagged differences, which are overwritten."""
    odd = zigzag & 1
    zigzag >>= 1
    zigzag ^= -odd
    zigzag += _ordered(others, width) if is_float else others
    if is_float:
        mask = ~_sign_mask(zigzag, width)
        mask |= 1 << (8 * width - 1)
        zigzag ^= mask
    return zigzag


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

    _check_width(planes)
    width = len(planes)
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
