"""A session on a real training: 50 checkpoints of a fine-tuning, from the log to the registry.

    python tests/bench/session.py [--checkpoints 50] [--models DIR]

all-MiniLM-L6-v2 is fine-tuned; after every second optimizer step the model (90.9 MB, fp32) is committed with
its loss. Then the questions are asked that one asks, each timed: which was best, what did it change, who
changed this tensor, which commit is that file, what takes the space.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from finetune import versions
from lifecycle import MODEL, Bench, set_up


def ask(bench: Bench, folder: Path, *words: str) -> str:
    """Run a command, print how long it took and the end of what it said; gives the whole of that."""
    start = time.perf_counter()
    done = subprocess.run(["git", "coral", *words], cwd=folder, env=bench.env, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(f"git coral {' '.join(words)} failed:\n{done.stderr}")
    lines = done.stdout.rstrip().splitlines()
    shown = " ".join(Path(word).name if word.startswith("/") else word[:24] for word in words)
    last = lines[-1].strip()[:100] if lines else ""
    print(f"| `git coral {shown}` | {seconds:.2f} s | {len(lines)} | {last} |", flush=True)
    return done.stdout


def main() -> None:
    """Make the repository and ask."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoints", type=int, default=50)
    parser.add_argument("--models", type=Path, help="where fine-tuned versions are kept between runs")
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp())
    bench = Bench(root)
    try:
        steps = tuple(range(2, 2 * options.checkpoints + 1, 2))
        base, *tuned = versions(options.models or root / "models", steps)
        folder = root / "repository"
        set_up(bench, "coral", folder)
        shutil.copyfile(base, folder / MODEL)
        bench.run(folder, "git", "add", MODEL)
        bench.run(folder, "git", "commit", "-m", "base")
        start = time.perf_counter()
        for path in tuned:
            shutil.copyfile(path, folder / MODEL)
            metrics = str(path.with_suffix(".json"))
            bench.run(folder, "git", "coral", "commit", "-a", "-m", path.stem, "--metrics-file", metrics)
        print(f"{len(tuned)} commits, {(time.perf_counter() - start) / len(tuned):.2f} s each\n")
        print("| command | time | lines | last line |\n|---|---:|---:|---|")
        ask(bench, folder, "log", "--oneline")
        best = json.loads(ask(bench, folder, "log", "--sort-by", "loss", "-n", "1", "--json"))[0]["commit"]
        ask(bench, folder, "diff", "HEAD~1", "HEAD")
        ask(bench, folder, "diff", f"HEAD~{len(tuned)}", best, "--stat")
        ask(bench, folder, "diff", f"HEAD~{len(tuned)}", best, "--sort", "change")
        ask(bench, folder, "diff", f"HEAD~{len(tuned)}", best, "--html", str(root / "page.html"))
        ask(bench, folder, "blame", MODEL)
        ask(bench, folder, "metrics", "plot", "loss")
        ask(
            bench,
            folder,
            "registry",
            "promote",
            "minilm",
            best,
            "--stage",
            "production",
            "--alias",
            "champion",
        )
        ask(bench, folder, "registry", "deploy", "minilm@champion", "--where", "eu-west/api")
        ask(bench, folder, "registry", "show", "minilm@champion")
        ask(bench, folder, "verify", str(tuned[len(tuned) // 2]))
        ask(bench, folder, "du")
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
