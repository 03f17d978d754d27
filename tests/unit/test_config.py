"""Every setting: its default, what it takes, and what it refuses by name."""

from __future__ import annotations

import os

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from coral_git.config import KEYS, MERGE_KEYS, Settings, parse_age, read_settings
from coral_git.errors import UsageError
from coral_git.merge.choices import Choices, parse_parameters
from coral_git.merge.parameters import Parameters
from coral_git.merge.settings import check_setting

DAY = 86_400
UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": DAY, "week": 7 * DAY}

GOOD = [
    ("coral.threads", "threads", {"1": 1, "3": 3, "64": 64}),
    ("coral.profile", "profile", {"fast": "fast", "balanced": "balanced", "BEST": "best"}),
    ("coral.deltaType", "delta_type", {"auto": "auto", "XOR-float32": "xor_float32", "sparse": "sparse"}),
    ("coral.similarityThreshold", "similarity_threshold", {"0": 0.0, "0.9": 0.9, "1": 1.0}),
    ("coral.verify", "verify_full", {"objects": False, "full": True, "FULL": True}),
    ("coral.trustStat", "trust_stat", {"true": True, "false": False, "YES": True, "off": False, "": False}),
    ("coral.deferSmudge", "defer_smudge", {"on": True, "0": False}),
    ("coral.strict", "strict", {"1": True, "no": False}),
    ("coral.fsync", "fsync", {"true": True, "False": False}),
    ("coral.gcGrace", "grace_seconds", {"now": 0, "0": 0, "2.weeks": 14 * DAY, "1 day": DAY, "90": 90}),
    ("coral.refPrefix", "ref_prefix", {"refs/heads/coral": "refs/heads/coral", "/refs/a/b/": "refs/a/b"}),
    ("coral.autoSetup", "auto_setup", {"true": True, "no": False}),
    ("coral.recordEnvironment", "record_environment", {"yes": True, "0": False}),
]
BAD = {
    "coral.threads": ["-1", "two", "", "1.5", "²", "٣"],
    "coral.profile": ["", "better", "slow"],
    "coral.deltaType": ["", "zip", "int8_quantized", "int16-quantized"],
    "coral.similarityThreshold": ["", "98%", "1.1", "-0.1", "nan", "inf"],
    "coral.verify": ["", "all", "true"],
    "coral.trustStat": ["maybe", "2", "tru"],
    "coral.deferSmudge": ["never"],
    "coral.strict": [" true"],
    "coral.fsync": ["yes please"],
    "coral.gcGrace": ["", "soon", "-1.days", "1.fortnight", "1.5.days", "days", "²", ".days", "1.s"],
    "coral.refPrefix": [
        "",
        "refs",
        "refs/coral",
        "heads/coral/store",
        "refs//store",
        "refs/../x",
        "refs/a/b c",
    ],
    "coral.autoSetup": ["ask"],
    "coral.recordEnvironment": ["torch"],
}


def settings(**values: str) -> Settings:
    """The settings where these keys (``coral__threads`` for ``coral.threads``) are set."""
    return read_settings({name.replace("__", "."): value for name, value in values.items()}.get)


def test_the_defaults_of_the_table_are_those_of_the_settings():
    here = settings()
    assert here._replace(threads=1) == Settings()
    assert here == read_settings({key.name: key.default for key in KEYS}.get)


def test_one_thread_per_core_is_the_default():
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert settings().threads == min(cores or 1, 16)


def test_every_key_is_tested_and_described():
    names = [key.name for key in KEYS]
    assert [name for name, _, _ in GOOD] == names
    assert list(BAD) == names
    assert [field for _, field, _ in GOOD] == list(Settings._fields)
    every = KEYS + MERGE_KEYS
    assert len({key.name.lower() for key in every}) == len(every)
    assert all(key.meaning and not key.meaning.endswith(".") for key in every)


def test_the_parameters_of_merging_have_their_keys_and_defaults():
    keys = {key.name.removeprefix("coral.merge."): key.default for key in MERGE_KEYS}
    assert keys.keys() > set(Parameters._fields)
    values = {name: default for name, default in keys.items() if name in Parameters._fields and default}
    assert parse_parameters(values, "the table", Parameters()) == Parameters()
    choices = Choices()
    assert (keys["strategy"], keys["integers"], keys["rest"]) == (
        str(choices.default),
        choices.integers,
        choices.rest,
    )
    for key in MERGE_KEYS:
        if key.default:
            check_setting(key.name, key.default)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("strategy", "mean"),
        ("strategy", "weighted:beta=1"),
        ("strategy", "weighted:alpha"),
        ("strategy", "weighted:alpha=1.5"),
        ("rule", "nothing"),
        ("rule", "a=mean"),
        ("integers", "average"),
        ("rest", ""),
        ("alpha", "nan"),
        ("density", "0"),
        ("gamma", "-0.1"),
        ("weights", "1/x"),
        ("weights", "1/-1"),
        ("scale", "inf"),
        ("normalize", "perhaps"),
        ("seed", "1.5"),
        ("allowNonFinite", "perhaps"),
    ],
)
def test_a_bad_value_for_merging_is_refused_by_the_name_of_its_key(key, value):
    with pytest.raises(UsageError, match=r"coral\.merge"):
        check_setting(f"coral.merge.{key}", value)


@pytest.mark.parametrize(("name", "field", "values"), GOOD, ids=[name for name, _, _ in GOOD])
def test_a_key_sets_its_field_and_no_other(name, field, values):
    before = settings()
    for text, value in values.items():
        assert read_settings({name: text}.get) == before._replace(**{field: value})


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in BAD.items() for value in values]
)
def test_a_bad_value_is_refused_by_the_name_of_its_key(name, value):
    with pytest.raises(UsageError) as error:
        read_settings({name: value}.get)
    assert f"'{name}'" in error.value.message
    assert error.value.hint


@given(st.integers(0, 10**6), st.sampled_from(sorted(UNITS)), st.booleans(), st.sampled_from(". "))
def test_an_age_is_a_number_of_units(number, unit, plural, separator):
    text = f"{number}{separator}{unit}{'s' if plural else ''}"
    assert parse_age(text, "age") == number * UNITS[unit]
    assert parse_age(str(number), "age") == number


@given(st.text(max_size=20) | st.from_regex(r"[0-9]{0,3}[. ]?[a-z]{0,7}", fullmatch=True))
@example("now")
@example("1.")
@example("1.\N{SUPERSCRIPT TWO}")
def test_any_text_is_an_age_or_refused_by_name(text):
    age, refusal = 0, None
    try:
        age = parse_age(text, "coral.gcGrace")
    except UsageError as error:
        refusal = error
    if refusal is not None:
        assert "'coral.gcGrace'" in refusal.message
    else:
        assert age >= 0
        assert text == "now" or text[0] in "0123456789"
