"""Strategies are found by name; what the table says of them without loading them is true."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from coral_git.errors import CoralError, UsageError
from coral_git.merge.strategies.base import Parameters
from coral_git.merge.strategies.registry import STRATEGIES, strategy_by_name

PLUGIN = """
class Mine:
    name = "mine"
    needs_base = False
    most_sides = None
    parameters = ()
    def prepare(self, versions, parameters):
        return lambda block: block.sides[0]
made = Mine()
"""


def install_plugin(folder: Path, module: str, value: str, text: str = PLUGIN) -> None:
    (folder / f"{module}.py").write_text(text)
    info = folder / f"{module}-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[coral_git.merge_strategies]\nmine = {module}:{value}\n")


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_the_table_tells_the_truth(name: str) -> None:
    strategy = strategy_by_name(name)
    assert strategy.name == name
    assert strategy.needs_base == STRATEGIES[name].needs_base
    assert strategy.most_sides == STRATEGIES[name].most_sides
    assert set(strategy.parameters) <= set(Parameters._fields)
    assert "arXiv" in sys.modules[type(strategy).__module__].__doc__ or name == "slerp"


def test_every_parameter_belongs_to_some_strategy() -> None:
    taken = {parameter for name in STRATEGIES for parameter in strategy_by_name(name).parameters}
    assert taken == set(Parameters._fields)


def test_an_unknown_name() -> None:
    with pytest.raises(UsageError, match="unknown merge strategy 'x'") as caught:
        strategy_by_name("x")
    assert caught.value.hint == f"the strategies are: {', '.join(sorted(STRATEGIES))}"


def test_the_table_needs_no_numpy() -> None:
    code = "import sys, coral_git.merge.strategies.registry; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("value", ["made", "Mine"])
def test_a_strategy_of_another_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    install_plugin(tmp_path, f"merge_plugin_{value.lower()}", value)
    monkeypatch.syspath_prepend(tmp_path)
    assert strategy_by_name("mine").name == "mine"
    with pytest.raises(UsageError) as caught:
        strategy_by_name("x")
    assert "mine" in caught.value.hint


def test_two_packages_with_the_same_strategy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_plugin(tmp_path, "merge_plugin_one", "made")
    install_plugin(tmp_path, "merge_plugin_two", "made")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(CoralError, match="two merge strategies are called 'mine'") as caught:
        strategy_by_name("mine")
    assert "merge_plugin_two:made" in caught.value.hint


def test_a_package_that_cannot_be_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_plugin(tmp_path, "merge_plugin_broken", "made", "import nothing_of_this_name")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(CoralError, match="cannot load the merge strategy 'mine'"):
        strategy_by_name("mine")
