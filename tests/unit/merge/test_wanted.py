"""What is asked of one command is stronger than what is configured."""

from __future__ import annotations

import subprocess

import pytest

from coral_git.errors import UsageError
from coral_git.merge.choices import Choice, Choices, Rule
from coral_git.merge.parameters import Parameters
from coral_git.merge.settings import Wanted, choices_with
from coral_git.pipeline.workspace import Workspace

CONFIGURED = Choices(Choice("average"), (Rule("a.*", Choice("ours")),), rest="fail")


@pytest.fixture
def workspace(tmp_path):
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    subprocess.run(["git", "-C", tmp_path, "config", "coral.merge.alpha", "0.25"], check=True)
    found = Workspace.open(str(tmp_path))
    yield found
    found.close()


def asked(workspace, **wanted):
    return choices_with(workspace, CONFIGURED, Wanted(**wanted))


def test_nothing_asked_changes_nothing(workspace):
    assert asked(workspace) == CONFIGURED


def test_a_strategy_is_the_default(workspace):
    found = asked(workspace, strategy="weighted")
    assert found == CONFIGURED._replace(default=Choice("weighted", Parameters(alpha=0.25)))
    found = asked(workspace, strategy="weighted", parameters={"alpha": "0.5", "seed": "7"})
    assert found.default == Choice("weighted", Parameters(alpha=0.5, seed=7))
    found = asked(workspace, strategy="weighted:alpha=1", parameters={"alpha": "0.5"})
    assert found.default == Choice("weighted", Parameters(alpha=1.0))


@pytest.mark.parametrize("strategy", ["ours", "theirs", "base"])
def test_a_version_as_it_is_is_also_for_what_is_no_tensor(workspace, strategy):
    assert asked(workspace, strategy=strategy).rest == strategy
    assert asked(workspace, strategy=strategy, tensors=("*",)).rest == "fail"


def test_for_some_tensors_it_is_a_rule(workspace):
    found = asked(workspace, strategy="theirs", tensors=("a.b", "c[*]"), rules=("a.b=base",))
    assert found.default == CONFIGURED.default
    assert [(rule.pattern, rule.choice.strategy) for rule in found.rules] == [
        ("a.*", "ours"),
        ("a.b", "base"),
        ("a.b", "theirs"),
        ("c[*]", "theirs"),
    ]


def test_parameters_alone_are_for_the_configured_strategy(workspace):
    assert asked(workspace, parameters={"scale": "2"}).default == Choice("average", Parameters(scale=2.0))


def test_what_is_settled_is_stronger_than_rules():
    choices = CONFIGURED._replace(settled={"a.b": Choice("theirs")})
    assert choices.for_tensor("a.b") == (Choice("theirs"), True)
    assert choices.for_tensor("a.c") == (Choice("ours"), True)
    assert choices.for_tensor("b") == (Choice("average"), False)


@pytest.mark.parametrize(
    "wanted",
    [
        {"strategy": "mean"},
        {"strategy": "weighted:beta=1"},
        {"parameters": {"density": "0"}},
        {"rules": ("x",)},
        {"tensors": ("x",)},
    ],
)
def test_what_cannot_be_understood(workspace, wanted):
    with pytest.raises(UsageError):
        asked(workspace, **wanted)
