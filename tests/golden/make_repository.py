#!/usr/bin/env python3
"""Make the packs and manifests that every later version must be able to restore.

    python tests/golden/make_repository.py tests/golden/repositories/v1

Run once for each version of the formats, with the installed git-coral; the result is committed and never made
again. The folder gets ``packs/``, ``manifests/`` and ``expected.sha256`` (as ``sha256sum`` prints it).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

WIDTHS = {
    "BOOL": 1, "U8": 1, "I8": 1, "U16": 2, "I16": 2, "U32": 4, "I32": 4, "U64": 8, "I64": 8, "F8_E4M3": 1,
    "F8_E5M2": 1, "F8_E8M0": 1, "F8_E4M3FNUZ": 1, "F8_E5M2FNUZ": 1, "F16": 2, "BF16": 2, "F32": 4, "F64": 8,
    "C64": 8,
}  # fmt: skip
Tensor = tuple[str, list[int], bytes]


def noise(seed: str, length: int) -> bytes:
    """Bytes without any pattern, the same on every machine."""
    return hashlib.shake_128(seed.encode()).digest(length)


def changed(data: bytes, width: int, version: int) -> bytes:
    """The same units, some of them a little larger in every version."""
    result = bytearray(data)
    for index in range(0, len(data) - width + 1, width):
        result[index] = (result[index] + version * (index % 3)) % 256
    return bytes(result)


def safetensors(tensors: dict[str, Tensor], step: int, hole: bytes = b"") -> bytes:
    """A safetensors file with bytes that belong to no tensor before each tensor and at the end."""
    header: dict[str, object] = {"__metadata__": {"step": str(step)}}
    body = b""
    for name, (dtype, shape, data) in tensors.items():
        body += hole
        offsets = [len(body), len(body) + len(data)]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
        body += data
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body + hole


def all_dtypes(version: int) -> bytes:
    """Every dtype, with odd lengths, a scalar, no elements at all, and names that must be escaped."""
    tensors: dict[str, Tensor] = {
        f"layer.{dtype}": (dtype, [3, 89], changed(noise(dtype, 267 * width), width, version))
        for dtype, width in WIDTHS.items()
    }
    tensors["four bits"] = ("F4", [2, 301], changed(noise("F4", 301), 1, version))
    tensors["six\nbits"] = ("F6_E2M3", [4, 101], changed(noise("F6", 303), 1, version))
    tensors["käse"] = ("F6_E3M2", [4, 11], changed(noise("F6_E3M2", 33), 1, version))
    tensors[""] = ("F32", [], changed(noise("scalar", 4), 4, version))
    tensors["none"] = ("BF16", [0, 7], b"")
    return safetensors(tensors, version)


def holes(version: int) -> bytes:
    """Bytes before, between and after the tensors."""
    tensors: dict[str, Tensor] = {
        "a": ("I16", [5], changed(noise("a", 10), 2, version)),
        "b": ("I16", [0], b""),
        "c": ("U8", [7], noise("c", 7)),
    }
    return safetensors(tensors, version, hole=b"hole!")


def long_tensors() -> bytes:
    """A tensor of several blocks, and one of two parts."""
    period = noise("period", 4096)
    blocks = (period * 520)[: 4 * (2**19 + 7)]
    parts = bytes(2**24) + b"\1\0\1"
    return safetensors({"blocks": ("F32", [2**19 + 7], blocks), "parts": ("BOOL", [2**24 + 3], parts)}, 1)


def opaque(version: int) -> bytes:
    """A file of no format that is long enough for a table of its chunks."""
    data = bytearray(17 << 20)
    for index in range(18):
        data[index * 1_000_003 : index * 1_000_003 + 8] = noise(f"opaque {index}", 8)
    data[5_000_000 : 5_000_000 + version] = b"v" * version
    return bytes(data) + b"the end"


def text(version: int) -> bytes:
    """A short file of no format, which grows."""
    return b"".join(
        b"line %d of a log: %s\n" % (n, noise(str(n), 4).hex().encode()) for n in range(60 * version)
    )


def commits() -> Iterator[dict[str, bytes]]:
    """The files of each commit."""
    for version in range(1, 4):
        yield {"dtypes.safetensors": all_dtypes(version), "log.bin": text(version)}
    yield {"holes.safetensors": holes(1), "opaque.bin": opaque(1), "empty.bin": b"", "one.bin": b"1"}
    yield {"holes.safetensors": holes(2), "opaque.bin": opaque(2), "long.safetensors": long_tensors()}


def main(folder: Path) -> None:
    """Make the repository in a temporary folder, and keep what is to be kept."""
    (folder / "manifests").mkdir(parents=True)
    expected = []
    with tempfile.TemporaryDirectory() as temporary:
        os.environ |= {"HOME": temporary, "GIT_CONFIG_NOSYSTEM": "1"}
        root = Path(temporary, "repository")
        git(Path(temporary), "coral", "init", str(root))
        git(root, "coral", "track", "*.safetensors", "*.bin")
        for number, files in enumerate(commits(), start=1):
            for name, data in files.items():
                (root / name).write_bytes(data)
                git(root, "add", name)
                manifest = f"{number}-{name}"
                (folder / "manifests" / manifest).write_bytes(git(root, "cat-file", "blob", f":{name}"))
                expected.append(f"{hashlib.sha256(data).hexdigest()}  {manifest}\n")
            git(root, "-c", "user.name=T", "-c", "user.email=t@example.org", "commit", "-m", str(number))
        git(root, "coral", "fsck")
        shutil.copytree(root / ".git" / "coral" / "objects" / "packs", folder / "packs")
    (folder / "expected.sha256").write_text("".join(expected))


def git(folder: Path, *arguments: str) -> bytes:
    """What a git command prints."""
    return subprocess.run(["git", *arguments], cwd=folder, check=True, stdout=subprocess.PIPE).stdout


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
