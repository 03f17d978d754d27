"""Where it is configured what becomes of tensors that both sides changed.

The strongest first: the environment, git's configuration (what ``git -c`` says as well), the attributes of
the path, the tracked file ``.coralconfig``, the default. Rules of the stronger come after those of the
weaker, and the last one that matches a tensor counts.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from coral_git.errors import UsageError
from coral_git.git.attributes import check_attr
from coral_git.git.config import GitConfig, read_config
from coral_git.merge.choices import FAIL, TAKING, Choices, Rule, parse_choice, parse_parameters, parse_rule
from coral_git.merge.parameters import Parameters
from coral_git.pipeline.workspace import Workspace

ENVIRONMENT = "CORAL_MERGE_STRATEGY"
"""A strategy, with parameters if need be, that is stronger than everything else."""

TRACKED_FILE = ".coralconfig"
"""What a repository proposes, in the syntax of git's configuration; only ``coral.merge.*`` is read here."""

ATTRIBUTE = "merge"
_DRIVER = "coral-"
_SECTION = "coral.merge."
_EMPTY = GitConfig(b"")


class _Source(NamedTuple):
    """A configuration and its name for messages."""

    config: GitConfig
    name: str

    def value(self, key: str) -> str | None:
        return self.config.get(_SECTION + key)

    def shown(self, key: str) -> str:
        return f"{_SECTION}{key}" + (f" of {self.name}" if self.name else "")


def read_choices(workspace: Workspace, path: bytes, driver: str = "") -> Choices:
    """The choices in force for a file.

    Args:
        workspace: the repository.
        path: the file, relative to the root.
        driver: the strategy of the merge driver that git started; empty for ``merge=coral`` and where git
            did not start one, so that the attributes of the path are asked.

    Raises:
        UsageError: a value cannot be understood; the message names the key.
    """
    return _choices(
        _sources(workspace), os.environ.get(ENVIRONMENT, ""), driver or _attribute(workspace, path)
    )


class Wanted(NamedTuple):
    """What the user asks of one command.

    Attributes:
        strategy: with parameters if need be; empty for the one that is configured.
        parameters: parameters by their names.
        rules: as ``parse_rule`` reads them.
        tensors: shell patterns of the only tensors that the strategy is for; empty for all.
    """

    strategy: str = ""
    parameters: Mapping[str, str] = MappingProxyType({})
    rules: tuple[str, ...] = ()
    tensors: tuple[str, ...] = ()


def choices_with(workspace: Workspace, configured: Choices, wanted: Wanted) -> Choices:
    """The choices where the user asks for something, which is stronger than what is configured.

    A strategy for all tensors that takes a version as it is counts for what is no tensor, too.

    Args:
        workspace: the repository.
        configured: what ``read_choices`` says.
        wanted: what is asked; its rules come after the configured ones.

    Raises:
        UsageError: it cannot be understood.
    """
    if wanted.tensors and not wanted.strategy:
        raise UsageError("--tensor needs a strategy", hint="--tensor 'lm_head.*' --strategy theirs")
    defaults = parse_parameters(wanted.parameters, "the command line", _parameters(_sources(workspace)))
    rules = [parse_rule(rule, "--rule", defaults) for rule in wanted.rules]
    if not wanted.strategy:
        kept = configured.default.parameters
        kept = parse_parameters(wanted.parameters, "the command line", kept)
        default = configured.default._replace(parameters=kept)
        return configured._replace(default=default, rules=(*configured.rules, *rules))
    choice = parse_choice(wanted.strategy, "--strategy", defaults)
    rules += [Rule(pattern, choice) for pattern in wanted.tensors]
    choices = configured._replace(rules=(*configured.rules, *rules))
    if wanted.tensors:
        return choices
    rest = choice.strategy if choice.strategy in TAKING else choices.rest
    return choices._replace(default=choice, rest=rest)


def as_options(wanted: Wanted) -> list[str]:
    """What is asked, as options of git: whatever git starts finds it in its configuration.

    Raises:
        UsageError: it cannot be understood.
    """
    defaults = parse_parameters(wanted.parameters, "the command line", Parameters())
    values = [(key, str(value)) for key, value in wanted.parameters.items()]
    if wanted.strategy:
        parse_choice(wanted.strategy, "--strategy", defaults)
        values.append(("strategy", wanted.strategy))
    for rule in wanted.rules:
        parse_rule(rule, "--rule", defaults)
        values.append(("rule", rule))
    return [word for key, value in values for word in ("-c", f"{_SECTION}{key}={value}")]


def check_setting(key: str, value: str) -> None:
    """Refuse what could not be understood later.

    Raises:
        UsageError: the value does not suit the key.
    """
    own = GitConfig(os.fsencode(f"{key}\n{value}"))
    _choices((_Source(own, ""), _Source(_EMPTY, TRACKED_FILE)), "", "")


def _choices(sources: tuple[_Source, _Source], ordered: str, attribute: str) -> Choices:
    defaults = _parameters(sources)
    text, name = _strategy(sources, ordered, attribute)
    rules = [
        parse_rule(rule, source.shown("rule"), defaults)
        for source in reversed(sources)
        for rule in source.config.get_all(f"{_SECTION}rule")
    ]
    choice = parse_choice(text, name, defaults)
    takes = choice.strategy in TAKING and choice.strategy != FAIL
    return Choices(
        choice,
        tuple(rules),
        _taking(sources, "integers", Choices().integers),
        _taking(sources, "rest", choice.strategy if takes else Choices().rest),
        sources[0].config.get_bool(f"{_SECTION}allowNonFinite"),
    )


def _sources(workspace: Workspace) -> tuple[_Source, _Source]:
    return _Source(workspace.config, ""), _Source(_tracked(workspace), TRACKED_FILE)


def _parameters(sources: tuple[_Source, _Source]) -> Parameters:
    values = {
        key: value
        for source in reversed(sources)
        for key in Parameters._fields
        if (value := source.value(key)) is not None
    }
    return parse_parameters(values, "coral.merge", Parameters())


def _strategy(sources: tuple[_Source, _Source], ordered: str, attribute: str) -> tuple[str, str]:
    """The strategy in force, and who says so."""
    own, tracked = sources
    said = (
        (ordered, ENVIRONMENT),
        (own.value("strategy"), own.shown("strategy")),
        (attribute, f"the attribute '{ATTRIBUTE}'"),
        (tracked.value("strategy"), tracked.shown("strategy")),
    )
    return next(((text, name) for text, name in said if text), (FAIL, ""))


def _attribute(workspace: Workspace, path: bytes) -> str:
    """The strategy that a named driver of the path stands for."""
    value = check_attr(workspace.git, [path], ATTRIBUTE).get(path, b"")
    return os.fsdecode(value).removeprefix(_DRIVER) if value.startswith(_DRIVER.encode()) else ""


def _taking(sources: tuple[_Source, _Source], key: str, default: str) -> str:
    for source in sources:
        value = source.value(key)
        if value is not None and value not in TAKING:
            raise UsageError(
                f"bad value {value!a} for '{source.shown(key)}'", hint=f"it is one of: {', '.join(TAKING)}"
            )
        if value is not None:
            return value
    return default


def _tracked(workspace: Workspace) -> GitConfig:
    """What the repository proposes: the file in the work tree, or that of HEAD where there is none."""
    root = workspace.paths.work_tree
    if root is not None:
        place = os.path.join(root, TRACKED_FILE)
        try:
            if stat.S_ISREG(os.lstat(place).st_mode):
                return read_config(workspace.git, file=place)
        except OSError:
            pass
    if workspace.objects.info(b"HEAD:" + TRACKED_FILE.encode()) is None:
        return _EMPTY
    return read_config(workspace.git, blob=f"HEAD:{TRACKED_FILE}")
