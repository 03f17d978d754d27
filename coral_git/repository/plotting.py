"""Curves of metrics as files, drawn by matplotlib."""

from __future__ import annotations

import html
import io
import os
from collections.abc import Mapping, Sequence

from coral_git.errors import UsageError
from coral_git.repository.writing import write_new

_KINDS = ("png", "svg", "html")


def plot_file(path: str, labels: Sequence[str], series: Mapping[str, Sequence[float | None]]) -> None:
    """Draw each metric over the commits.

    Args:
        path: where to write; the extension says what: ``.png``, ``.svg``, or ``.html`` (a page with the SVG).
        labels: of the commits.
        series: for each metric a value for each commit; None where there is none.

    Raises:
        UsageError: another extension, or matplotlib is not installed.
    """
    kind = os.path.splitext(path)[1].lower().lstrip(".")
    if kind not in _KINDS:
        raise UsageError(f"cannot draw into '{path}'", hint="name it .png, .svg or .html")
    data = _draw("png" if kind == "png" else "svg", labels, series)
    if kind == "html":
        data = _page(", ".join(series), data)
    write_new(path, data)


def _draw(kind: str, labels: Sequence[str], series: Mapping[str, Sequence[float | None]]) -> bytes:
    try:
        from matplotlib import rc_context
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UsageError("matplotlib is not installed", hint="pip install 'coral-git[plot]'") from error
    with rc_context({"svg.hashsalt": "coral", "text.usetex": False, "text.parse_math": False}):
        figure = Figure(figsize=(9, 2.2 * len(series) + 0.6), layout="constrained")
        FigureCanvasAgg(figure)
        for number, (name, values) in enumerate(series.items(), 1):
            axes = figure.add_subplot(len(series), 1, number)
            axes.plot(
                range(len(values)), [float("nan") if one is None else one for one in values], marker="."
            )
            axes.set_ylabel(name)
            axes.grid(alpha=0.3)
            step = max(1, len(labels) // 12)
            axes.set_xticks(range(0, len(labels), step), labels[::step], rotation=30, fontsize=7)
        out = io.BytesIO()
        figure.savefig(out, format=kind, metadata={"Date": None} if kind == "svg" else None)
    return out.getvalue()


def _page(title: str, svg: bytes) -> bytes:
    drawing = svg[svg.index(b"<svg") :]
    head = f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title><body>"
    return head.encode() + drawing + b"</body></html>\n"
