"""Codec ids to codecs: a literal table, and the entry points of installed packages for ids not in it."""

from __future__ import annotations

from collections.abc import Iterable

from coral_git.codecs.base import Codec
from coral_git.codecs.bucket import BucketCodec
from coral_git.codecs.bytes_codec import BytesCodec
from coral_git.codecs.decay import DecayCodec
from coral_git.codecs.planes import PlanesCodec
from coral_git.codecs.prefix import PrefixCodec
from coral_git.codecs.quantized import QuantizedCodec
from coral_git.codecs.raw import RawCodec
from coral_git.codecs.sparse import SparseCodec
from coral_git.codecs.sub import SubCodec
from coral_git.codecs.upcast import UpcastCodec
from coral_git.codecs.xor import XorCodec
from coral_git.errors import CoralError, FormatVersionError, UsageError

ENTRY_POINTS = "coral_git.codecs"
"""Entry-point group; each entry names an object with the methods of ``Codec``."""

BUILT_IN: tuple[Codec, ...] = (
    BytesCodec(),
    PrefixCodec(),
    PlanesCodec(),
    SubCodec(),
    BucketCodec(),
    RawCodec(),
    XorCodec(),
    SparseCodec(),
    QuantizedCodec(),
    QuantizedCodec(10, "quantized-delta", True),
    DecayCodec(),
    UpcastCodec(),
)


def tabulate_codecs(codecs: Iterable[Codec]) -> dict[int, Codec]:
    """A table from id to codec.

    Raises:
        CoralError: an id does not fit into a byte, or two codecs share an id or a name.
    """
    table: dict[int, Codec] = {}
    names: dict[str, int] = {}
    for codec in codecs:
        if not 1 <= codec.codec_id <= 255:
            raise CoralError(f"codec '{codec.name}' has the id {codec.codec_id}, which is not 1 to 255")
        if codec.codec_id in table:
            raise CoralError(
                f"codecs '{table[codec.codec_id].name}' and '{codec.name}' share the id {codec.codec_id}"
            )
        if codec.name in names:
            raise CoralError(f"codecs {names[codec.name]} and {codec.codec_id} share the name '{codec.name}'")
        table[codec.codec_id] = codec
        names[codec.name] = codec.codec_id
    return table


_table = tabulate_codecs(BUILT_IN)
_entry_points_loaded = False


def codec_by_id(codec_id: int) -> Codec:
    """The codec that wrote ``codec_id`` into a pack.

    Raises:
        FormatVersionError: neither this version nor an installed package has the codec.
    """
    codec = _table.get(codec_id)
    if codec is None:
        _load_entry_points()
        codec = _table.get(codec_id)
    if codec is None:
        raise FormatVersionError(
            f"unknown codec {codec_id}",
            hint="update coral-git, or install the package that provides the codec",
        )
    return codec


def codec_by_name(name: str) -> Codec:
    """The codec with the given name.

    Raises:
        UsageError: there is none.
    """
    for attempt in range(2):
        for codec in _table.values():
            if codec.name == name:
                return codec
        if attempt == 0:
            _load_entry_points()
    known = ", ".join(sorted(codec.name for codec in _table.values()))
    raise UsageError(f"unknown codec {name!a}", hint=f"the codecs are: {known}")


def _load_entry_points() -> None:
    global _table, _entry_points_loaded
    if _entry_points_loaded:
        return
    from importlib.metadata import entry_points

    found: list[Codec] = []
    for point in entry_points(group=ENTRY_POINTS):
        try:
            found.append(point.load())
        except Exception as error:
            raise CoralError(f"cannot load the codec '{point.name}' from {point.value}: {error}") from error
    _table = tabulate_codecs([*BUILT_IN, *found])
    _entry_points_loaded = True
