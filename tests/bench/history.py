"""Seeing: ``git coral log`` over 2,000 commits, ``git coral diff`` of two versions of a model of 1 GB.

    python tests/bench/history.py [--commits 2000] [--rounds 3] [--large]

The history is that of a model with 300 tensors, 30 of which change with each commit; metrics are in trailers.
The time to the first line and to the last one is measured beside ``git log --raw``, which only lists blobs.
With ``--large``, two versions of a model of 1 GB are compared, of whose tensors a tenth changed; beside it, a
program that loads both files with numpy and computes the norm of every difference. What a process read is
counted by the system, which does not count what is mapped into memory, as numpy's files are here.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from safetensors.numpy import save, save_file

sys.path.insert(0, str(Path(__file__).parent))
from lifecycle import MODEL, Bench, set_up

from coral_git.config import Settings
from coral_git.pipeline.clean import clean_content
from coral_git.pipeline.workspace import Workspace

NAIVE = """
import sys, numpy as np
from safetensors.numpy import load_file
old, new = map(load_file, sys.argv[1:])
for name in old:
    delta = new[name] - old[name]
    print(name, np.linalg.norm(delta) / np.linalg.norm(old[name]), np.abs(delta).max())
"""


def make_history(bench: Bench, folder: Path, commits: int) -> None:
    """Commits whose manifests the program's own clean makes; git takes them in one stream."""
    set_up(bench, "coral", folder)
    os.environ.update(bench.env)
    random = np.random.default_rng(0)
    tensors = {
        f"layer.{n // 10:02}.weight_{n % 10}": random.standard_normal((8, 8), np.float32) for n in range(300)
    }
    names = list(tensors)
    workspace = Workspace.open(str(folder))
    workspace.settings = Settings(fsync=False)
    stream = []
    for number in range(commits):
        for name in random.choice(names, 30, replace=False):
            tensors[name] = random.standard_normal((8, 8), np.float32)
        text = clean_content(workspace, MODEL.encode(), [save(tensors)])
        said = f"Coral-Metric: loss={1 / (number + 1):.5f}\nCoral-Metric: accuracy={number / commits}"
        message = f"step {number}\n\n{said}\n"
        stream.append(
            f"commit refs/heads/main\ncommitter B <b@example.org> {10**9 + number} +0000\n".encode()
        )
        stream.append(b"data %d\n%s" % (len(message), message.encode()))
        stream.append(b"M 100644 inline %s\ndata %d\n%s\n" % (MODEL.encode(), len(text), text))
    workspace.close()
    subprocess.run(
        ["git", "fast-import", "--quiet", "--force"],
        cwd=folder,
        env=bench.env,
        input=b"".join(stream),
        check=True,
    )


def timed(bench: Bench, folder: Path, *command: str) -> tuple[float, float, float]:
    """Seconds to the first line and to the end, and the MB that the process read."""
    start = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=folder, env=bench.env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    process.stdout.readline()
    first = time.perf_counter() - start
    read = 0
    while process.stdout.read(1 << 16):
        read = max(read, read_by(process.pid))
    read = max(read, read_by(process.pid))
    if process.wait():
        raise SystemExit(f"{' '.join(command)} failed")
    return first, time.perf_counter() - start, read / 1e6


def read_by(pid: int) -> int:
    """Bytes that a process has read."""
    try:
        lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    except OSError:
        return 0
    return int(lines[0].split()[1])


def row(bench: Bench, folder: Path, rounds: int, title: str, *command: str) -> float:
    """Measure a command and print a line of the table."""
    found = [timed(bench, folder, *command) for _ in range(rounds)]
    first, whole = (statistics.median(one[place] for one in found) for place in (0, 1))
    print(f"| {title} | {first:.2f} s | {whole:.2f} s | {max(one[2] for one in found):.0f} MB |", flush=True)
    return whole


def history(bench: Bench, root: Path, options: argparse.Namespace) -> None:
    """The table about the log."""
    folder = root / "history"
    make_history(bench, folder, options.commits)
    print(f"| {options.commits} commits, 300 tensors | first line | all | read |\n|---|---:|---:|---:|")
    row(bench, folder, options.rounds, "`git log --raw`", "git", "log", "--raw")
    for words in (["log"], ["log", "--oneline"], ["log", "--filter", "accuracy>0.9"]):
        row(bench, folder, options.rounds, f"`git coral {' '.join(words)}`", "git", "coral", *words)
    row(bench, folder, options.rounds, "`git coral blame`", "git", "coral", "blame", MODEL)


def large(bench: Bench, root: Path, options: argparse.Namespace) -> None:
    """The table about a comparison."""
    folder = root / "large"
    set_up(bench, "coral", folder)
    random = np.random.default_rng(0)
    tensors = {f"layer.{n:02}": random.standard_normal((1024, 3052), np.float32) * 0.02 for n in range(80)}
    files = []
    for number in range(2):
        if number:
            for name in list(tensors)[::10]:
                tensors[name] = tensors[name] + random.standard_normal((1024, 3052), np.float32) * 1e-4
        files.append(root / f"{number}.safetensors")
        save_file(tensors, files[-1])
        shutil.copyfile(files[-1], folder / MODEL)
        bench.run(folder, "git", "add", MODEL)
        bench.run(folder, "git", "commit", "-m", str(number))
    print("\n| 1 GB, 8 of 80 tensors changed | first line | all | read |\n|---|---:|---:|---:|")
    whole = row(
        bench, folder, options.rounds, "`git coral diff HEAD^ HEAD`", "git", "coral", "diff", "HEAD^", "HEAD"
    )
    row(
        bench,
        folder,
        options.rounds,
        "`git coral diff --stat`",
        "git",
        "coral",
        "diff",
        "HEAD^",
        "HEAD",
        "--stat",
    )
    naive = row(
        bench, folder, options.rounds, "numpy, both files", sys.executable, "-c", NAIVE, *map(str, files)
    )
    print(f"\ndiff / numpy: {whole / naive:.2f}")


def main() -> None:
    """Make the repositories and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--commits", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--large", action="store_true", help="also a model of 1 GB")
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp())
    bench = Bench(root)
    try:
        history(bench, root, options)
        if options.large:
            large(bench, root, options)
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
