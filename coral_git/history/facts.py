"""What commits, tags and notes say about weights, in trailers: metrics, labels, where it was trained.

A trailer is a line ``Key: value`` at the end of a message, as ``git interpret-trailers`` knows it. Git finds
them (``%(trailers)``); here they only get a meaning. Notes at ``refs/notes/coral`` have such lines only; they
were written later, so what they say wins.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from coral_git.errors import UsageError
from coral_git.manifest.escape import printable

METRIC = "Coral-Metric"
LABEL = "Coral-Tag"
ENVIRONMENT = "Coral-Environment"

NOTES_REF = "refs/notes/coral"
"""Where what is said later about a commit is kept."""

TRAILERS = ("-c", "trailer.separators=:")
"""Options of git that let trailers look as they do here, whatever the user's settings say."""

METRIC_NAME = r"[A-Za-z_][A-Za-z0-9_./@:+-]*"
_METRIC_NAME = re.compile(METRIC_NAME)
_LABEL = re.compile(r"\S(?:[^\x00-\x1f\x7f]*\S)?")
_TRAILER = re.compile(r"(Coral-[A-Za-z0-9-]+): *(.*)", re.IGNORECASE)


class Facts(NamedTuple):
    """What is said about a commit.

    Attributes:
        metrics: values by name, in the order they were said in; of several values the last.
        labels: words such as ``experiment``.
        environment: e.g. ``{"torch": "2.13.0"}``.
        others: further trailers of coral-git: key and value.
    """

    metrics: Mapping[str, float] = {}
    labels: tuple[str, ...] = ()
    environment: Mapping[str, str] = {}
    others: tuple[tuple[str, str], ...] = ()


def read_facts(*texts: str) -> Facts:
    """What trailers say; of several texts the later ones win. Lines that cannot be understood are skipped."""
    metrics: dict[str, float] = {}
    labels: dict[str, None] = {}
    environment: dict[str, str] = {}
    others = []
    for line in (line for text in texts for line in text.split("\n")):
        match = _TRAILER.fullmatch(line.strip())
        if match is None:
            continue
        key, value = match[1].title(), match[2].strip()
        if key == METRIC:
            name, _, number = value.partition("=")
            found = _number(number)
            if found is not None and _METRIC_NAME.fullmatch(name.strip()):
                metrics[name.strip()] = found
        elif key == LABEL:
            labels[value] = None
        elif key == ENVIRONMENT:
            name, _, text = value.partition("=")
            environment[name.strip()] = text.strip()
        else:
            others.append((key, value))
    return Facts(metrics, tuple(labels), environment, tuple(others))


def trailer_lines(
    metrics: Mapping[str, float], labels: Iterable[str] = (), environment: Mapping[str, str] | None = None
) -> list[str]:
    """The lines that say this."""
    lines = [f"{METRIC}: {name}={show_number(value)}" for name, value in metrics.items()]
    lines += [f"{LABEL}: {label}" for label in labels]
    return lines + [f"{ENVIRONMENT}: {name}={printable(text)}" for name, text in (environment or {}).items()]


def parse_metrics(words: Iterable[str]) -> dict[str, float]:
    """Metrics as a user writes them: ``name=value``.

    Raises:
        UsageError: a word is no metric.
    """
    found = {}
    for word in words:
        name, equals, text = word.partition("=")
        value = _number(text)
        if not equals or value is None:
            raise UsageError(f"'{printable(word)}' is no metric", hint="write it as accuracy=0.912")
        found[metric_name(name.strip())] = value
    return found


def metric_name(name: str) -> str:
    """The name itself.

    Raises:
        UsageError: no metric can have it.
    """
    if not _METRIC_NAME.fullmatch(name):
        raise UsageError(
            f"'{printable(name)}' is no name of a metric",
            hint="a letter or '_', then letters, digits and _ . / @ : + -",
        )
    return name


def check_label(label: str) -> str:
    """The label itself.

    Raises:
        UsageError: it is empty, or not one line.
    """
    if not _LABEL.fullmatch(label):
        raise UsageError(f"'{printable(label)}' is no label", hint="one line that is not empty")
    return label


def show_number(value: float) -> str:
    """The shortest text that gives the same number back."""
    return repr(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)


def display_number(value: float) -> str:
    """A number as people want to see it: six digits."""
    return show_number(value) if value.is_integer() else f"{value:.6g}"


def as_json_number(value: float) -> float | str:
    """The number; JSON has no infinities and no NaN, which become words."""
    return value if math.isfinite(value) else str(value)


def _number(text: str) -> float | None:
    try:
        return float(text.strip())
    except ValueError:
        return None
