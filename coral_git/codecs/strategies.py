"""The strategies by name: which codecs a delta type stands for."""

from __future__ import annotations

from typing import NamedTuple

from coral_git.codecs.base import Codec
from coral_git.codecs.bucket import BucketCodec
from coral_git.codecs.choose import delta_codec, standalone_codec
from coral_git.codecs.quantized import QuantizedCodec
from coral_git.codecs.raw import RawCodec
from coral_git.codecs.sparse import SparseCodec
from coral_git.codecs.sub import SubCodec
from coral_git.codecs.xor import XorCodec
from coral_git.types import DeltaType, Element

_RAW: Codec = RawCodec()
_QUANTIZED: Codec = QuantizedCodec()
_QUANTIZED_DELTA: Codec = QuantizedCodec(10, "quantized-delta", True)
_DELTAS: dict[DeltaType, Codec] = {
    DeltaType.COMPRESSED: SubCodec(),
    DeltaType.XOR_FLOAT32: XorCodec(),
    DeltaType.XOR_BFLOAT16: XorCodec(),
    DeltaType.EXPONENT_MANTISSA: BucketCodec(),
    DeltaType.INT16_QUANTIZED: _QUANTIZED_DELTA,
    DeltaType.INT8_QUANTIZED: _QUANTIZED_DELTA,
    DeltaType.SPARSE: SparseCodec(),
}


class Strategy(NamedTuple):
    """What decides the codec of an object.

    Bytes that are no tensor, and what a strategy is not made for, are stored as ``AUTO`` does.

    Attributes:
        delta_type: the strategy.
        profile: how much time ``AUTO`` may spend on size; one of ``codecs.choose.PROFILES``.
    """

    delta_type: DeltaType = DeltaType.AUTO
    profile: str = "fast"

    def uses_bases(self, element: Element) -> bool:
        """Whether objects with this element may be deltas."""
        return self.delta_type is not DeltaType.FLOAT32_RAW or element is Element.BYTES

    def standalone(self, element: Element) -> Codec:
        """The codec for an object without a base."""
        if self.delta_type is DeltaType.FLOAT32_RAW and element is not Element.BYTES:
            return _RAW
        if self.delta_type.bits and element is Element.F32:
            return _QUANTIZED
        return standalone_codec(element)

    def delta(self, element: Element, units: int) -> Codec:
        """The codec for an object of so many units against a base."""
        is_unfit = self.delta_type.bits and element is not Element.F32
        if element is Element.BYTES or is_unfit:
            return delta_codec(element, units, self.profile)
        return _DELTAS.get(self.delta_type) or delta_codec(element, units, self.profile)
