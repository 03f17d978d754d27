"""Writing the registry of models: versions as tags, events as commits; sharing both."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from coral_git.errors import GitError, UsageError
from coral_git.git.chains import append_commit, empty_tree, tip
from coral_git.git.revisions import resolve_commit
from coral_git.history.facts import trailer_lines
from coral_git.history.registry import (
    ALIAS,
    DEPLOYED,
    FILE,
    MODEL,
    REGISTRY,
    STAGE,
    VERSION,
    WITHDRAWN,
    Model,
    ModelVersion,
    check_word,
    read_model,
)
from coral_git.manifest.escape import printable
from coral_git.pipeline.workspace import Workspace
from coral_git.repository.listing import list_weights

_ATTEMPTS = 20


class NewVersion(NamedTuple):
    """A version to register.

    Attributes:
        revision: the commit.
        paths: its weight files, from the root; all of the commit without any.
        description: message of the tag.
        metrics: what was measured of it.
        labels: words about it.
        sign: whether the tag and the events are signed.
    """

    revision: str
    paths: tuple[str, ...] = ()
    description: str = ""
    metrics: Mapping[str, float] = {}
    labels: tuple[str, ...] = ()
    sign: bool = False


def register(workspace: Workspace, name: str, new: NewVersion) -> ModelVersion:
    """Make the next version of a model; the one that is there already for the same commit and files.

    Raises:
        UsageError: the name is none, or the commit has no such weight files.
    """
    git = workspace.git
    commit = resolve_commit(git, new.revision)
    found = {os.fsdecode(file.path): file.manifest.sha256.hex() for file in list_weights(workspace, commit)}
    missing = [path for path in new.paths if path not in found]
    if missing or not found:
        what = f"'{printable(missing[0])}'" if missing else "no weight files"
        raise UsageError(
            f"'{printable(new.revision)}' has {'no weight file ' if missing else ''}{what}",
            hint="git coral ls-tree REV",
        )
    files = {path: found[path] for path in (new.paths or found)}
    for _ in range(_ATTEMPTS):
        model = read_model(git, name)
        for version in model.versions.values():
            if version.tag.commit == commit and {one.path: one.sha256 for one in version.files} == files:
                return version
        number = max(model.versions, default=0) + 1
        try:
            _tag(workspace, name, number, commit, files, new)
        except GitError:
            if not tip(git, f"refs/tags/{name}/v{number}"):
                raise
            continue  # somebody else made this version meanwhile
        return read_model(git, name).versions[number]
    raise GitError(f"cannot make a version of '{name}'")


def _tag(
    workspace: Workspace, name: str, number: int, commit: str, files: Mapping[str, str], new: NewVersion
) -> None:
    lines = [f"{MODEL}: {name}", f"{VERSION}: {number}"]
    lines += [f"{FILE}: {sha256} {printable(path)}" for path, sha256 in files.items()]
    lines += trailer_lines(new.metrics, new.labels)
    message = f"{new.description or f'{name} v{number}'}\n\n" + "\n".join(lines) + "\n"
    option = "-s" if new.sign else "-a"
    words = ("tag", option, "--cleanup=verbatim", "-F", "-", "--", f"{name}/v{number}", commit)
    workspace.git.run(*words, input=message.encode())


def set_alias(
    workspace: Workspace, model: Model, alias: str, number: int | None, *, sign: bool = False
) -> None:
    """Let an alias name a version, or nothing any more."""
    check_word(alias, "an alias")
    value = "" if number is None else str(number)
    shown = f"@{alias} is v{number}" if number is not None else f"@{alias} is no more"
    _append(workspace, model, shown, [f"{ALIAS}: {alias}={value}"], sign)


def set_stage(workspace: Workspace, model: Model, number: int, stage: str, *, sign: bool = False) -> None:
    """Put a version into a stage."""
    check_word(stage, "a stage")
    _append(workspace, model, f"v{number} to {stage}", [f"{STAGE}: {number}={stage}"], sign)


def roll_back(workspace: Workspace, model: Model, alias: str, *, sign: bool = False) -> int:
    """Let an alias name the version again that it named before. Gives its number.

    Raises:
        UsageError: it named no other one.
    """
    number = model.before(alias)
    if number is None:
        raise UsageError(
            f"@{printable(alias)} of '{printable(model.name)}' named no other version before",
            hint=f"git coral registry history {printable(model.name)}",
        )
    text = f"roll @{alias} back to v{number}"
    _append(workspace, model, text, [f"{ALIAS}: {alias}={number}"], sign)
    return number


def deploy(
    workspace: Workspace, model: Model, number: int, place: str, *, withdraw: bool = False, sign: bool = False
) -> None:
    """Say that a version runs somewhere, or does so no more; who and when is in the commit.

    Raises:
        UsageError: the place is empty, or has a line feed.
    """
    if not place.strip() or not place.isprintable():
        raise UsageError("a place is a line of text", hint="e.g. --where eu-west/api")
    key, verb = (WITHDRAWN, "withdrawn from") if withdraw else (DEPLOYED, "deployed to")
    _append(workspace, model, f"v{number} {verb} {place}", [f"{key}: {number}={place}"], sign)


def _append(workspace: Workspace, model: Model, subject: str, lines: Sequence[str], sign: bool) -> None:
    git = workspace.git
    message = f"{subject}\n\n" + "\n".join([f"{MODEL}: {model.name}", *lines]) + "\n"
    tree = empty_tree(git)
    append_commit(git, REGISTRY + model.name, lambda _: tree, message, options=["-S"] if sign else [])


def registry_refs(workspace: Workspace, names: Sequence[str]) -> list[str]:
    """The refs of models: their tags and their chains of events."""
    patterns = [word for name in names for word in (f"refs/tags/{name}/v*", REGISTRY + name)]
    output = workspace.git.run("for-each-ref", "--format=%(refname)", *patterns) if patterns else b""
    return output.decode().splitlines()


def fetch_events(workspace: Workspace, remote: str, names: Sequence[str]) -> int:
    """Fetch tags and events of models; events that were appended here and there are joined by a merge commit.

    Returns:
        The exit code of ``git fetch``.
    """
    git = workspace.git
    place = "refs/coral/fetched-registry/"
    specs = [f"+{REGISTRY}{name}:{place}{name}" for name in names]
    specs += [f"refs/tags/{name}/*:refs/tags/{name}/*" for name in names]
    status = git.call("fetch", "--no-tags", remote, *specs)
    if status:
        return status
    for ref in git.run("for-each-ref", "--format=%(refname)", place).decode().splitlines():
        _join(workspace, ref.removeprefix(place), tip(git, ref))
        git.run("update-ref", "-d", ref)
    return 0


def _join(workspace: Workspace, name: str, theirs: str) -> None:
    git = workspace.git
    ref = REGISTRY + name
    ours = tip(git, ref)
    if not ours or git.succeeds("merge-base", "--is-ancestor", ours, theirs):
        git.run("update-ref", ref, theirs, ours or "0" * len(theirs))
    elif not git.succeeds("merge-base", "--is-ancestor", theirs, ours):
        tree = empty_tree(git)
        message = f"join what was said about {name} elsewhere\n\n{MODEL}: {name}\n"
        append_commit(git, ref, lambda _: tree, message, others=[theirs])
