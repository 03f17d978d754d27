"""The strategies by name: which codecs a delta type stands for."""

from __future__ import annotations

from typing import NamedTuple

from coral_git.codecs.base import Codec
from coral_git.codecs.bucket import BucketCodec
from coral_git.codecs.choose import fitted_codec, standalone_codec
from coral_git.codecs.quantized import QuantizedCodec
from coral_git.codecs.raw import RawCodec
from coral_git.codecs.sparse import SparseCodec
from coral_git.codecs.sub import SubCodec
from coral_git.codecs.xor import XorCodec
from coral_git.types import Buffer, DeltaType, Element

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

    def delta(self, element: Element, units: int, sample_raw: Buffer, sample_base: Buffer) -> Codec:
        """The codec for an object against a base.

        Args:
            element: how the object is seen.
            units: units of the whole object.
            sample_raw: its sample.
            sample_base: what faces that in the base.
        """
        named = _DELTAS.get(self.delta_type)
        is_fit = element is not Element.BYTES and not (self.delta_type.bits and element is not Element.F32)
        if named is not None and is_fit:
            return named
        return fitted_codec(element, units, self.profile, sample_raw, sample_base)
