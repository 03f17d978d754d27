"""What a command costs that has next to nothing to do: CPU time of it and of its children.

    python tests/bench/start.py --rounds 20

Uses the ``git-coral`` on the search path, and a repository and a home of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import numpy as np

TENSORS, WIDTH = 6, 48
HELLO = r"0016git-filter-client\n000eversion=2\n00000015capability=clean\n0016capability=smudge\n0000"
COMMANDS = (
    "python -c pass",
    "git coral --version",
    "git coral status",
    "git coral add .",
    "git coral checkout",
    "git coral fsck",
    "git coral gc",
    f"printf '{HELLO}' | git-coral filter-process",
)


def write_model(path: Path, seed: int) -> None:
    """A safetensors file of small tensors."""
    random = np.random.default_rng(seed)
    size = 4 * WIDTH * WIDTH
    header = {
        f"layer.{number}": {
            "dtype": "F32",
            "shape": [WIDTH, WIDTH],
            "data_offsets": [number * size, (number + 1) * size],
        }
        for number in range(TENSORS)
    }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    body = random.standard_normal(TENSORS * WIDTH * WIDTH, np.float32).tobytes()
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)


def make_repository(folder: Path) -> Path:
    """Two committed models in a home where coral-git is installed."""
    os.environ |= {"HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "GIT_CONFIG_NOSYSTEM": "1"}
    for role in ("AUTHOR", "COMMITTER"):
        os.environ |= {f"GIT_{role}_NAME": "T", f"GIT_{role}_EMAIL": "t@example.org"}
    run("git coral install && git init --quiet repo", folder)
    repo = folder / "repo"
    run("git coral init && git coral track '*.safetensors'", repo)
    for number in range(2):
        write_model(repo / f"{number}.safetensors", number)
        os.utime(repo / f"{number}.safetensors", (10**9, 10**9))
    run("git add --all && git commit --quiet -m one", repo)
    return repo


def run(command: str, folder: Path) -> float:
    """CPU time of a command in milliseconds; what it prints is thrown away."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, shell=True, cwd=folder, check=True, input=b"", capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1000 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def cases(repo: Path) -> Iterator[tuple[str, Callable[[], float]]]:
    """Each case with what measures it once."""
    for command in COMMANDS:
        yield command.rpartition("| ")[2], lambda command=command: run(command, repo)
    seeds = count(100)

    def touched() -> float:
        (repo / "0.safetensors").touch()
        return run("git add 0.safetensors", repo)

    def another() -> float:
        run("git rm --quiet --cached --ignore-unmatch new.safetensors", repo)
        write_model(repo / "new.safetensors", next(seeds))
        return run("git add new.safetensors", repo)

    yield "git add of a file that was only touched", touched
    yield "git add of a new file", another


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        for name, measure in cases(make_repository(Path(folder))):
            times = [measure() for _ in range(rounds)]
            print(f"{name:45} {statistics.median(times):6.0f} ms, at least {min(times):.0f}", flush=True)


if __name__ == "__main__":
    main()
