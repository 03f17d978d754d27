"""Comparisons of weight files as Markdown, for a comment on a pull request."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from coral_git.cli.diff_text import HEAD, file_name, summary, tensor_row
from coral_git.diff.model import FileDiff, TensorDiff

_MOST_ROWS = 200
_SPECIAL = re.compile(r"([\\`*_{}\[\]()<>#+!|~&@:$-])")


def file_markdown(diff: FileDiff, tensors: Sequence[TensorDiff]) -> Iterator[str]:
    """A file: verdict and totals, and a table that can be opened."""
    yield f"**{escape(file_name(diff))}**: {escape(diff.verdict)}  "
    yield escape(summary(diff))
    yield ""
    if not tensors:
        return
    yield f"<details><summary>{len(tensors)} tensor{'s' if len(tensors) != 1 else ''}</summary>"
    yield ""
    yield f"| {' | '.join(map(escape, HEAD))} |"
    yield f"|{'|'.join([' --- ', ' --- ', *[' ---: '] * (len(HEAD) - 2)])}|"
    for tensor in tensors[:_MOST_ROWS]:
        name, *cells = tensor_row(tensor)
        yield f"| {escape(name)} | {' | '.join(map(escape, cells))} |"
    if len(tensors) > _MOST_ROWS:
        yield ""
        yield f"… and {len(tensors) - _MOST_ROWS} more"
    yield ""
    yield "</details>"
    yield ""


def escape(text: str) -> str:
    """A text that means nothing to Markdown: no markup, no link, nobody is mentioned."""
    return _SPECIAL.sub(lambda match: f"&#{ord(match[1])};", text)
