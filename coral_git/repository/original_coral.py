"""Repositories of the original Coral (the package coral-ml): commits, branches, versions.

    .coral/HEAD                              "ref: refs/heads/<branch>", or the id of a commit
    .coral/refs/heads/<branch>               JSON: commit_hash
    .coral/objects/commits/<id>.json         JSON: parent_hashes, weight_hashes, delta_weights, metadata
    .coral/versions/<id>.json                JSON: name, commit_hash, description, metrics
    .coral/objects/weights.h5                HDF5: weights/<hash>, deltas/<hash>

The names of branches and the ids of commits are part of paths, and are looked at before.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from coral_git.errors import UsageError
from coral_git.limits import Limits

FOLDER = ".coral"
_STORE = os.path.join("objects", "weights.h5")
_ID = re.compile(r"[0-9a-f]{1,64}")
_BRANCH = re.compile(r"ref: refs/heads/(.+)")
_LATEST = 1 << 40

Json = dict[str, Any]


@dataclass(frozen=True)
class OriginalCommit:
    """A commit.

    Attributes:
        id: its id.
        parents: the ids of its parents.
        weights: name of a weight → hash.
        deltas: name of a weight → hash of a delta, which may be the only copy.
        author: name of the author.
        email: their address.
        message: the message.
        seconds: when it was made, since the epoch.
        zone: the offset of the time zone, e.g. ``+0200``.
        tags: the words it was tagged with.
    """

    id: str
    parents: tuple[str, ...]
    weights: dict[str, str]
    deltas: dict[str, str]
    author: str
    email: str
    message: str
    seconds: int
    zone: str
    tags: tuple[str, ...]


@dataclass(frozen=True)
class OriginalVersion:
    """A commit with a name.

    Attributes:
        name: the name.
        commit: the id of the commit.
        message: description and metrics; empty where there are none.
    """

    name: str
    commit: str
    message: str


def is_original(source: str) -> bool:
    """Whether a folder is a repository of the original Coral."""
    return os.path.isfile(os.path.join(source, FOLDER, _STORE))


class OriginalRepository:
    """What is known of a repository without its weights.

    Args:
        source: its folder.
        limits: the caps.
    """

    def __init__(self, source: str, limits: Limits) -> None:
        self.source = source
        self._folder = os.path.join(source, FOLDER)
        self._limits = limits

    @property
    def store_path(self) -> str:
        """The HDF5 file with the weights."""
        return os.path.join(self._folder, _STORE)

    def find(self, reference: str | None) -> OriginalCommit:
        """The commit of a branch, of a version, or with an id; of HEAD by default.

        Raises:
            UsageError: there is none.
        """
        name = reference
        if name is None:
            head = self._read("HEAD").decode("utf-8", "replace").strip()
            branch = _BRANCH.fullmatch(head)
            name = branch[1] if branch else head
        found = self._branch(name) or next(
            (version.commit for version in self.versions() if version.name == name), name
        )
        if not _ID.fullmatch(found) or not os.path.isfile(self._path("objects", "commits", f"{found}.json")):
            raise UsageError(f"'{self.source}' has no branch, version or commit '{name}'")
        return self.commit(found)

    def history(self, tip: OriginalCommit) -> list[OriginalCommit]:
        """A commit and all before it, parents first.

        Raises:
            UsageError: one of them cannot be read.
        """
        known = {tip.id: tip}
        ordered: dict[str, OriginalCommit] = {}
        waiting = [tip.id]
        while waiting:
            commit = known[waiting[-1]]
            missing = [parent for parent in commit.parents if parent not in known]
            known.update({parent: self.commit(parent) for parent in missing})
            if missing:
                waiting += reversed(missing)
            else:
                ordered.setdefault(waiting[-1], commit)
                waiting.pop()
        return list(ordered.values())

    def commit(self, commit_id: str) -> OriginalCommit:
        """A commit by its id.

        Raises:
            UsageError: it cannot be read.
        """
        if not _ID.fullmatch(commit_id):
            raise UsageError(f"'{self.source}' names an odd commit: {commit_id!a}")
        value = self._json("objects", "commits", f"{commit_id}.json")
        try:
            metadata = value["metadata"]
            seconds, zone = _time(metadata["timestamp"])
            return OriginalCommit(
                commit_id,
                tuple(parent for parent in _texts(value.get("parent_hashes")) if parent),
                _mapping(value["weight_hashes"]),
                _mapping(value.get("delta_weights")),
                str(metadata.get("author", "")),
                str(metadata.get("email", "")),
                str(metadata.get("message", "")),
                seconds,
                zone,
                tuple(_texts(metadata.get("tags"))),
            )
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError, OSError) as error:
            raise UsageError(f"the commit '{commit_id}' of '{self.source}' cannot be understood") from error

    def versions(self) -> list[OriginalVersion]:
        """The versions, by their names.

        Raises:
            UsageError: one of them cannot be read.
        """
        folder = self._path("versions")
        files = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
        found = []
        for file in files:
            if file.endswith(".json"):
                value = self._json("versions", file)
                name, commit = value.get("name"), value.get("commit_hash")
                if isinstance(name, str) and isinstance(commit, str):
                    found.append(OriginalVersion(name, commit, "\n".join(_description(value))))
        return sorted(found, key=lambda version: (version.name, version.commit))

    def _branch(self, name: str) -> str:
        """The commit of a branch; empty where there is no such branch, or no commit on it."""
        if (
            not name.isprintable()
            or os.pardir in name.split("/")
            or name.startswith("/")
            or set(name) & set("\\:")
        ):
            return ""
        if not os.path.isfile(self._path("refs", "heads", name)):
            return ""
        commit = self._json("refs", "heads", name).get("commit_hash")
        return commit if isinstance(commit, str) else ""

    def _path(self, *parts: str) -> str:
        return os.path.join(self._folder, *parts)

    def _read(self, *parts: str) -> bytes:
        path = self._path(*parts)
        try:
            with open(path, "rb") as file:
                data = file.read(self._limits.header_bytes + 1)
        except OSError as error:
            raise UsageError(f"cannot read '{path}': {(error.strerror or str(error)).lower()}") from error
        if len(data) > self._limits.header_bytes:
            raise UsageError(f"'{path}' is too long")
        return data

    def _json(self, *parts: str) -> Json:
        try:
            value = json.loads(self._read(*parts))
        except (ValueError, RecursionError) as error:
            raise UsageError(f"'{self._path(*parts)}' is no valid JSON") from error
        if not isinstance(value, dict):
            raise UsageError(f"'{self._path(*parts)}' is no JSON object")
        return value


def _time(text: str) -> tuple[int, str]:
    """Seconds and time zone; a time without a zone is one of this machine, as coral-ml writes it."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.astimezone()
    seconds = int(moment.timestamp())
    if not 0 <= seconds < _LATEST:
        raise ValueError("too early or too late for git")
    return seconds, moment.strftime("%z")[:5]


def _texts(value: object) -> list[str]:
    """A list of texts; empty for None."""
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise TypeError("no list of texts")
    return value


def _mapping(value: object) -> dict[str, str]:
    """Name → hash; empty for None. What has no hash is left out."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise TypeError("no mapping")
    found = {name: digest for name, digest in value.items() if digest is not None}
    if not all(isinstance(digest, str) and _ID.fullmatch(digest) for digest in found.values()):
        raise ValueError("a hash is odd")
    return found


def _description(value: Json) -> Iterator[str]:
    """What a version says of itself, line by line."""
    if isinstance(value.get("description"), str):
        yield value["description"]
    metrics = value.get("metrics")
    if isinstance(metrics, dict):
        yield from (f"{name}: {metric}" for name, metric in sorted(metrics.items()))
