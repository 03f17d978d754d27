"""Merging two real fine-tunes of one model: ``git merge`` beside mergekit, on the same files in one run.

    python tests/bench/merge.py [--rounds 3] [--large] [--mergekit PROGRAM] [--models DIR]

``git merge`` with the strategies ``average`` and ``weighted`` is timed whole: git, the driver, the store, and
the merged file written to the work tree. mergekit (``pip install mergekit``, in an environment of its own;
name its ``mergekit-pytorch``) does the same linear merge of the same two files. Its start, most of which are
imports, is timed too, so that both views are there. The values of the results are compared. ``--large``
merges two models of 1 GB in which every tensor, and then every twentieth, was changed on both sides.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

sys.path.insert(0, str(Path(__file__).parent))
from finetune import versions
from lifecycle import MODEL, Bench, set_up

RECIPE = """models:
- model: {ours}
  parameters: {{weight: {alpha}}}
- model: {theirs}
  parameters: {{weight: {other}}}
merge_method: linear
dtype: float32
"""


def prepare(bench: Bench, folder: Path, base: Path, ours: Path, theirs: Path) -> Path:
    """A repository with two branches that changed the same file."""
    repository = folder / "repository"
    set_up(bench, "coral", repository)
    for branch, start, model in (("main", "main", base), ("other", "main", theirs), ("ours", "main", ours)):
        if branch != "main":
            bench.run(repository, "git", "checkout", "-q", "-b", branch, start)
        shutil.copyfile(model, repository / MODEL)
        bench.run(repository, "git", "add", MODEL)
        bench.run(repository, "git", "commit", "-m", branch)
    return repository


def by_git(bench: Bench, repository: Path, step: str, strategy: str) -> None:
    """Merge, and go back to before it, without what it stored."""
    bench.run(repository, "git", "checkout", "-q", "-B", "merged", "ours")
    setting = f"coral.merge.strategy={strategy}"
    bench.measure(step, "coral", repository, "git", "-c", setting, "merge", "--no-edit", "other")


def by_mergekit(bench: Bench, folder: Path, step: str, program: str, recipe: str) -> Path:
    """The same by mergekit, and its start alone."""
    place = folder / "recipe.yml"
    place.write_text(recipe)
    out = folder / "mergekit"
    shutil.rmtree(out, ignore_errors=True)
    bench.measure("start of mergekit", "mergekit", folder, program, "--help")
    bench.measure(step, "mergekit", folder, program, str(place), str(out))
    return out / MODEL


def compare(result: Path, expected: Path, ours: Path) -> str:
    """How far two merged files differ, in units of the last place of the values that were merged."""
    one, other, parent = load_file(result), load_file(expected), load_file(ours)
    worst = 0.0
    for name in one:
        if one[name].dtype == np.float32:
            steps = np.spacing(np.maximum(np.abs(parent[name]), np.abs(one[name])))
            worst = max(worst, float(np.max(np.abs(one[name] - other[name]) / steps, initial=0)))
    return f"{len(one)} tensors, largest difference {worst:.1f} units of the last place of ours"


def one_merge(
    bench: Bench, root: Path, name: str, models: tuple[Path, Path, Path], options: argparse.Namespace
) -> None:
    """Both programs in turn, on one pair of models."""
    for number in range(options.rounds):
        folder = root / f"{name}-{number}"
        folder.mkdir()
        repository = prepare(bench, folder, *models)
        for strategy, alpha in (("average", 0.5), ("weighted:alpha=0.3", 0.3)):
            step = f"{name}: {strategy}"
            by_git(bench, repository, step, strategy)
            if options.mergekit:
                values = {"ours": models[1], "theirs": models[2], "alpha": alpha, "other": 1 - alpha}
                made = by_mergekit(bench, folder, step, options.mergekit, RECIPE.format(**values))
                print(f"{step}: {compare(repository / MODEL, made, models[1])}", flush=True)
        shutil.rmtree(folder)


def make_large(folder: Path, share: int) -> tuple[Path, Path, Path]:
    """A model of 1 GB in 80 tensors, and two versions in which every ``share``-th tensor differs."""
    random = np.random.default_rng(0)
    base = {f"layer.{n:02}": random.standard_normal((1024, 3052), np.float32) * 0.02 for n in range(80)}
    paths = tuple(folder / f"{name}-{share}.safetensors" for name in ("base", "ours", "theirs"))
    save_file(base, paths[0])
    for path in paths[1:]:
        steps = {
            name: values + random.standard_normal(values.shape, np.float32) * 1e-4
            for number, (name, values) in enumerate(base.items())
            if number % share == 0
        }
        save_file({**base, **steps}, path)
    return paths


def report(bench: Bench) -> None:
    """Print the tables."""
    starts = bench.times.get("start of mergekit", {}).get("mergekit", [])
    start = statistics.median(starts) if starts else 0.0
    print(
        "\n| wall time, median | git merge | mergekit | of that start | git / mergekit | without its start |"
    )
    print("|---|---:|---:|---:|---:|---:|")
    for step, row in bench.times.items():
        if "coral" not in row:
            continue
        coral = statistics.median(row["coral"])
        if "mergekit" not in row:
            print(f"| {step} | {coral:.2f} s | | | | |")
            continue
        other = statistics.median(row["mergekit"])
        alone = coral / max(other - start, 1e-9)
        print(
            f"| {step} | {coral:.2f} s | {other:.2f} s | {start:.2f} s | {coral / other:.2f} | {alone:.2f} |"
        )
    print("\n| peak memory of one process | MB |\n|---|---:|")
    for what, kib in sorted(bench.peak.items()):
        if kib > 50_000:
            print(f"| {what} | {kib / 1024:.0f} |")


def main() -> None:
    """Run the merges and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--large", action="store_true", help="also two models of 1 GB")
    parser.add_argument(
        "--mergekit", default=shutil.which("mergekit-pytorch"), help="the program to compare with"
    )
    parser.add_argument("--models", type=Path, help="where fine-tuned versions are kept between runs")
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp())
    bench = Bench(root)
    try:
        kept = options.models or root / "models"
        base, ours = versions(kept / "seed-0", (50,))
        _, theirs = versions(kept / "seed-1", (50,), seed=1)
        one_merge(bench, root, "90.9 MB", (base, ours, theirs), options)
        if options.large:
            for share in (1, 20):
                models = make_large(root, share)
                name = "1 GB, all tensors" if share == 1 else "1 GB, 4 of 80 tensors"
                one_merge(bench, root, name, models, options)
                for path in models:
                    path.unlink()
        report(bench)
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
