"""Codecs 9 and 10, "quantized" and "quantized-delta": float32 that was quantized before it got here.

Nothing is lost here. Who quantized a tensor (``quantize.py``) has left numbers that are whole multiples of a
scale, from zero or from a base. The encoder finds scale and steps of each group in the numbers alone,
compares what they give bit by bit, and writes one or two bytes for each unit. A group in which nothing is
found is written as "sub" would, which for float32 without a base is what "planes" writes.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from coral_git.codecs import kernels
from coral_git.codecs.base import is_same
from coral_git.codecs.planes import append_tail, cut_planes, whole_units
from coral_git.codecs.streams import encode_bytes, read_streams, write_streams
from coral_git.codecs.sub import SubCodec, pad_base
from coral_git.errors import IntegrityError
from coral_git.limits import Limits
from coral_git.types import Buffer, Element

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from coral_git.codecs.quantize import Codes, Floats, Grid, Steps

    Bytes = npt.NDArray[np.uint8]

_MODE_BITS = (8, 16, 0)
"""Bits of a step in each mode; 0 in the mode without steps."""
_VERBATIM = 2

_HEAD = struct.Struct("<I")
_OTHERS = SubCodec()


class QuantizedCodec(NamedTuple):
    """Quantized float32, as steps from zero; anything else as "sub" does without a base."""

    codec_id: int = 9
    name: str = "quantized"
    needs_base: bool = False

    def block_size(self, element: Element, limits: Limits) -> int:
        """As many units as a block has elements."""
        return element.width * limits.block_elements

    def base_window(self, start: int, length: int) -> tuple[int, int]:
        """The same range where there is a base."""
        return start, length if self.needs_base else 0

    def encode_block(self, raw: Buffer, base: Buffer, element: Element) -> list[Buffer]:
        """The modes and scales of the groups, then their steps, differences and the tail."""
        base = base if self.needs_base else b""
        if element != Element.F32:
            return _OTHERS.encode_block(raw, base, element)
        view = memoryview(raw)
        units, whole = whole_units(len(view), element)
        if not units:
            return write_streams([view])
        from coral_git.codecs.quantize import recover

        results, bases = _to_groups(view[:whole]), _to_groups(pad_base(base, whole))
        grid = recover(results, bases)
        plain = _write(results, bases, grid._replace(bits=grid.bits * 0, codes=grid.codes * 0), view)
        return min(plain, _write(results, bases, grid, view), key=_length) if grid.bits.any() else plain

    def decode_block(self, payload: Buffer, raw_length: int, base: Buffer, element: Element) -> Buffer:
        """The base's units plus steps or differences, and the bytes after them.

        Raises:
            IntegrityError: the payload is malformed.
        """
        base = base if self.needs_base else b""
        if element != Element.F32:
            return _OTHERS.decode_block(payload, raw_length, base, element)
        units, whole = whole_units(raw_length, element)
        if not units:
            return read_streams(payload, [raw_length])[0]
        import numpy as np

        modes, codes, body = _read_groups(memoryview(payload), units)
        counts = _units_by_mode(modes, units)
        *planes, tail = read_streams(body, [*_plane_lengths(counts), raw_length - whole])
        bases = _to_groups(pad_base(base, whole))
        results = np.zeros_like(bases)
        for mode, bits in enumerate(_MODE_BITS):
            rows = modes == mode
            if bits:
                mine, planes = planes[: bits // 8], planes[bits // 8 :]
                results[rows] = _dequantize(_from_planes(mine), codes[rows], bases[rows])
            elif counts[mode]:
                faced = _to_bytes(bases[rows], counts[mode])
                results[rows] = _to_groups(kernels.sub_merge(planes, faced, element.width, element.is_float))
        return append_tail(_to_bytes(results, units), tail)

    def decodes_to(self, payload: Sequence[Buffer], raw: Buffer, base: Buffer, element: Element) -> bool:
        """Whether the payload decodes to just these bytes."""
        return is_same(self.decode_block(b"".join(payload), len(raw), base, element), raw)


def _write(results: Floats, bases: Floats, grid: Grid, raw: memoryview) -> list[Buffer]:
    """The payload of a block in which these scales were found."""
    import numpy as np

    units, whole = whole_units(len(raw), Element.F32)
    modes = np.select([grid.bits == 8, grid.bits == 16], [0, 1], _VERBATIM).astype(np.uint8)
    counts = _units_by_mode(modes, units)
    streams: list[Buffer] = []
    for mode, bits in enumerate(_MODE_BITS):
        rows = modes == mode
        if bits:
            streams += _step_planes(grid.steps[rows].reshape(-1)[: counts[mode]], bits // 8)
        else:
            mine, faced = (_to_bytes(groups[rows], counts[mode]) for groups in (results, bases))
            planes = kernels.sub_split(mine, faced, Element.F32.width, Element.F32.is_float)
            streams += cut_planes(planes, counts[mode], Element.F32)
    low, high = (grid.codes & 0xFF).astype(np.uint8), (grid.codes >> 8).astype(np.uint8)
    groups = write_streams([modes.tobytes(), low.tobytes(), high.tobytes()], encode_bytes)
    return [_HEAD.pack(_length(groups)), *groups, *write_streams([*streams, raw[whole:]])]


def _length(pieces: Sequence[Buffer]) -> int:
    return sum(len(piece) for piece in pieces)


def _read_groups(payload: memoryview, units: int) -> tuple[Bytes, Codes, memoryview]:
    """The mode and the scale of each group, and the streams behind them."""
    import numpy as np

    from coral_git.codecs.quantize import GROUP, is_scale

    if len(payload) < _HEAD.size:
        raise IntegrityError("block payload is shorter than its head")
    end = _HEAD.size + _HEAD.unpack_from(payload)[0]
    if end > len(payload):
        raise IntegrityError("modes and scales run past the end of their block payload")
    count = (units + GROUP - 1) // GROUP
    streams = read_streams(payload[_HEAD.size : end], [count] * 3)
    modes, low, high = (np.frombuffer(stream, np.uint8) for stream in streams)
    codes = low.astype(np.int64) | high.astype(np.int64) << 8
    if modes.max() > _VERBATIM:
        raise IntegrityError("a group has an unknown mode")
    if not np.where(modes == _VERBATIM, codes == 0, is_scale(codes)).all():
        raise IntegrityError("a group has a scale that is none")
    return modes, codes, payload[end:]


def _units_by_mode(modes: Bytes, units: int) -> list[int]:
    """How many units are in groups of each mode; the last group may be shorter."""
    import numpy as np

    from coral_git.codecs.quantize import GROUP

    counts: list[int] = (np.bincount(modes, minlength=len(_MODE_BITS)) * GROUP).tolist()
    counts[modes[-1]] -= len(modes) * GROUP - units
    return counts


def _plane_lengths(counts: Sequence[int]) -> list[int]:
    return [
        count
        for bits, count in zip(_MODE_BITS, counts, strict=True)
        for _ in range(bits // 8 or Element.F32.width)
    ]


def _step_planes(steps: Steps, width: int) -> list[Buffer]:
    """Zigzagged steps as byte planes, the low one first."""
    zigzag = (steps << 1) ^ (steps >> 15)
    return [(zigzag >> shift).astype("u1").tobytes() for shift in range(0, 8 * width, 8)]


def _from_planes(planes: Sequence[Buffer]) -> Steps:
    """The steps whose ``_step_planes`` these are, in rows of a group."""
    import numpy as np

    from coral_git.codecs.quantize import to_groups

    zigzag = np.zeros(len(planes[0]), np.uint16)
    for number, plane in enumerate(planes):
        zigzag |= np.frombuffer(plane, np.uint8).astype(np.uint16) << np.uint16(8 * number)
    return to_groups(((zigzag >> 1) ^ -(zigzag & 1)).view(np.int16))


def _dequantize(steps: Steps, codes: Codes, bases: Floats) -> Floats:
    import numpy as np

    from coral_git.codecs.quantize import dequantize

    results = dequantize(steps, codes, bases)
    # a NaN plus a number has other bits on other machines
    if not np.isfinite(results).all():
        raise IntegrityError("a step leads to a number that is not finite")
    return results


def _to_groups(data: Buffer) -> Floats:
    import numpy as np

    from coral_git.codecs.quantize import to_groups

    return to_groups(np.frombuffer(data, "<f4"))


def _to_bytes(groups: Floats, units: int) -> Buffer:
    from coral_git.codecs.quantize import from_groups

    return from_groups(groups, units).tobytes()
