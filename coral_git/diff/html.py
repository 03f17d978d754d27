"""A comparison as one HTML page that needs nothing else: no server, no network, no other file.

The page is ``page/report.html`` with its style, its scripts and the report put in. Nothing of the report
becomes markup: it is JSON in which no character can end its element, and the scripts show it as text.
"""

from __future__ import annotations

import html
import re

from coral_git.manifest.escape import printable

_SCRIPTS = ("text.js", "tensors.js", "histogram.js", "heatmap.js", "table.js", "report.js")
"""One module in the page, in this order."""

_MARKUP = {ord(char): f"\\u{ord(char):04x}" for char in "<>&"}
_PLACEHOLDER = re.compile(r"@(title|style|report|script)@")


def render(report: dict[str, object], title: str) -> str:
    """Make the page.

    Args:
        report: what ``as_json.py`` makes of a comparison; numbers that do not exist are None.
        title: what is compared, e.g. ``main → HEAD``.

    Returns:
        The page; it has no lone surrogates, so it can be encoded as UTF-8.

    Raises:
        ValueError: a number of the report is not finite, which JSON cannot say.
    """
    parts = {
        "title": html.escape(printable(title)),
        "style": _read("report.css"),
        "report": _as_json(report),
        "script": "\n".join(map(_read, _SCRIPTS)),
    }
    return _PLACEHOLDER.sub(lambda found: parts[found[1]], _read("report.html"))


def _as_json(report: dict[str, object]) -> str:
    """JSON in ASCII without ``<``, ``>`` and ``&``, which neither ends an element nor begins another."""
    import json

    return json.dumps(_shown(report), allow_nan=False, separators=(",", ":")).translate(_MARKUP)


def _shown(value: object) -> object:
    """The report as people may see it: its texts cannot turn the text beside them around, or hide in it."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {key: _shown(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_shown(one) for one in value]
    return value


def _read(name: str) -> str:
    from importlib.resources import files

    return files("coral_git.diff").joinpath("page", name).read_text(encoding="utf-8")
