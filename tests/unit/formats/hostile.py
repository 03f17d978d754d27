"""What every reader must survive: damage anywhere, a cut anywhere; and what a layout promises."""

from __future__ import annotations

from hypothesis import strategies as st

from coral_git.formats.base import FormatReader, Layout, NotThisFormat
from coral_git.formats.registry import check_layout
from coral_git.limits import DEFAULT_LIMITS, Limits
from coral_git.types import BytesSource


def ask(reader: FormatReader, data: bytes, limits: Limits = DEFAULT_LIMITS) -> Layout | None:
    """What a reader says, or None where it refuses; any other exception is an error of the reader."""
    if not reader.sniff(data[:512], len(data)):
        return None
    try:
        layout = reader.layout(BytesSource(data), limits)
        check_layout(layout, len(data), limits)
    except NotThisFormat:
        return None
    return layout


def damaged(data: st.DataObject, file: bytes, signs: bytes = b"\x00\x01\x7f\x80\xff") -> bytes:
    """A file of which some bytes are others."""
    result = bytearray(file)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(file) - 1))
        result[place] = data.draw(st.integers(0, 255) | st.sampled_from(signs))
    return bytes(result)


def contents(file: bytes, layout: Layout) -> dict[str, bytes]:
    """The bytes of each tensor."""
    return {tensor.name: file[tensor.offset : tensor.offset + tensor.length] for tensor in layout.tensors}
