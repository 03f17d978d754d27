"""Comparisons for programs, and for the page that shows them."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

from coral_git.diff.model import Figures, FileDiff, TensorDiff
from coral_git.manifest.entries import Manifest

_NUMBERS = (
    "values", "changed", "norm", "new_norm", "delta_norm", "max_delta", "relative", "cosine", "share",
    "zeros", "old_zeros", "nans", "infinities", "rank",
)  # fmt: skip


def file_json(diff: FileDiff) -> dict[str, object]:
    """One file. Numbers that do not exist are null."""
    return {
        "path": os.fsdecode(diff.path),
        "old_path": os.fsdecode(diff.old_path),
        "status": str(diff.status),
        "verdict": diff.verdict,
        "same": diff.same,
        "size": diff.new and diff.new.size,
        "old_size": diff.old and diff.old.size,
        "new_sha256": _digest(diff.new),
        "old_sha256": _digest(diff.old),
        "raw_bytes": diff.raw_bytes,
        "stored_bytes": diff.stored_bytes,
        "tensors": [tensor_json(tensor) for tensor in diff.tensors],
    }


def report_json(files: Sequence[dict[str, object]], total: dict[str, object]) -> dict[str, object]:
    """All files, as ``file_json`` gives them, with their totals."""
    return {"files": list(files), "total": total}


def finite(value: float | None) -> float | None:
    """The number; null where JSON has none for it."""
    return value if value is not None and math.isfinite(value) else None


def _digest(manifest: Manifest | None) -> str | None:
    """The SHA-256 of a file; a file outside of the store has none that is known."""
    return manifest.sha256.hex() if manifest is not None and any(manifest.sha256) else None


def tensor_json(tensor: TensorDiff) -> dict[str, object]:
    """One tensor. Numbers that do not exist are null."""
    old, new = tensor.old, tensor.new
    shown = new or old
    assert shown is not None
    return {
        "name": shown.name,
        "old_name": old and old.name,
        "status": str(tensor.status),
        "dtype": shown.dtype.name,
        "old_dtype": old and old.dtype.name,
        "shape": list(shown.shape),
        "old_shape": None if old is None else list(old.shape),
        "raw_bytes": tensor.raw_bytes,
        "stored_bytes": tensor.stored_bytes,
        **_figures_json(tensor.figures),
    }


def _figures_json(figures: Figures | None) -> dict[str, object]:
    found = {name: finite(getattr(figures, name)) if figures else None for name in _NUMBERS}
    histogram = figures and figures.histogram
    return {
        **found,
        "histogram": histogram and {"edges": histogram.edges, "counts": histogram.counts},
    }
