"""What the user wants done with tensors that both sides changed: a strategy, its parameters, rules by name.

Where it is configured is in ``settings.py``.
"""

from __future__ import annotations

import fnmatch
import math
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, NoReturn

from coral_git.errors import UsageError
from coral_git.merge.parameters import Parameters
from coral_git.merge.strategies import registry

OURS, THEIRS, BASE, FAIL = "ours", "theirs", "base", "fail"
TAKING = (OURS, THEIRS, BASE, FAIL)
"""The strategies that compute nothing: they take a version as it is, or none."""

_RULE = re.compile(r"(?P<pattern>.+?)=(?P<choice>[a-z0-9-]+(?::.*)?)")
_RANGES = {"alpha": (0, 1), "scale": (-math.inf, math.inf), "density": (5e-324, 1), "gamma": (0, 1)}


class Choice(NamedTuple):
    """A strategy and its parameters.

    Attributes:
        strategy: its name.
        parameters: what it may take.
    """

    strategy: str
    parameters: Parameters = Parameters()

    @property
    def needs_base(self) -> bool:
        """Whether nothing comes out without a common ancestor."""
        return self.strategy not in TAKING and registry.strategy_by_name(self.strategy).needs_base

    def __str__(self) -> str:
        """As ``parse_choice`` reads it: the name, and what differs from the defaults."""
        taken = () if self.strategy in TAKING else registry.strategy_by_name(self.strategy).parameters
        values = self.parameters._asdict()
        defaults = Parameters._field_defaults
        words = [f"{key}={_shown(values[key])}" for key in taken if values[key] != defaults[key]]
        return f"{self.strategy}:{','.join(words)}" if words else self.strategy


class Rule(NamedTuple):
    """What happens to the tensors whose names match a shell pattern."""

    pattern: str
    choice: Choice


class Choices(NamedTuple):
    """Everything that decides about a file.

    Attributes:
        default: for tensors that no rule names.
        rules: the last one that matches counts.
        integers: one of ``TAKING``: for integers, booleans and quantized values that no rule names.
        rest: one of ``TAKING``: for what is no tensor.
        allow_nonfinite: whether a result may have values that are not finite where all versions had.
        everyone: whether all sides take part in a tensor that any of them changed, where all have it.
        settled: single tensors; stronger than all rules.
    """

    default: Choice = Choice(FAIL)
    rules: tuple[Rule, ...] = ()
    integers: str = OURS
    rest: str = OURS
    allow_nonfinite: bool = False
    everyone: bool = False
    settled: Mapping[str, Choice] = MappingProxyType({})

    def for_tensor(self, name: str) -> tuple[Choice, bool]:
        """The choice for a tensor, and whether a rule names it."""
        if name in self.settled:
            return self.settled[name], True
        for rule in reversed(self.rules):
            if fnmatch.fnmatchcase(name, rule.pattern):
                return rule.choice, True
        return self.default, False


def parse_choice(text: str, source: str, defaults: Parameters = Parameters()) -> Choice:  # noqa: B008
    """A strategy with parameters, e.g. ``weighted:alpha=0.3`` or ``ties:density=0.2,scale=0.8``.

    Args:
        text: what was written.
        source: who wrote it, for the message.
        defaults: the parameters that are not named.

    Raises:
        UsageError: there is no such strategy or parameter, or a value is out of range.
    """
    name, colon, words = text.strip().partition(":")
    if name not in TAKING:
        try:
            registry.strategy_by_name(name)
        except UsageError as error:
            known = ", ".join((*TAKING, *registry.STRATEGIES))
            raise UsageError(f"{error.message} in '{source}'", hint=f"it is one of: {known}") from None
    values: dict[str, str] = {}
    for word in filter(None, words.split(",")) if colon else ():
        key, equals, value = word.partition("=")
        if not equals:
            raise UsageError(f"bad parameter {word!a} in '{source}'", hint=f"{name}:alpha=0.3,density=0.5")
        values[key.strip()] = value.strip()
    return Choice(name, parse_parameters(values, source, defaults))


def parse_parameters(values: Mapping[str, str], source: str, defaults: Parameters) -> Parameters:
    """Parameters by their names.

    Raises:
        UsageError: there is no such parameter, or a value is out of range; the message names it.
    """
    found: dict[str, Any] = {}
    for key, text in values.items():
        if key not in Parameters._fields:
            known = ", ".join(Parameters._fields)
            raise UsageError(f"unknown parameter {key!a} in '{source}'", hint=f"it is one of: {known}")
        try:
            found[key] = _value(key, text)
        except ValueError:
            raise UsageError(f"bad value {text!a} for '{key}' in '{source}'") from None
    return defaults._replace(**found)


def parse_rule(text: str, source: str, defaults: Parameters = Parameters()) -> Rule:  # noqa: B008
    """A rule: ``PATTERN=STRATEGY``, e.g. ``lm_head.*=theirs`` or ``*.bias=weighted:alpha=0.3``.

    Raises:
        UsageError: it is none.
    """
    found = _RULE.fullmatch(text.strip())
    if found is None:
        raise UsageError(f"bad rule {text!a} in '{source}'", hint='write "lm_head.*=theirs"')
    return Rule(found["pattern"], parse_choice(found["choice"], source, defaults))


def _value(key: str, text: str) -> object:
    """The value of a parameter.

    Raises:
        ValueError: it is none, or out of range.
    """
    if key == "seed":
        return int(text)
    if key == "normalize":
        return (
            {"true": True, "false": False}[text.lower()] if text.lower() in ("true", "false") else _refuse()
        )
    if key == "weights":
        weights = tuple(map(_finite, text.split("/")))
        return weights if sum(weights) else _refuse()
    value = _finite(text)
    low, high = _RANGES[key]
    return value if low <= value <= high else _refuse()


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _refuse()


def _refuse() -> NoReturn:
    raise ValueError


def _shown(value: object) -> str:
    return "/".join(map(_shown, value)) if isinstance(value, tuple) else str(value).lower()
