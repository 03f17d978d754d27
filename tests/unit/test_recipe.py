"""Recipes of mergekit: what is understood, and what is refused by name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coral_git.errors import CoralError, UsageError
from coral_git.merge.choices import Choice
from coral_git.merge.parameters import Parameters
from coral_git.merge.settings import Wanted
from coral_git.repository.evaluating import grid, parse_sweep
from coral_git.repository.recipe import Recipe, parse_recipe, read_recipe

yaml = pytest.importorskip("yaml")


def parsed(text: str) -> Recipe:
    return parse_recipe(yaml.safe_load(text))


def test_a_linear_merge():
    text = """
    models:
      - {model: main, parameters: {weight: 1.0}}
      - {model: v1.0, parameters: {weight: 0.3}}
    merge_method: linear
    dtype: float16
    """
    assert parsed(text) == Recipe(Choice("weighted", Parameters(weights=(1.0, 0.3))), ("main", "v1.0"))


def test_ties_with_a_base():
    text = """
    models:
      - model: base
      - {model: law, parameters: {density: 0.5, weight: 0.5}}
      - {model: medicine, parameters: {density: 0.5, weight: 0.25}}
    merge_method: ties
    base_model: base
    parameters: {normalize: true, lambda: 0.9}
    """
    values = Parameters(weights=(0.5, 0.25), density=0.5, normalize=True, scale=0.9)
    assert parsed(text) == Recipe(Choice("ties", values), ("law", "medicine"), "base")


def test_slerp_has_the_share_of_the_other_model():
    text = "{models: [{model: a}, {model: b}], merge_method: slerp, base_model: b, parameters: {t: 0.25}}"
    assert parsed(text) == Recipe(Choice("slerp", Parameters(alpha=0.75)), ("b", "a"))
    text = "{models: [{model: a}], merge_method: slerp, base_model: b, parameters: {t: 1}}"
    assert parsed(text) == Recipe(Choice("slerp", Parameters(alpha=0.0)), ("b", "a"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "no mapping"),
        ("{merge_method: linear}", "lists its models"),
        ("{merge_method: linear, models: []}", "lists its models"),
        ("{merge_method: della, models: [{model: a}]}", "no merge_method 'della'"),
        ("{merge_method: linear, slices: [], models: [{model: a}]}", "'slices' is not supported"),
        ("{merge_method: linear, models: [a]}", "no mapping"),
        ("{merge_method: linear, models: [{parameters: {}}]}", "no 'model'"),
        ("{merge_method: linear, models: [{model: --upload-pack}]}", "no revision"),
        ("{merge_method: linear, models: [{model: a, lora: b}]}", "not 'lora'"),
        ("{merge_method: linear, models: [{model: a, parameters: {weight: [0, 1]}}]}", "from layer to layer"),
        ("{merge_method: linear, models: [{model: a, parameters: {weight: .nan}}]}", "bad value"),
        (
            "{merge_method: linear, models: [{model: a}], parameters: {rescale: 1}}",
            "'rescale' is not supported",
        ),
        (
            "{merge_method: linear, models: [{model: a}, {model: b}], parameters: {normalize: false}}",
            "add up to 1",
        ),
        ("{merge_method: slerp, models: [{model: a}, {model: b}, {model: c}]}", "two models, not 3"),
        (
            "{merge_method: ties, models: [{model: a, parameters: {t: 1}}, {model: b, parameters: {t: 0}}]}",
            "different values of 't'",
        ),
    ],
)
def test_what_is_refused(text, message):
    with pytest.raises(UsageError, match=message):
        parsed(text)


WORDS = ["models", "model", "merge_method", "parameters", "weight", "t", "base_model", "linear", "slerp", "x"]
LEAVES = st.none() | st.booleans() | st.floats() | st.sampled_from(WORDS)


def nested(inner):
    return st.lists(inner, max_size=3) | st.dictionaries(LEAVES, inner, max_size=4)


@given(st.recursive(LEAVES, nested, max_leaves=12))
def test_anything_is_a_recipe_or_refused(found):
    try:
        parse_recipe(found)
    except UsageError:
        return


def test_files(tmp_path):
    with pytest.raises(CoralError, match="read"):
        read_recipe(str(tmp_path / "none.yml"))
    place = tmp_path / "r.yml"
    for text, message in (
        ("a: [", "is no YAML"),
        ("!!python/object/apply:os.system [ls]", "is no YAML"),
        ("x" * (2 << 20), "longer than"),
        ("merge_method: x", "r.yml': no merge_method 'x'"),
    ):
        place.write_text(text)
        with pytest.raises(UsageError, match=message):
            read_recipe(str(place))


def test_sweeps():
    assert parse_sweep("alpha=0:1:0.25") == ("alpha", [0, 0.25, 0.5, 0.75, 1])
    assert parse_sweep("alpha=0:0.3:0.1") == ("alpha", [0, 0.1, 0.2, 0.3])
    assert parse_sweep("scale=1:-1:-1") == ("scale", [1, 0, -1])
    assert parse_sweep("density=0.2,0.9") == ("density", [0.2, 0.9])
    for text in (
        "",
        "alpha",
        "alpha=",
        "alpha=0:1",
        "alpha=0:1:0",
        "alpha=1:0:1",
        "=0:1:1",
        "a=0:1e9:1e-3",
        "a=x",
    ):
        with pytest.raises(UsageError, match="bad sweep"):
            parse_sweep(text)


def test_a_grid_has_every_combination():
    found = grid(Wanted(), ("ties", "slerp"), [("alpha", [0, 1]), ("density", [0.5])])
    assert [name for name, _ in found] == [
        f"{strategy} alpha={alpha} density=0.5" for strategy in ("ties", "slerp") for alpha in (0, 1)
    ]
    assert found[1][1] == Wanted("ties", {"alpha": "1", "density": "0.5"})
    assert grid(Wanted("slerp"), (), []) == [("slerp", Wanted("slerp"))]
    with pytest.raises(UsageError, match="too many"):
        grid(Wanted(), (), [("alpha", [0.0] * 200), ("scale", [0.0] * 200)])
