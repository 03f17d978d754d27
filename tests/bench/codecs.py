"""Ratio and speed of every codec on real weights, with its peers in the same run.

    python tests/bench/codecs.py [--models DIR] [--rounds 3] [--hindsight | --cores] [FILE BASE]...

FILE and BASE are safetensors files with the same tensors; BASE may be ``-``, to store FILE without a base.
With none, a real model and fine-tuned versions of it are used, also cast to bf16 and fp16. Run it on one
core, e.g. with ``taskset -c 0``. Ratios are raw by stored bytes; our codecs are measured as whole objects,
with headers, tables and checksums, and equal tensors count as nothing in all rows. Times are CPU times, the
best of the rounds; every result is compared.

With ``--hindsight``, every tensor is encoded with every codec instead, and what the program would have chosen
is compared with the best for each tensor. With ``--cores``, two threads are compared with one, on two cores;
with ``--strategies``, the strategies by name with ``auto``.

Peers that are installed take part: ``pip install zipnn blosc2 pcodec``.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import zstandard

sys.path.insert(0, str(Path(__file__).parent))
from choices import Tensor, chosen, print_cores, print_hindsight
from finetune import versions
from strategies import print_strategies

from coral_git.codecs import kernels
from coral_git.codecs.base import Codec
from coral_git.codecs.registry import codec_by_name
from coral_git.limits import DEFAULT_LIMITS
from coral_git.store.pack_format import ENTRY_HEADER_LENGTH, TABLE_ROW_LENGTH

CHUNK = 1 << 20
REFERENCE = "zipnn"


class Method(NamedTuple):
    """A way to store a tensor: gives what is stored and its length, and gets the bytes back from that."""

    encode: Callable[[Tensor], tuple[object, int]]
    decode: Callable[[Tensor, object], bytes]


def read_tensors(path: Path) -> dict[str, tuple[str, bytes]]:
    """The dtype and the bytes of each tensor of a safetensors file."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    header.pop("__metadata__", None)
    return {
        name: (one["dtype"], data[start + one["data_offsets"][0] : start + one["data_offsets"][1]])
        for name, one in header.items()
    }


def cast(tensors: dict[str, tuple[str, bytes]], dtype: str) -> dict[str, tuple[str, bytes]]:
    """The fp32 tensors as bf16 or fp16, rounded to nearest even."""

    def convert(data: bytes) -> bytes:
        if dtype == "F16":
            return np.frombuffer(data, "<f4").astype("<f2").tobytes()
        bits = np.frombuffer(data, "<u4").astype(np.uint64)
        return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype("<u2").tobytes()

    return {
        name: (dtype, convert(data)) if own == "F32" else (own, data) for name, (own, data) in tensors.items()
    }


def ours(codec: Codec) -> Method:
    """One of our codecs, block by block as in a pack."""

    def encode(tensor: Tensor) -> tuple[object, int]:
        element = tensor.element
        size = codec.block_size(element, DEFAULT_LIMITS)
        raw, base = memoryview(tensor.raw), memoryview(tensor.base)
        blocks = [
            b"".join(codec.encode_block(raw[start : start + size], base[start : start + size], element))
            for start in range(0, len(raw), size)
        ]
        stored = ENTRY_HEADER_LENGTH + sum(TABLE_ROW_LENGTH + len(block) for block in blocks)
        return blocks, stored

    def decode(tensor: Tensor, blocks: object) -> bytes:
        element = tensor.element
        size = codec.block_size(element, DEFAULT_LIMITS)
        base = memoryview(tensor.base)
        assert isinstance(blocks, list)
        return b"".join(
            codec.decode_block(
                block,
                min(size, len(tensor.raw) - number * size),
                base[number * size : (number + 1) * size],
                element,
            )
            for number, block in enumerate(blocks)
        )

    return Method(encode, decode)


def as_added(profile: str) -> Method:
    """What adding does with a profile: a codec for each tensor, chosen by a sample, which takes time too."""

    def encode(tensor: Tensor) -> tuple[object, int]:
        method = ours(chosen(tensor, profile))
        blocks, length = method.encode(tensor)
        return (method, blocks), length

    def decode(tensor: Tensor, encoded: object) -> bytes:
        assert isinstance(encoded, tuple)
        method, blocks = encoded
        return method.decode(tensor, blocks)

    return Method(encode, decode)


def units(data: bytes, width: int) -> np.ndarray:
    """The elements as unsigned integers."""
    return np.frombuffer(data, f"<u{width}")


def in_chunks(
    pack: Callable[[bytes, bytes, int], bytes], unpack: Callable[[bytes, bytes, int], bytes]
) -> Method:
    """A peer that is given one MiB after the other, as a tool that bounds its memory would do."""

    def encode(tensor: Tensor) -> tuple[object, int]:
        blocks = [
            pack(tensor.raw[start : start + CHUNK], tensor.base[start : start + CHUNK], tensor.width)
            for start in range(0, len(tensor.raw), CHUNK)
        ]
        return blocks, sum(map(len, blocks))

    def decode(tensor: Tensor, blocks: object) -> bytes:
        assert isinstance(blocks, list)
        return b"".join(
            unpack(block, tensor.base[number * CHUNK : (number + 1) * CHUNK], tensor.width)
            for number, block in enumerate(blocks)
        )

    return Method(encode, decode)


def bitx() -> Method:
    """XOR, byte planes, zstd level 3 for each plane (the scheme of BitX)."""
    packer, opener = zstandard.ZstdCompressor(level=3), zstandard.ZstdDecompressor()

    def pack(raw: bytes, base: bytes, width: int) -> bytes:
        mixed = units(raw, width) ^ units(base, width) if base else units(raw, width)
        planes = mixed.view(np.uint8).reshape(-1, width)
        frames = [packer.compress(np.ascontiguousarray(planes[:, k]).data) for k in range(width)]
        return b"".join(len(frame).to_bytes(4, "little") + frame for frame in frames)

    def unpack(data: bytes, base: bytes, width: int) -> bytes:
        planes = []
        for _ in range(width):
            length = int.from_bytes(data[:4], "little")
            planes.append(np.frombuffer(opener.decompress(data[4 : 4 + length]), np.uint8))
            data = data[4 + length :]
        mixed = np.empty((planes[0].size, width), np.uint8)
        for k, plane in enumerate(planes):
            mixed[:, k] = plane
        whole = mixed.reshape(-1).view(f"<u{width}")
        return (whole ^ units(base, width) if base else whole).tobytes()

    return in_chunks(pack, unpack)


def zipnn_peer() -> Method:
    """zipnn, with its own delta mode where there is a base."""
    from zipnn import ZipNN

    names = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}

    def coder(tensor: Tensor) -> tuple[ZipNN, dict[str, object]]:
        options = {"delta_compressed_type": "byte"} if tensor.base else {}
        extra: dict[str, object] = {"delta_second_data": bytearray(tensor.base)} if tensor.base else {}
        return ZipNN(
            bytearray_dtype=names.get(tensor.dtype, "float32"), input_format="byte", threads=1, **options
        ), extra

    def encode(tensor: Tensor) -> tuple[object, int]:
        tool, extra = coder(tensor)
        data = tool.compress(bytearray(tensor.raw), **extra)
        return data, len(data)

    def decode(tensor: Tensor, data: object) -> bytes:
        tool, extra = coder(tensor)
        return bytes(tool.decompress(bytearray(data), **extra))  # type: ignore[call-overload]

    return Method(encode, decode)


def blosc2_peer() -> Method:
    """blosc2: XOR, shuffle, zstd level 1."""
    import blosc2

    def pack(raw: bytes, base: bytes, width: int) -> bytes:
        mixed = units(raw, width) ^ units(base, width) if base else units(raw, width)
        return bytes(
            blosc2.compress2(
                mixed,
                codec=blosc2.Codec.ZSTD,
                clevel=1,
                filters=[blosc2.Filter.SHUFFLE],
                typesize=width,
                nthreads=1,
            )
        )

    def unpack(data: bytes, base: bytes, width: int) -> bytes:
        whole = units(bytes(blosc2.decompress2(data)), width)
        return (whole ^ units(base, width) if base else whole).tobytes()

    return in_chunks(pack, unpack)


def pcodec_peer() -> Method:
    """pcodec, level 8, on the integer difference."""
    from pcodec import ChunkConfig, standalone

    def pack(raw: bytes, base: bytes, width: int) -> bytes:
        mixed = units(raw, width) - units(base, width) if base else units(raw, width)
        return bytes(standalone.simple_compress(mixed, ChunkConfig(compression_level=8)))

    def unpack(data: bytes, base: bytes, width: int) -> bytes:
        whole = standalone.simple_decompress(data)
        return (whole + units(base, width) if base else whole).tobytes()

    return in_chunks(pack, unpack)


def methods(has_base: bool) -> Iterator[tuple[str, Method]]:
    """Our codecs and the peers that are installed."""
    for name in ("sub", "bucket") if has_base else ("planes",):
        yield f"coral {name}", ours(codec_by_name(name))
    for profile in ("fast", "best") if has_base else ():
        yield f"coral as added ({profile})", as_added(profile)
    yield "XOR planes zstd-3 (BitX)" if has_base else "planes zstd-3", bitx()
    for name, make in (("zipnn", zipnn_peer), ("blosc2", blosc2_peer), ("pcodec", pcodec_peer)):
        if importlib.util.find_spec(name):
            yield name, make()


class Result(NamedTuple):
    """What a method made of a file: stored bytes, seconds of encoding and of decoding."""

    stored: int
    encoding: float
    decoding: float


def measure(method: Method, tensors: list[Tensor], rounds: int) -> Result:
    """Encode and decode every tensor and compare; the fastest round counts."""
    times = []
    stored = 0
    for _ in range(rounds):
        stored, encoding, decoding = 0, 0.0, 0.0
        for tensor in tensors:
            start = time.process_time()
            data, length = method.encode(tensor)
            middle = time.process_time()
            decoded = method.decode(tensor, data)
            decoding += time.process_time() - middle
            encoding += middle - start
            stored += length
            if decoded != tensor.raw:
                raise SystemExit("a method gives other bytes back")
        times.append((encoding, decoding))
    return Result(stored, min(one for one, _ in times), min(one for _, one in times))


def to_encode(file: dict[str, tuple[str, bytes]], base: dict[str, tuple[str, bytes]] | None) -> list[Tensor]:
    """The tensors of floats that are not equal to their bases."""
    tensors = []
    for name, (dtype, raw) in file.items():
        faced = b"" if base is None else base[name][1]
        if raw != faced and dtype in ("F32", "BF16", "F16"):
            tensors.append(Tensor(dtype, raw, faced))
    return tensors


def compare(label: str, total: int, tensors: list[Tensor], rounds: int) -> None:
    """Print the table of one pair.

    Args:
        label: its name.
        total: bytes of all tensors.
        tensors: those that have to be encoded.
        rounds: the fastest counts.
    """
    coded = sum(len(tensor.raw) for tensor in tensors)
    results = {
        name: measure(method, tensors, rounds)
        for name, method in methods(any(tensor.base for tensor in tensors))
    }
    reference = results.get(REFERENCE)
    print(f"\n### {label}: {total / 1e6:.1f} MB, {coded / 1e6:.1f} MB of it to be encoded\n")
    print("| method | ratio | encode GB/s | decode GB/s | encode / zipnn | decode / zipnn |")
    print("|---|---:|---:|---:|---:|---:|")
    for name, result in results.items():
        speeds = f"{coded / result.encoding / 1e9:.2f} | {coded / result.decoding / 1e9:.2f}"
        beside = " | "
        if reference is not None:
            beside = (
                f"{reference.encoding / result.encoding:.2f} | {reference.decoding / result.decoding:.2f}"
            )
        print(f"| {name} | {total / result.stored:.3f} | {speeds} | {beside} |", flush=True)


def main() -> None:
    """Measure the pairs on the command line, or the model and its fine-tuned versions."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3, help="the fastest counts")
    parser.add_argument(
        "--models", type=Path, default=Path("models"), help="where fine-tuned versions are kept"
    )
    parser.add_argument("--hindsight", action="store_true", help="compare the choice with the best codec")
    parser.add_argument("--cores", action="store_true", help="compare two threads with one")
    parser.add_argument("--strategies", action="store_true", help="compare the strategies by name")
    parser.add_argument("files", nargs="*", help="FILE BASE FILE BASE ...")
    options = parser.parse_args()
    if len(options.files) % 2:
        parser.error("give pairs of a file and its base, or '-'")
    kernels.keep_memory()
    print(f"kernels: {kernels.KERNEL_NAME}")
    if options.hindsight:
        print("\n| file | profile | chosen MB | best MB | chosen / best | over 1 % | most bytes lost |")
        print("|---|---|---:|---:|---:|---:|---:|")
    if options.strategies:
        print("\n| file | strategy | stored / raw | encode / auto | decode / auto | largest error |")
        print("|---|---|---:|---:|---:|---:|")
    for label, file, base in pairs(options.files, options.models):
        tensors = to_encode(file, base)
        if options.hindsight:
            print_hindsight(label, tensors)
        elif options.strategies:
            print_strategies(label, tensors if base else [])
        elif not options.cores:
            compare(label, sum(len(data) for _, data in file.values()), tensors, options.rounds)
        elif base is not None:
            print(f"\n| {label}: two threads / one | encode | decode |\n|---|---:|---:|")
            print_cores(tensors)


def pairs(
    files: list[str], models: Path
) -> Iterator[tuple[str, dict[str, tuple[str, bytes]], dict[str, tuple[str, bytes]] | None]]:
    """The label, the tensors and the base of each pair; those of the fine-tuned model where none is named."""
    for file, base in zip(files[::2], files[1::2], strict=True):
        faced = None if base == "-" else read_tensors(Path(base))
        label = Path(file).stem + ("" if faced is None else f" against {Path(base).stem}")
        yield label, read_tensors(Path(file)), faced
    if not files:
        first, *tuned = (read_tensors(path) for path in versions(models, (25, 200)))
        for dtype in ("F32", "BF16", "F16"):
            model = first if dtype == "F32" else cast(first, dtype)
            yield f"{dtype}, the model alone", model, None
            for steps, version in zip((25, 200), tuned, strict=True):
                file_of = version if dtype == "F32" else cast(version, dtype)
                yield f"{dtype}, after {steps} steps", file_of, model


if __name__ == "__main__":
    main()
