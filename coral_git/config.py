"""The settings of coral-git: one table of keys, read from git's configuration.

Git's configuration is the configuration (``git config coral.threads 4``). The table below is all there is;
``docs/reference/config.md`` lists it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple

from coral_git.errors import UsageError
from coral_git.types import DeltaType

Lookup = Callable[[str], str | None]
"""Gives the value of a key such as ``"coral.threads"``, or None."""

_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0", ""})


class Key(NamedTuple):
    """One setting: its name in git's configuration, its default and what it does."""

    name: str
    default: str
    meaning: str


KEYS = (
    Key("coral.threads", "0", "threads that encode and decode; 0 means one per core, 16 at most"),
    Key(
        "coral.profile",
        "fast",
        "size against time of what is added: 'fast', 'balanced' (smaller for 16-bit floats) or 'best'",
    ),
    Key(
        "coral.deltaType",
        "auto",
        "how tensors are stored: 'auto', 'float32_raw', 'compressed', 'xor_float32', 'xor_bfloat16', "
        "'exponent_mantissa' or 'sparse'; the attribute coral-delta sets it for a path",
    ),
    Key(
        "coral.similarityThreshold",
        "0.98",
        "cosine from which a stored tensor under another name may serve as a base, 0 to 1",
    ),
    Key("coral.verify", "objects", "'full' also checks the SHA-256 of every file that is checked out"),
    Key(
        "coral.trustStat",
        "true",
        "believe that a file whose size, times and inode did not change is unchanged",
    ),
    Key("coral.deferSmudge", "true", "write large files directly instead of through git's memory"),
    Key(
        "coral.strict", "false", "fail a checkout when an object is missing, instead of leaving the manifest"
    ),
    Key("coral.fsync", "true", "flush packs and indexes to the disk before a manifest is handed out"),
    Key("coral.gcGrace", "14.days", "how long unreachable objects are kept"),
    Key("coral.refPrefix", "refs/coral/store", "where packs live on a git remote"),
    Key("coral.autoSetup", "true", "let the filter set up a repository on first use"),
    Key(
        "coral.recordEnvironment",
        "false",
        "let `git coral commit` say in every commit which Python, torch, CUDA and GPU there were",
    ),
)
"""Every key but those of merging, in the order of the documentation."""

MERGE_KEYS = (
    Key(
        "coral.merge.strategy",
        "fail",
        "what becomes of a tensor that both sides changed: a strategy, also with parameters, as in "
        "`weighted:alpha=0.3`",
    ),
    Key(
        "coral.merge.rule",
        "",
        "`PATTERN=STRATEGY` for the tensors whose names match; may be given several times, and the last one "
        "that matches counts",
    ),
    Key(
        "coral.merge.integers",
        "ours",
        "'ours', 'theirs', 'base' or 'fail' for integers, booleans and quantized values",
    ),
    Key(
        "coral.merge.rest",
        "ours",
        "'ours', 'theirs', 'base' or 'fail' for metadata that both sides changed",
    ),
    Key("coral.merge.allowNonFinite", "false", "take results with new infinities and NaNs"),
    Key("coral.merge.alpha", "0.5", "share of ours in 'weighted' and 'slerp', 0 to 1"),
    Key("coral.merge.weights", "", "a weight for each side, ours first, e.g. `2/1/1`"),
    Key("coral.merge.scale", "1.0", "λ, the factor of a sum of differences"),
    Key("coral.merge.density", "0.5", "share of the values of a difference that is kept, above 0 to 1"),
    Key("coral.merge.gamma", "0.01", "share of the largest values that 'breadcrumbs' drops"),
    Key(
        "coral.merge.normalize",
        "",
        "whether sums are divided by the sum of the weights; by default what is usual for the strategy",
    ),
    Key("coral.merge.seed", "0", "seed of the masks of 'dare-ties' and 'dare-linear'"),
)
"""The keys of merging; the file ``.coralconfig`` may propose them too."""


class Settings(NamedTuple):
    """The settings in force, parsed.

    Attributes:
        threads: threads that encode and decode, at least 1.
        profile: how much time may be spent on the size of what is added.
        delta_type: the strategy that tensors are stored with; an exact one.
        similarity_threshold: the least cosine of a tensor and a base that was found by its values.
        verify_full: whether checkout also checks whole-file digests.
        trust_stat: whether the stat cache may answer.
        defer_smudge: whether large files are written after git has finished.
        strict: whether a missing object fails a checkout.
        fsync: whether writes are flushed to the disk.
        grace_seconds: age below which nothing unreachable is removed.
        ref_prefix: where packs live on a git remote.
        auto_setup: whether the filter may set up a repository on first use.
        record_environment: whether commits say what they were trained with.
    """

    threads: int = 1
    profile: str = "fast"
    delta_type: DeltaType = DeltaType.AUTO
    similarity_threshold: float = 0.98
    verify_full: bool = False
    trust_stat: bool = True
    defer_smudge: bool = True
    strict: bool = False
    fsync: bool = True
    grace_seconds: int = 14 * 86400
    ref_prefix: str = "refs/coral/store"
    auto_setup: bool = True
    record_environment: bool = False


def read_settings(lookup: Lookup) -> Settings:
    """Parse the settings.

    Raises:
        UsageError: a value cannot be understood; the message names the key.
    """
    return Settings(
        threads=_threads(lookup),
        profile=_choice(lookup, "coral.profile", ("fast", "balanced", "best")),
        delta_type=parse_lossless(_value(lookup, "coral.deltaType"), "coral.deltaType"),
        similarity_threshold=_fraction(lookup, "coral.similarityThreshold"),
        verify_full=_choice(lookup, "coral.verify", ("objects", "full")) == "full",
        trust_stat=_boolean(lookup, "coral.trustStat"),
        defer_smudge=_boolean(lookup, "coral.deferSmudge"),
        strict=_boolean(lookup, "coral.strict"),
        fsync=_boolean(lookup, "coral.fsync"),
        grace_seconds=parse_age(_value(lookup, "coral.gcGrace"), "coral.gcGrace"),
        ref_prefix=_prefix(lookup),
        auto_setup=_boolean(lookup, "coral.autoSetup"),
        record_environment=_boolean(lookup, "coral.recordEnvironment"),
    )


def parse_delta_type(text: str, name: str) -> DeltaType:
    """A strategy by its name, in any case, with hyphens or underscores.

    Args:
        text: the name.
        name: who says so, for the message.

    Raises:
        UsageError: there is no such strategy.
    """
    try:
        return DeltaType(text.lower().replace("-", "_"))
    except ValueError:
        known = ", ".join(DeltaType)
        raise UsageError(f"unknown strategy {text!a} in '{name}'", hint=f"it is one of: {known}") from None


def parse_lossless(text: str, name: str) -> DeltaType:
    """As ``parse_delta_type``, but only what is exact: nothing that was set once may change weights later.

    Raises:
        UsageError: there is no such strategy, or it is not exact.
    """
    delta_type = parse_delta_type(text, name)
    if not delta_type.is_lossless:
        raise UsageError(
            f"'{name}' cannot be '{delta_type}', which changes weights",
            hint=f"git coral add --delta-type {delta_type} <path>",
        )
    return delta_type


_DEFAULTS = {key.name: key.default for key in KEYS}
_MOST_DIGITS = 9
_UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 7 * 86400}


def parse_age(text: str, name: str) -> int:
    """Seconds of an age such as ``14.days``, ``2.weeks``, ``now``, ``0`` or ``3600``.

    Raises:
        UsageError: the text is no age.
    """
    if text == "now":
        return 0
    number, _, unit = text.replace(" ", ".").partition(".")
    factor = _UNITS.get(unit.removesuffix("s")) if unit else 1
    if factor is None or not _is_number(number):
        raise UsageError(f"bad age {text!r} for '{name}'", hint="write it like 14.days, 6.hours or now")
    return int(number) * factor


def _value(lookup: Lookup, name: str) -> str:
    value = lookup(name)
    return _DEFAULTS[name] if value is None else value


def _boolean(lookup: Lookup, name: str) -> bool:
    value = _value(lookup, name).lower()
    if value in _TRUE:
        return True
    if value in _FALSE:
        return False
    raise UsageError(f"bad boolean {value!r} for '{name}'", hint=f"git config {name} true")


def _choice(lookup: Lookup, name: str, choices: tuple[str, ...]) -> str:
    value = _value(lookup, name).lower()
    if value not in choices:
        raise UsageError(f"bad value {value!r} for '{name}'", hint=f"it is one of: {', '.join(choices)}")
    return value


def _threads(lookup: Lookup) -> int:
    value = _value(lookup, "coral.threads")
    if not _is_number(value):
        raise UsageError(f"bad number {value!r} for 'coral.threads'", hint="git config coral.threads 0")
    return int(value) or min(_cores(), 16)


def _fraction(lookup: Lookup, name: str) -> float:
    value = _value(lookup, name)
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise UsageError(f"bad number {value!r} for '{name}'", hint=f"git config {name} 0.98")
    return number


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS


def _is_ref_part(text: str) -> bool:
    """Whether git takes a name without special characters as part of a ref."""
    plain = text.isascii() and text.replace("-", "").replace("_", "").replace(".", "").isalnum()
    return plain and ".." not in text and text[0] not in ".-" and not text.endswith((".", ".lock"))


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _prefix(lookup: Lookup) -> str:
    value = _value(lookup, "coral.refPrefix").strip("/")
    parts = value.split("/")
    if parts[0] != "refs" or len(parts) < 3 or not all(_is_ref_part(part) for part in parts):
        raise UsageError(
            f"bad ref prefix {value!r} for 'coral.refPrefix'",
            hint="git config coral.refPrefix refs/heads/coral",
        )
    return value
