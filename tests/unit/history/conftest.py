"""Histories of real git, made without a work tree; weight files are cleaned in this process."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from coral_git.git.command import Git
from coral_git.pipeline.clean import clean_content
from coral_git.pipeline.workspace import Workspace

Tensors = Mapping[str, np.ndarray]


def safetensors(tensors: Tensors) -> bytes:
    """A file of float32 tensors."""
    header, body = {}, b""
    for name, values in tensors.items():
        data = values.astype("<f4").tobytes()
        place = [len(body), len(body) + len(data)]
        header[name] = {"dtype": "F32", "shape": list(values.shape), "data_offsets": place}
        body += data
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


class History:
    """A repository whose commits are made by plumbing.

    Attributes:
        path: its root.
    """

    def __init__(self, path: Path, object_format: str = "sha1") -> None:
        self.path = path
        path.mkdir(parents=True)
        self.git("init", "-q", "-b", "main", f"--object-format={object_format}")
        self._seconds = itertools.count(1_700_000_000)
        self.workspace = Workspace.open(str(path))

    @property
    def runner(self) -> Git:
        """Git as the package runs it."""
        return self.workspace.git

    def git(self, *args: str | bytes, data: bytes = b"", env: Mapping[str, str] | None = None) -> str:
        """What ``git <args>`` prints."""
        done = subprocess.run(
            [b"git", *map(os.fsencode, args)],
            cwd=self.path,
            input=data,
            capture_output=True,
            check=False,
            env={**os.environ, **(env or {})},
        )
        assert done.returncode == 0, done.stderr.decode()
        return os.fsdecode(done.stdout).rstrip("\n")

    def commit(
        self,
        message: str | bytes = "commit",
        files: Mapping[str | bytes, Tensors | bytes | None] | None = None,
        parents: Sequence[str] | None = None,
        branch: str = "main",
        **env: str,
    ) -> str:
        """Make a commit and move a branch to it.

        Args:
            message: taken as it is.
            files: tensors, or bytes, or None for what is removed; others stay as in the first parent.
            parents: the head of the branch by default.
            branch: is checked out, as far as a repository without files can.
            env: variables for git.
        """
        self.git("symbolic-ref", "HEAD", f"refs/heads/{branch}")
        if parents is None:
            parents = self.git("for-each-ref", "--format=%(objectname)", f"refs/heads/{branch}").split()
        self.git("read-tree", parents[0] if parents else "--empty")
        lines = (self._line(os.fsencode(path), content) for path, content in (files or {}).items())
        self.git("update-index", "-z", "--index-info", data=b"".join(lines))
        tree = self.git("write-tree")
        date = f"{next(self._seconds)} +0000"
        oid = self.git(
            "commit-tree",
            tree,
            *(word for parent in parents for word in ("-p", parent)),
            data=os.fsencode(message),
            env={"GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date, **env},
        )
        self.git("update-ref", f"refs/heads/{branch}", oid)
        return oid

    def note(self, oid: str, text: str) -> None:
        """Write a note as ``git coral metrics add`` does."""
        self.git("notes", "--ref=refs/notes/coral", "append", "-F", "-", oid, data=text.encode())

    def tag(self, name: str, oid: str, message: str) -> None:
        """Make an annotated tag."""
        self.git("tag", "-a", "--cleanup=verbatim", "-F", "-", name, oid, data=message.encode())

    def _line(self, path: bytes, content: Tensors | bytes | None) -> bytes:
        """A line for ``git update-index --index-info``."""
        if content is None:
            return b"0 " + b"0" * len(self.git("hash-object", "--stdin")) + b"\t" + path + b"\0"
        if not isinstance(content, bytes):
            content = clean_content(self.workspace, path, [safetensors(content)])
        oid = self.git("hash-object", "-w", "--stdin", data=content)
        return f"100644 {oid}\t".encode() + path + b"\0"


@pytest.fixture(scope="module", autouse=True)
def _surroundings(tmp_path_factory) -> Iterator[None]:
    """No variable, file or hook of the user's reaches git."""
    home = str(tmp_path_factory.mktemp("home"))
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(("GIT_", "CORAL_")) and name != "CORAL_KERNEL":
                patch.delenv(name)
        for name in ("HOME", "XDG_CONFIG_HOME"):
            patch.setenv(name, home)
        patch.setenv("GIT_CONFIG_NOSYSTEM", "1")
        for role in ("AUTHOR", "COMMITTER"):
            patch.setenv(f"GIT_{role}_NAME", "T")
            patch.setenv(f"GIT_{role}_EMAIL", "t@example.org")
        yield


@pytest.fixture(scope="module")
def make_history(tmp_path_factory) -> Iterator[Callable[..., History]]:
    """Makes repositories: ``make_history(object_format="sha1")``."""
    made = []

    def make(object_format: str = "sha1") -> History:
        made.append(History(tmp_path_factory.mktemp("history") / "repo", object_format))
        return made[-1]

    yield make
    for history in made:
        history.workspace.close()


@pytest.fixture
def history(make_history) -> History:
    """An empty repository."""
    return make_history()


@pytest.fixture(scope="session")
def tensors() -> Callable[..., dict[str, np.ndarray]]:
    """Makes small tensors of shape (2, 3) from seeds: ``tensors(a=1, b=2)``."""

    def make(**seeds: int) -> dict[str, np.ndarray]:
        return {
            name: np.random.default_rng(seed).standard_normal((2, 3)).astype(np.float32)
            for name, seed in seeds.items()
        }

    return make
