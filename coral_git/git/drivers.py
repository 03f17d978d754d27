"""The filter, merge and diff drivers in git's configuration.

git runs the commands through ``sh``. Each says what to install when the program is gone, and then fails:
the filter is *required*, or git would commit raw weights.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from typing import NamedTuple

from coral_git.errors import UsageError
from coral_git.git.command import Git

PROGRAM = "git-coral"
"""The name of the program."""

MERGE_STRATEGIES = (
    *("ours", "theirs", "base", "fail", "average", "weighted", "task-arithmetic", "ties"),
    *("dare-ties", "dare-linear", "slerp", "breadcrumbs", "model-stock"),
)
"""The strategies that have a merge driver of their own."""

SCOPES = ("system", "global", "local", "worktree")
"""Where the drivers can be configured, weakest first."""

_MESSAGE = (
    "error: git-coral, which keeps the weights of this repository, is not installed; "
    "to get it: pip install coral-git && git coral install"
)
_MERGE_ERROR = 129  # above 128 git takes it for an error, not for a conflict
_COMMANDS = ("filter.coral.process", "filter.coral.clean", "filter.coral.smudge", "merge.coral.driver")
_MERGED = "%O %A %B %L %P"
_OURS = re.compile(
    r"(?:^|\bexec )(\S*git[- ]coral|'.*git-coral') (?:filter-process|clean|smudge|merge-driver)\b", re.DOTALL
)


class DriverState(Enum):
    """What the configuration in force holds under the names of our drivers.

    ``ABSENT``: nothing. ``OURS``: what this version writes. ``OUTDATED``: ours, but of another version or
    another place, or incomplete. ``FOREIGN``: a filter or merge driver of somebody else.
    """

    ABSENT = "absent"
    OURS = "ours"
    OUTDATED = "outdated"
    FOREIGN = "foreign"


class DriverReport(NamedTuple):
    """The drivers in force.

    Attributes:
        state: what was found.
        scope: where the filter in force is configured (``"global"``, ``"local"``, …); empty when nowhere.
        program: the program that the filter in force runs; empty when it is not ours.
        scopes: every scope with at least one of the keys, weakest first.
    """

    state: DriverState
    scope: str = ""
    program: str = ""
    scopes: tuple[str, ...] = ()


def settings(program: str) -> dict[str, str]:
    """The keys and values that make git use a program.

    Args:
        program: ``git-coral`` or its absolute path, unquoted.
    """
    process, clean, smudge, merge = _COMMANDS
    return {
        process: command(program, "filter-process"),
        clean: command(program, "clean -- %f"),
        smudge: command(program, "smudge -- %f"),
        "filter.coral.required": "true",
        "merge.coral.name": "coral-git merge of weights",
        merge: command(program, f"merge-driver {_MERGED}", status=_MERGE_ERROR),
        "merge.coral.recursive": "binary",
        "diff.coral.xfuncname": "^(tensor .*)$",
        **{key: value for name in MERGE_STRATEGIES for key, value in _named(program, name).items()},
    }


def _named(program: str, strategy: str) -> dict[str, str]:
    """The merge driver of a strategy, for ``merge=coral-<strategy>`` in attributes."""
    section = f"merge.coral-{strategy}"
    return {
        f"{section}.name": f"coral-git merge of weights: {strategy}",
        f"{section}.driver": command(
            program, f"merge-driver --strategy={strategy} {_MERGED}", status=_MERGE_ERROR
        ),
        f"{section}.recursive": "binary",
    }


def command(program: str, arguments: str, status: int = 127) -> str:
    """A command line for ``sh`` that becomes the program, or says what to install and fails.

    Args:
        program: ``git-coral`` or its absolute path, unquoted.
        arguments: the arguments, as ``sh`` and git's placeholders want them.
        status: exit status where the program is missing.
    """
    quoted = shlex.quote(program)
    return (
        f"command -v {quoted} >/dev/null && exec {quoted} {arguments}; echo '{_MESSAGE}' >&2; exit {status}"
    )


def find_program(environment: Mapping[str, str] | None = None) -> str:
    """``git-coral`` where a login shell finds it too, else its absolute path.

    A virtual environment is on the search path only while it is active, so its folder does not count.

    Args:
        environment: the environment variables; those of the process by default.

    Raises:
        UsageError: there is no such program anywhere.
    """
    values = os.environ if environment is None else environment
    scripts = os.path.dirname(sys.executable)
    passing = {
        os.path.join(values[name], "bin") for name in ("VIRTUAL_ENV", "CONDA_PREFIX") if values.get(name)
    }
    if sys.prefix != sys.base_prefix:
        passing.add(scripts)
    passing = {os.path.realpath(folder) for folder in passing}
    folders = [folder for folder in values.get("PATH", "").split(os.pathsep) if os.path.isabs(folder)]
    if _find_in(folder for folder in folders if os.path.realpath(folder) not in passing):
        return PROGRAM
    started = os.path.abspath(sys.argv[0])
    own = [os.path.dirname(started)] if os.path.basename(started) == PROGRAM else []
    found = _find_in((*own, scripts, *folders))
    if not found:
        raise UsageError(f"cannot find the program '{PROGRAM}'", hint="pip install coral-git")
    return found


def inspect(git: Git, program: str) -> DriverReport:
    """Compare the configuration in force with what ``install`` would write.

    Args:
        git: runs in the repository, or anywhere for what is configured outside of repositories.
        program: the program, as ``find_program`` gives it.
    """
    values: dict[str, str] = {}
    scopes: dict[str, str] = {}
    every: set[str] = set()
    for scope, key, value in _read(git):
        values[key], scopes[key] = value, scope
        every.add(scope)
    if not values:
        return DriverReport(DriverState.ABSENT)
    filter_key = next((key for key in _COMMANDS[:3] if key in values), "")
    match = _OURS.search(values.get(filter_key, ""))
    return DriverReport(
        _judge(values, settings(program)),
        scopes.get(filter_key, ""),
        _unquote(match[1]) if match else "",
        tuple(scope for scope in (*SCOPES, "command") if scope in every),
    )


def install(git: Git, scope: str, program: str) -> None:
    """Write the drivers to the configuration of a scope; what stands there under their names is replaced.

    Args:
        git: runs in the repository (anywhere for ``global`` and ``system``).
        scope: one of ``SCOPES``.
        program: the program, as ``find_program`` gives it.

    Raises:
        UsageError: there is no such scope.
        GitError: git cannot write the configuration.
    """
    option = _option(scope)
    present = {key: value for found, key, value in _read(git) if found == scope}
    for key, value in settings(program).items():
        if present.get(key) != value:
            git.run("config", option, "--replace-all", key, value)


def uninstall(git: Git, scope: str) -> bool:
    """Remove our drivers from the configuration of a scope; those of somebody else stay.

    Args:
        git: runs in the repository (anywhere for ``global`` and ``system``).
        scope: one of ``SCOPES``.

    Returns:
        Whether there was something to remove.

    Raises:
        UsageError: there is no such scope.
        GitError: git cannot write the configuration.
    """
    option = _option(scope)
    present = {key: value for found, key, value in _read(git) if found == scope}
    if _judge(present, {}) is DriverState.FOREIGN:
        return False
    for key in present:
        git.run("config", option, "--unset-all", key)
    return bool(present)


def _judge(values: Mapping[str, str], wanted: Mapping[str, str]) -> DriverState:
    """The state of these values, against those that would be written now."""
    if not values:
        return DriverState.ABSENT
    if not all(_OURS.search(values[key]) for key in _COMMANDS if key in values):
        return DriverState.FOREIGN
    return DriverState.OURS if values == wanted else DriverState.OUTDATED


def _read(git: Git) -> Iterator[tuple[str, str, str]]:
    """Scope, key and value of everything under our keys, weakest scope first."""
    ours = settings(PROGRAM)
    fields = git.run("config", "--list", "-z", "--show-scope").split(b"\0")
    for scope, setting in zip(fields[0:-1:2], fields[1::2], strict=True):
        name, _, value = setting.partition(b"\n")
        key = os.fsdecode(name)
        if key in ours:
            yield os.fsdecode(scope), key, os.fsdecode(value)


def _option(scope: str) -> str:
    if scope not in SCOPES:
        raise UsageError(
            f"no scope '{scope}' in git's configuration", hint=f"it is one of: {', '.join(SCOPES)}"
        )
    return f"--{scope}"


def _find_in(folders: Iterable[str]) -> str:
    """The absolute path of the program in the first folder that has it, or an empty string."""
    for folder in folders:
        path = os.path.join(folder, PROGRAM)
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return os.path.abspath(path)
    return ""


def _unquote(word: str) -> str:
    with contextlib.suppress(ValueError):
        return " ".join(shlex.split(word))
    return word
