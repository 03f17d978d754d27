"""The registry of models: versions, aliases, stages and deployments, read from git's own objects.

A version is an annotated tag ``<model>/v<number>``. What happens to versions later is a chain of commits at
``refs/coral/registry/<model>``, each with trailers that say one event; the state of a model is what all
events, one after the other, come to. So nothing is ever overwritten, who did what and when is in git's own
objects, they can be signed, and two people who append at the same time lose nothing.
See ``docs/format/registry.md``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from coral_git.errors import UsageError
from coral_git.git.command import Git
from coral_git.history.commits import Commit, walk
from coral_git.history.facts import Facts, read_facts
from coral_git.history.tags import Tag, list_tags
from coral_git.manifest.escape import printable

REGISTRY = "refs/coral/registry/"
MODEL = "Coral-Model"
VERSION = "Coral-Version"
FILE = "Coral-File"
ALIAS = "Coral-Alias"
STAGE = "Coral-Stage"
DEPLOYED = "Coral-Deployed"
WITHDRAWN = "Coral-Withdrawn"

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_TAG = re.compile(r"(?P<model>.+)/v(?P<number>[1-9][0-9]{0,8})")


class File(NamedTuple):
    """A weight file of a version: its path from the root, and its SHA-256 in hexadecimal."""

    path: str
    sha256: str


class Deployment(NamedTuple):
    """Where a version runs, who said so, and when (in seconds since the epoch)."""

    place: str
    by: str
    time: int


class ModelVersion(NamedTuple):
    """A version of a model.

    Attributes:
        model: its name.
        number: 1 for the first.
        tag: the annotated tag.
        files: its weight files.
        facts: what is said about it: metrics and labels.
    """

    model: str
    number: int
    tag: Tag
    files: tuple[File, ...]
    facts: Facts


class Event(NamedTuple):
    """Something that happened to a model.

    Attributes:
        key: what kind of event, a key of a trailer.
        name: the alias, or the number of the version.
        value: the number of the version, the stage, or the place.
        commit: the commit that says so.
    """

    key: str
    name: str
    value: str
    commit: Commit


class Model(NamedTuple):
    """A model.

    Attributes:
        name: its name.
        versions: by number.
        aliases: the number of a version by alias.
        stages: the stage by number of the version.
        deployments: where versions run, by number.
        events: all that happened, the oldest first.
    """

    name: str
    versions: Mapping[int, ModelVersion]
    aliases: Mapping[str, int]
    stages: Mapping[int, str]
    deployments: Mapping[int, tuple[Deployment, ...]]
    events: tuple[Event, ...]

    def version(self, word: str) -> ModelVersion:
        """A version by its number (``3``, ``v3``), by alias (``@champion``), or the latest (``latest``).

        Raises:
            UsageError: there is none.
        """
        number: int | None = None
        if word in ("", "latest"):
            number = max(self.versions, default=None)
        elif word.startswith("@"):
            number = self.aliases.get(word[1:])
        elif word.removeprefix("v").isdigit():
            number = int(word.removeprefix("v"))
        if number is None or number not in self.versions:
            raise UsageError(
                f"model '{printable(self.name)}' has no version '{printable(word or 'latest')}'",
                hint=f"git coral registry show {printable(self.name)}",
            )
        return self.versions[number]

    def aliases_of(self, number: int) -> list[str]:
        """The aliases that name a version."""
        return sorted(alias for alias, found in self.aliases.items() if found == number)

    def before(self, alias: str) -> int | None:
        """The version that an alias named before it named the one it names now."""
        current = self.aliases.get(alias)
        past = [event for event in self.events if event.key == ALIAS and event.name == alias]
        numbers = [int(event.value) for event in past if event.value.isdigit()]
        return next((number for number in reversed(numbers) if number != current), None)


def check_word(word: str, what: str) -> str:
    """The name of a model, an alias, a stage, itself.

    Raises:
        UsageError: it has other characters than letters, digits, ``_``, ``.`` and ``-``.
    """
    if not _NAME.fullmatch(word):
        raise UsageError(f"'{printable(word)}' is no name of {what}", hint="letters, digits, _ . -")
    return word


def list_models(git: Git) -> list[Model]:
    """Every model, by name."""
    versions: dict[str, dict[int, ModelVersion]] = {}
    for version in _versions(git):
        versions.setdefault(version.model, {})[version.number] = version
    refs = git.run("for-each-ref", "--format=%(refname)", REGISTRY).decode("utf-8", "replace").splitlines()
    names = sorted({*versions, *(ref.removeprefix(REGISTRY) for ref in refs)})
    return [_model(git, name, versions.get(name, {})) for name in names]


def read_model(git: Git, name: str) -> Model:
    """A model by name; without versions where there is none.

    Raises:
        UsageError: it cannot be a name.
    """
    check_word(name, "a model")
    found = {one.number: one for one in _versions(git, f"{name}/v*") if one.model == name}
    return _model(git, name, found)


def known_model(git: Git, name: str) -> Model:
    """A model by name.

    Raises:
        UsageError: there is none.
    """
    model = read_model(git, name)
    if not model.versions:
        raise UsageError(f"there is no model '{printable(name)}'", hint="git coral registry list")
    return model


def _versions(git: Git, *patterns: str) -> Iterator[ModelVersion]:
    for tag in list_tags(git, patterns):
        match = _TAG.fullmatch(tag.name)
        said = dict(read_facts(tag.text).others)
        if match is None or said.get(MODEL) != match["model"] or said.get(VERSION) != match["number"]:
            continue
        files = [value.partition(" ") for key, value in tag.facts.others if key == FILE]
        listed = tuple(File(path, sha256) for sha256, _, path in files)
        yield ModelVersion(match["model"], int(match["number"]), tag, listed, tag.facts)


def _model(git: Git, name: str, versions: Mapping[int, ModelVersion]) -> Model:
    aliases: dict[str, int] = {}
    stages: dict[int, str] = {}
    deployments: dict[int, list[Deployment]] = {}
    events = tuple(_events(git, name))
    for event in events:
        if event.key == ALIAS and event.value.isdigit():
            aliases[event.name] = int(event.value)
        elif event.key == ALIAS:
            aliases.pop(event.name, None)
        elif event.name.isdigit():
            number = int(event.name)
            if event.key == STAGE:
                stages[number] = event.value
            else:
                there = [one for one in deployments.get(number, []) if one.place != event.value]
                if event.key == DEPLOYED:
                    there.append(Deployment(event.value, event.commit.author, event.commit.time))
                deployments[number] = there
    kept = {number: tuple(found) for number, found in deployments.items() if found}
    return Model(name, dict(sorted(versions.items())), aliases, stages, kept, events)


def _events(git: Git, name: str) -> Iterator[Event]:
    ref = REGISTRY + name
    if not git.succeeds("rev-parse", "--verify", "--quiet", ref):
        return
    for commit in reversed(list(walk(git, ("--topo-order", ref)))):
        for key, text in commit.facts.others:
            if key in (ALIAS, STAGE, DEPLOYED, WITHDRAWN):
                subject, _, value = text.partition("=")
                yield Event(key, subject, value, commit)
