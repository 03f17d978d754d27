"""How good the choice of a codec is, and what a second core gives; ``codecs.py`` prints both."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

import numpy as np

from coral_git.codecs.base import Codec
from coral_git.codecs.bucket import BucketCodec
from coral_git.codecs.choose import PROFILES, estimate, fitted_codec, sample, standalone_codec
from coral_git.codecs.decay import DecayCodec
from coral_git.codecs.registry import BUILT_IN, codec_by_name
from coral_git.codecs.sparse import SparseCodec
from coral_git.limits import DEFAULT_LIMITS
from coral_git.pipeline.parallel import Workers
from coral_git.store.pack_format import ENTRY_HEADER_LENGTH, TABLE_ROW_LENGTH
from coral_git.types import DTYPES, Element

SORTING: tuple[Codec, ...] = (BucketCodec(), DecayCodec(inner=BucketCodec()))
ROUNDS = 40
BLOCKS = 16
"""Rounds are short and many, so that some of them have the machine for themselves."""


class Tensor(NamedTuple):
    """The bytes of a tensor and those of its base, empty where there is none."""

    dtype: str
    raw: bytes
    base: bytes

    @property
    def element(self) -> Element:
        """How codecs see it."""
        return DTYPES[self.dtype].element

    @property
    def width(self) -> int:
        """Bytes of a number."""
        return self.element.width


class Block(NamedTuple):
    """What a thread encodes or decodes in one call."""

    codec: Codec
    element: Element
    raw: bytes
    base: bytes
    payload: bytes


def cut(codec: Codec, tensor: Tensor) -> Iterable[tuple[bytes, bytes]]:
    """The blocks of a tensor, each with its window of the base."""
    size = codec.block_size(tensor.element, DEFAULT_LIMITS)
    for start in range(0, len(tensor.raw), size):
        first, length = codec.base_window(start, min(size, len(tensor.raw) - start))
        yield tensor.raw[start : start + size], tensor.base[first : first + length]


def stored(codec: Codec, tensor: Tensor) -> int:
    """Bytes of the pack entry of a tensor."""
    payloads = (
        TABLE_ROW_LENGTH + sum(len(piece) for piece in codec.encode_block(raw, base, tensor.element))
        for raw, base in cut(codec, tensor)
    )
    return ENTRY_HEADER_LENGTH + sum(payloads)


def chosen(tensor: Tensor, profile: str) -> Codec:
    """The codec that adding takes for a tensor: what ``Encoder`` asks, in the same order."""
    element, length = tensor.element, len(tensor.raw)
    own = sample(lambda at, count: tensor.raw[at : at + count], length, element)
    if not tensor.base:
        return standalone_codec(element)
    faced = sample(lambda at, count: tensor.base[at : at + count], length, element)
    if estimate(element, own, faced) >= estimate(element, own, None):
        return standalone_codec(element)
    return fitted_codec(element, length // element.width, profile, own, faced)


def is_allowed(codec: Codec, element: Element, profile: str) -> bool:
    """Whether a profile has the time for a codec."""
    return codec not in SORTING or element.width <= PROFILES[profile]


def print_hindsight(label: str, tensors: Iterable[Tensor]) -> None:
    """Encode every tensor with every codec, and compare what was chosen with the best one for each.

    Args:
        label: the name of the pair.
        tensors: those that have to be encoded.
    """
    others = (*SORTING, DecayCodec(inner=SparseCodec()))
    candidates = [*BUILT_IN, *(codec for codec in others if codec not in BUILT_IN)]
    totals = {profile: [0, 0, 0, 0] for profile in PROFILES}
    for tensor in tensors:
        sizes = {codec: stored(codec, tensor) for codec in candidates if tensor.base or not codec.needs_base}
        for profile, total in totals.items():
            mine = sizes[chosen(tensor, profile)]
            best = min(size for codec, size in sizes.items() if is_allowed(codec, tensor.element, profile))
            total[0] += mine
            total[1] += best
            total[2] += mine * 100 > best * 101
            total[3] = max(total[3], mine - best)
    for profile, (mine, best, others, worst) in totals.items():
        cells = f"{mine / 1e6:.3f} | {best / 1e6:.3f} | {mine / best:.4f} | {others} | {worst}"
        print(f"| {label} | `{profile}` | {cells} |", flush=True)


def encode(block: Block) -> None:
    """What adding does with a block."""
    payload = block.codec.encode_block(block.raw, block.base, block.element)
    if not block.codec.decodes_to(payload, block.raw, block.base, block.element):
        raise SystemExit("a codec gives other bytes back")


def decode(block: Block) -> None:
    """What a checkout does with a block."""
    block.codec.decode_block(block.payload, len(block.raw), block.base, block.element)


def compress(data: bytes) -> None:
    """A loop in C that stays in the caches of its core and holds no lock."""
    for _ in range(8):
        zlib.compress(data, 6)


def seconds(threads: int, work: Callable[[Workers], object]) -> float:
    """Wall time in a pool of threads that are already running."""
    with Workers(threads) as workers:
        for _ in workers.map(time.sleep, [0.001] * threads):
            pass
        start = time.perf_counter()
        work(workers)
        return time.perf_counter() - start


def gain(function: Callable[..., None], tasks: list[object]) -> float:
    """Throughput of two threads by that of one: the fastest of some rounds, in turn."""

    def work(workers: Workers) -> None:
        for _ in workers.map(function, tasks):
            pass

    times = [(seconds(1, work), seconds(2, work)) for _ in range(ROUNDS)]
    return min(one for one, _ in times) / min(two for _, two in times)


def print_cores(tensors: Iterable[Tensor]) -> None:
    """Print what a second thread gives to each codec, and to a loop that shares nothing.

    Args:
        tensors: large ones are used, of one dtype, with bases.
    """
    largest = sorted((one for one in tensors if one.base), key=lambda one: -len(one.raw))[:BLOCKS]
    limit = partial(gain, compress, [np.random.default_rng(7).bytes(48 << 10)] * BLOCKS)
    print(f"| zlib, 48 KiB at a time | {limit():.2f} | |", flush=True)
    for name in ("planes", "sub", "bucket"):
        codec = codec_by_name(name)
        parts = [(one, *part) for one in largest for part in cut(codec, one)][:BLOCKS]
        blocks = [
            Block(codec, one.element, raw, base, b"".join(codec.encode_block(raw, base, one.element)))
            for one, raw, base in parts
        ]
        print(f"| `{name}` | {gain(encode, blocks):.2f} | {gain(decode, blocks):.2f} |", flush=True)
    print(f"| zlib again | {limit():.2f} | |", flush=True)
