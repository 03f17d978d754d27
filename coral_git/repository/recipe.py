"""Recipes of mergekit, with git revisions as models.

A recipe is YAML (https://github.com/arcee-ai/mergekit#merge-configuration). What can be said of whole models
is understood: the method, the base model, the models with their weights, and the parameters of the method.
What picks layers or differs from layer to layer is refused, never ignored.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from coral_git.errors import UsageError, from_os_error
from coral_git.merge.choices import Choice
from coral_git.merge.parameters import Parameters

_LONGEST = 1 << 20
_METHODS = {
    "linear": "weighted",
    "slerp": "slerp",
    "task_arithmetic": "task-arithmetic",
    "ties": "ties",
    "dare_ties": "dare-ties",
    "dare_linear": "dare-linear",
    "breadcrumbs": "breadcrumbs",
    "model_stock": "model-stock",
}
_KNOWN = frozenset({"models", "merge_method", "base_model", "parameters", "dtype", "out_dtype"})
_NAMES = {"lambda": "scale", "density": "density", "gamma": "gamma", "normalize": "normalize", "t": "alpha"}


class Recipe(NamedTuple):
    """What a recipe asks for.

    Attributes:
        choice: the strategy and its parameters.
        models: the revisions that are merged.
        base: the revision that differences are taken to; empty for the common ancestor.
    """

    choice: Choice
    models: tuple[str, ...]
    base: str = ""


def read_recipe(path: str) -> Recipe:
    """Read a recipe.

    Raises:
        UsageError: PyYAML is not installed, the file is no recipe, or it asks for what cannot be done.
        CoralError: it cannot be read.
    """
    try:
        import yaml
    except ImportError:
        raise UsageError("recipes need PyYAML", hint="pip install 'coral-git[recipe]'") from None
    try:
        with open(path, "rb") as file:
            text = file.read(_LONGEST + 1)
    except OSError as error:
        raise from_os_error(error, f"read '{path}'") from error
    if len(text) > _LONGEST:
        raise UsageError(f"'{path}' is longer than a recipe may be")
    try:
        found = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        problem = str(error).splitlines()[0] if str(error) else "it is malformed"
        raise UsageError(f"'{path}' is no YAML: {problem}") from None
    try:
        return parse_recipe(found)
    except UsageError as error:
        raise UsageError(f"'{path}': {error.message}", hint=error.hint) from None


def parse_recipe(found: object) -> Recipe:
    """Understand what YAML says.

    Raises:
        UsageError: it is no recipe, or asks for what cannot be done; the message names the entry.
    """
    entries = _mapping(found, "the recipe")
    odd = sorted(set(map(str, entries)) - _KNOWN)
    if odd:
        raise UsageError(f"{odd[0]!a} is not supported", hint=f"a recipe has: {', '.join(sorted(_KNOWN))}")
    method = entries.get("merge_method")
    if not isinstance(method, str) or method not in _METHODS:
        raise UsageError(f"no merge_method {method!a}", hint=f"it is one of: {', '.join(_METHODS)}")
    base = _revision(entries["base_model"], "base_model") if entries.get("base_model") else ""
    listed = entries.get("models")
    if not isinstance(listed, list) or not listed:
        raise UsageError("a recipe lists its models", hint="models: [{model: main}, {model: topic}]")
    models = [_model(one) for one in listed]
    general = _mapping(entries.get("parameters") or {}, "parameters")
    if base and method != "slerp" and method != "linear":
        models = [
            one for one in models if one[0] != base
        ]  # as mergekit: the base has no difference to itself
    if method == "slerp":
        models = _for_slerp(models, base)
        base = ""
    values = _parameters(method, general, [own for _, own in models])
    return Recipe(Choice(_METHODS[method], values), tuple(revision for revision, _ in models), base)


def _parameters(method: str, general: Mapping[str, Any], own: list[Mapping[str, Any]]) -> Parameters:
    """The parameters of the method: those of all models together, or those that each has alike."""
    values: dict[str, Any] = {}
    for key in sorted({*general, *(name for one in own for name in one)} - {"weight"}, key=str):
        if key not in _NAMES:
            raise UsageError(
                f"the parameter {key!a} is not supported", hint=f"known: {', '.join(_NAMES)}, weight"
            )
        said = {_value(one.get(key, general.get(key)), key) for one in own} or {_value(general[key], key)}
        said.discard(None)
        if len(said) > 1:
            raise UsageError(f"the models have different values of {key!a}, and the method takes one")
        if said:
            values[_NAMES[key]] = said.pop()
    if "alpha" in values:
        values["alpha"] = 1 - values["alpha"]  # mergekit's t is the share of the other model
    weights = [_value(one.get("weight", general.get("weight")), "weight") for one in own]
    if method != "slerp" and any(weight is not None for weight in weights):
        values["weights"] = tuple(1.0 if weight is None else weight for weight in weights)
    elif method == "linear":
        values["weights"] = (1.0,) * len(own)
    if method == "linear" and values.pop("normalize", True) is False:
        total = math.fsum(values["weights"])
        if not math.isclose(total, 1.0):
            raise UsageError("a linear merge without 'normalize' needs weights that add up to 1")
    return Parameters(**values)


def _for_slerp(models: list[tuple[str, Mapping[str, Any]]], base: str) -> list[tuple[str, Mapping[str, Any]]]:
    """The base model first, then the other one."""
    if base and base not in [revision for revision, _ in models]:
        models = [(base, {}), *models]
    if len(models) != 2:
        raise UsageError(f"slerp merges two models, not {len(models)}")
    return models if not base or models[0][0] == base else models[::-1]


def _model(entry: object) -> tuple[str, Mapping[str, Any]]:
    found = _mapping(entry, "a model")
    odd = sorted(set(map(str, found)) - {"model", "parameters"})
    if odd or "model" not in found:
        raise UsageError(
            f"a model has 'model' and 'parameters', not {odd[0]!a}" if odd else "a model has no 'model'"
        )
    return _revision(found["model"], "model"), _mapping(found.get("parameters") or {}, "parameters")


def _mapping(found: object, what: str) -> Mapping[str, Any]:
    if not isinstance(found, dict):
        raise UsageError(f"{what} is no mapping")
    return found


def _revision(found: object, what: str) -> str:
    if not isinstance(found, (str, int)) or not str(found) or str(found).startswith("-"):
        raise UsageError(f"'{what}' is no revision", hint=f"{what}: main")
    return str(found)


def _value(found: object, key: str) -> Any:  # noqa: ANN401 - a float, or what 'normalize' says
    """One number for a whole model; mergekit also has lists and filters by name."""
    if found is None or (key == "normalize" and isinstance(found, bool)):
        return found
    if isinstance(found, (list, dict)):
        raise UsageError(f"{key!a} differs from layer to layer", hint="use --rule for single tensors")
    if not isinstance(found, (int, float)) or isinstance(found, bool) or not math.isfinite(found):
        raise UsageError(f"bad value {found!a} for {key!a}")
    return float(found)
