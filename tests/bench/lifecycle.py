"""The life of a real model in git, with coral-git and with git-lfs side by side in one run.

    python tests/bench/lifecycle.py [--rounds 3] [--large] [--keep DIR]

A 90.9 MB model and eight fine-tuned versions of it are added, committed, pushed to a bare repository,
cloned, and checked out one by one; the SHA-256 of every file is compared. Each step is done by both tools
in turn, several times; the table shows medians, and the ratio of the two.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from finetune import versions

STEPS = (25, 50, 75, 100, 125, 150, 175, 200)
MODEL = "model.safetensors"
Times = dict[str, dict[str, list[float]]]


def environment(home: Path) -> dict[str, str]:
    """An environment without the user's configuration."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("GIT_") and key != "CI"}
    (home / ".gitconfig").write_text(
        "[user]\nname=bench\nemail=bench@example.org\n[init]\ndefaultBranch=main\n"
    )
    bin_folder = Path(sys.executable).parent
    return {
        **kept,
        "HOME": str(home),
        "GIT_CONFIG_NOSYSTEM": "1",
        "PATH": f"{bin_folder}{os.pathsep}{kept['PATH']}",
    }


class Bench:
    """Runs commands, measures them, and watches the memory of git and of its filter."""

    def __init__(self, root: Path) -> None:
        self.root = root
        home = root / "home"
        home.mkdir()
        self.env = environment(home)
        self.times: Times = defaultdict(lambda: defaultdict(list))
        self.peak: dict[str, int] = defaultdict(int)

    def run(self, folder: Path, *command: str) -> None:
        """Run a command that is not measured."""
        subprocess.run(command, cwd=folder, env=self.env, check=True, capture_output=True)

    def measure(self, step: str, tool: str, folder: Path, *command: str) -> None:
        """Run a command and note its wall time and the peak memory (KiB) of every process in it."""
        start = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=folder, env=self.env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        watcher = threading.Thread(target=self._watch, args=(step, tool, process))
        watcher.start()
        _, errors = process.communicate()
        self.times[step][tool].append(time.perf_counter() - start)
        watcher.join()
        if process.returncode:
            raise SystemExit(f"{' '.join(command)} failed:\n{errors.decode()}")

    def _watch(self, step: str, tool: str, process: subprocess.Popen[bytes]) -> None:
        while process.poll() is None:
            for pid, name in family(process.pid):
                self.peak[f"{tool} {step}: {name}"] = max(
                    self.peak[f"{tool} {step}: {name}"], high_water(pid)
                )
            time.sleep(0.01)


def family(root: int) -> list[tuple[int, str]]:
    """A process and its descendants, with their names."""
    found, queue = [], [root]
    while queue:
        pid = queue.pop()
        try:
            found.append((pid, Path(f"/proc/{pid}/comm").read_text().strip()))
            for task in Path(f"/proc/{pid}/task").iterdir():
                queue += [int(child) for child in (task / "children").read_text().split()]
        except (OSError, ValueError):
            continue
    return found


def high_water(pid: int) -> int:
    """Peak resident memory of a process in KiB."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1])
    except OSError:
        pass
    return 0


def sha256(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def set_up(bench: Bench, tool: str, folder: Path) -> None:
    """A repository with the tool set up and the model's pattern tracked."""
    folder.mkdir()
    if tool == "coral":
        bench.run(folder, "git", "coral", "init")
        bench.run(folder, "git", "coral", "track", "*.safetensors")
    else:
        bench.run(folder, "git", "init")
        bench.run(folder, "git", "lfs", "install", "--local")
        bench.run(folder, "git", "lfs", "track", "*.safetensors")
    bench.run(folder, "git", "add", ".gitattributes")
    bench.run(folder, "git", "commit", "-m", "attributes")


def store_bytes(tool: str, repository: Path) -> int:
    """Bytes of the weights in the tool's store."""
    place = {"coral": "coral/objects", "git-lfs": "lfs/objects"}[tool]
    git_dir = repository / ".git" if (repository / ".git").exists() else repository
    return sum(file.stat().st_size for file in (git_dir / place).rglob("*") if file.is_file())


def bare_bytes(folder: Path) -> int:
    """Bytes of a bare repository."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def one_round(
    bench: Bench, folder: Path, tools: list[str], models: list[Path], sizes: dict[str, dict[str, int]]
) -> None:
    """Add, commit, push, clone and check out every version with every tool, in turn."""
    for tool in tools:
        set_up(bench, tool, folder / tool)
    before = {tool: store_bytes(tool, folder / tool) for tool in tools}
    for number, model in enumerate(models):
        for tool in tools:
            repository = folder / tool
            shutil.copyfile(model, repository / MODEL)
            step = "add, first version" if number == 0 else "add, fine-tuned"
            bench.measure(step, tool, repository, "git", "add", MODEL)
            bench.run(repository, "git", "commit", "-m", model.stem)
            after = store_bytes(tool, repository)
            sizes[f"{number}: {model.stem}"][tool] = after - before[tool]
            before[tool] = after
    for tool in tools:
        repository = folder / tool
        shutil.copyfile(models[-1], repository / "again.safetensors")
        bench.measure("add, same bytes again", tool, repository, "git", "add", "again.safetensors")
        sizes["the same file under another name"][tool] = store_bytes(tool, repository) - before[tool]
        bench.run(repository, "git", "commit", "-m", "again")
    transfer(bench, folder, tools, sizes)
    checkouts(bench, folder, tools, models)


def transfer(bench: Bench, folder: Path, tools: list[str], sizes: dict[str, dict[str, int]]) -> None:
    """Push to a bare repository over a path and clone from it."""
    for tool in tools:
        bare = folder / f"{tool}.git"
        bench.run(folder, "git", "init", "--bare", str(bare))
        bench.run(folder / tool, "git", "remote", "add", "origin", f"file://{bare}")
        bench.measure("push", tool, folder / tool, "git", "push", "-u", "origin", "main")
        sizes["bare repository after the push"][tool] = bare_bytes(bare)
        clone = folder / f"{tool}-clone"
        install = ("coral", "install") if tool == "coral" else ("lfs", "install")
        bench.run(folder, "git", *install)
        bench.measure("clone", tool, folder, "git", "clone", f"file://{bare}", str(clone))
        if sha256(clone / MODEL) != sha256(folder / tool / MODEL):
            raise SystemExit(f"{tool}: the clone differs")
        bench.run(folder, "git", install[0], "uninstall")


def checkouts(bench: Bench, folder: Path, tools: list[str], models: list[Path]) -> None:
    """Check out every version by name and compare its bytes; then status."""
    for number in range(len(models) - 1, -1, -1):
        for tool in tools:
            repository = folder / tool
            step = {0: "checkout, first version", 8: "checkout, ninth version"}.get(
                number, "checkout, versions between"
            )
            bench.measure("cp", tool, folder, "cp", str(repository / MODEL), str(repository / "copy"))
            (repository / "copy").unlink()
            (repository / MODEL).unlink()
            bench.measure(
                step, tool, repository, "git", "checkout", f"main~{len(models) - number}", "--", MODEL
            )
            if sha256(repository / MODEL) != sha256(models[number]):
                raise SystemExit(f"{tool}: version {number} differs")
    for tool in tools:
        bench.measure("status", tool, folder / tool, "git", "status")


def direct(bench: Bench, folder: Path, models: list[Path], sizes: dict[str, dict[str, int]]) -> None:
    """The version after 200 steps straight against the base model."""
    repository = folder / "direct"
    set_up(bench, "coral", repository)
    for model in (models[0], models[-1]):
        shutil.copyfile(model, repository / MODEL)
        before = store_bytes("coral", repository)
        bench.run(repository, "git", "add", MODEL)
        bench.run(repository, "git", "commit", "-m", model.stem)
    sizes["200 steps, straight against the base"]["coral"] = store_bytes("coral", repository) - before


def large(bench: Bench, folder: Path, tools: list[str], rounds: int) -> None:
    """A file of 1 GB: time and memory of add and checkout, beside a plain copy of the file."""
    import numpy as np
    from safetensors.numpy import save_file

    generator = np.random.default_rng(0)
    tensors = {
        f"layer.{index}": generator.standard_normal((8192, 3906), np.float32) * 0.02 for index in range(8)
    }
    source = folder / "large.safetensors"
    save_file(tensors, source)
    for number in range(rounds):
        for tool in tools:
            repository = folder / f"large-{number}-{tool}"
            set_up(bench, tool, repository)
            bench.measure("cp 1 GB", tool, folder, "cp", str(source), str(repository / MODEL))
            bench.measure("add 1 GB", tool, repository, "git", "add", MODEL)
            bench.run(repository, "git", "commit", "-m", "large")
            (repository / MODEL).unlink()
            bench.measure("checkout 1 GB", tool, repository, "git", "checkout", "--", MODEL)
            if sha256(repository / MODEL) != sha256(source):
                raise SystemExit(f"{tool}: the large file differs")
            shutil.rmtree(repository)


def report(bench: Bench, sizes: dict[str, dict[str, int]], raw: int) -> None:
    """Print the tables."""
    print(f"\n| stored bytes, {raw / 1e6:.1f} MB raw each | coral | of raw | git-lfs |\n|---|---:|---:|---:|")
    for what, row in sizes.items():
        lfs = f"{row['git-lfs'] / 1e6:.1f} MB" if "git-lfs" in row else ""
        print(f"| {what} | {row['coral'] / 1e6:.3f} MB | {row['coral'] / raw:.1%} | {lfs} |")
    print("\n| wall time, median | coral | git-lfs | coral / git-lfs |\n|---|---:|---:|---:|")
    for step, row in bench.times.items():
        coral = statistics.median(row["coral"])
        if "git-lfs" in row:
            lfs = statistics.median(row["git-lfs"])
            ratio = statistics.median(a / b for a, b in zip(row["coral"], row["git-lfs"], strict=True))
            print(f"| {step} | {coral:.3f} s | {lfs:.3f} s | {ratio:.2f} |")
        else:
            print(f"| {step} | {coral:.3f} s | | |")
    print("\n| peak memory of one process | MB |\n|---|---:|")
    for what, kib in sorted(bench.peak.items()):
        if kib and any(name in what for name in ("add", "checkout")):
            print(f"| {what} | {kib / 1024:.0f} |")


def main() -> None:
    """Run the benchmark and print its tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3, help="how often the whole life is repeated")
    parser.add_argument("--large", action="store_true", help="also a file of 1 GB")
    parser.add_argument("--models", type=Path, help="where fine-tuned versions are kept between runs")
    parser.add_argument("--keep", type=Path, help="work here and keep the repositories")
    options = parser.parse_args()
    tools = ["coral", *(["git-lfs"] if shutil.which("git-lfs") else [])]
    root = Path(tempfile.mkdtemp(dir=options.keep)) if options.keep else Path(tempfile.mkdtemp())
    models = versions(options.models or root / "models", STEPS)
    sizes: dict[str, dict[str, int]] = defaultdict(dict)
    bench = Bench(root)
    try:
        for number in range(options.rounds):
            folder = root / f"round-{number}"
            folder.mkdir()
            one_round(bench, folder, tools, models, sizes)
            if number + 1 < options.rounds and not options.keep:
                shutil.rmtree(folder)
        direct(bench, root, models, sizes)
        if options.large:
            large(bench, root, tools, options.rounds)
        report(bench, sizes, models[0].stat().st_size)
    finally:
        if not options.keep:
            shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
