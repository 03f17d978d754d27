"""Conditions on metrics and labels such as ``accuracy > 0.90 and not (loss >= 0.3 or label = broken)``.

    condition   = conjunction { "or" conjunction }
    conjunction = term { "and" term }
    term        = "not" term | "(" condition ")" | "label" ("=" | "!=") WORD | NAME comparison NUMBER | NAME
    comparison  = "<" | "<=" | ">" | ">=" | "=" | "==" | "!="

A comparison with a metric that a commit does not have is false; a name by itself asks whether it has it.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable

from coral_git.errors import UsageError
from coral_git.history.facts import METRIC_NAME, Facts
from coral_git.manifest.escape import printable

Condition = Callable[[Facts], bool]

_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "=": operator.eq,
    "==": operator.eq,
    "!=": operator.ne,
}
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[+-]?(?:inf|nan)\b"
_TOKEN = re.compile(rf"\s*(?:(?P<number>{_NUMBER})|(?P<name>{METRIC_NAME})|(?P<sign><=|>=|==|!=|[<>=()]))")
_WORDS = frozenset({"and", "or", "not"})
_DEEPEST = 100
_HINT = "e.g. 'accuracy > 0.90 and loss < 0.3'"


def parse_condition(text: str) -> Condition:
    """A condition on what is said about a commit.

    Raises:
        UsageError: it cannot be understood.
    """
    return _Parser(text).parse()


class _Parser:
    """Recursive descent over the tokens of one condition."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens: list[tuple[str, str]] = []
        self._depth = 0
        position = 0
        while text[position:].strip():
            match = _TOKEN.match(text, position)
            if match is None:
                raise self._error(f"'{printable(text[position:].strip())}' is not understood")
            self._tokens.append((match.lastgroup or "", match[match.lastgroup or 0]))
            position = match.end()

    def parse(self) -> Condition:
        """The whole condition."""
        condition = self._any()
        if self._tokens:
            raise self._error(f"'{self._tokens[0][1]}' is not expected there")
        return condition

    def _any(self) -> Condition:
        terms = [self._all()]
        while self._take("or"):
            terms.append(self._all())
        return terms[0] if len(terms) == 1 else lambda facts: any(term(facts) for term in terms)

    def _all(self) -> Condition:
        terms = [self._term()]
        while self._take("and"):
            terms.append(self._term())
        return terms[0] if len(terms) == 1 else lambda facts: all(term(facts) for term in terms)

    def _term(self) -> Condition:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise self._error("it is nested too deep")
        try:
            if self._take("not"):
                inner = self._term()
                return lambda facts: not inner(facts)
            if self._take("("):
                condition = self._any()
                if not self._take(")"):
                    raise self._error("a ')' is missing")
                return condition
            return self._comparison()
        finally:
            self._depth -= 1

    def _comparison(self) -> Condition:
        kind, name = self._tokens.pop(0) if self._tokens else ("", "")
        if kind != "name" or name in _WORDS:
            raise self._error(f"a metric is missing{f' before {name!r}' if name else ' at the end'}")
        sign = self._tokens[0][1] if self._tokens else ""
        if sign not in _COMPARISONS:
            return lambda facts: name in facts.metrics or name in facts.labels
        self._tokens.pop(0)
        kind, value = self._tokens.pop(0) if self._tokens else ("", "")
        if name == "label" and sign in ("=", "==", "!=") and kind in ("name", "number"):
            return lambda facts: (value in facts.labels) == (sign != "!=")
        if kind != "number":
            raise self._error(f"a number is missing after '{name} {sign}'")
        compare, number = _COMPARISONS[sign], float(value)
        return lambda facts: name in facts.metrics and compare(facts.metrics[name], number)

    def _take(self, word: str) -> bool:
        if self._tokens and self._tokens[0][1] == word:
            del self._tokens[0]
            return True
        return False

    def _error(self, reason: str) -> UsageError:
        return UsageError(f"bad condition '{printable(self._text)}': {reason}", hint=_HINT)
