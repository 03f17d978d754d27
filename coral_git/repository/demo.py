"""The demonstration: successive versions of a model through git, each compared byte for byte at the end."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shlex
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

from coral_git import fsops
from coral_git.errors import UsageError, from_os_error
from coral_git.git import drivers
from coral_git.git.command import Git
from coral_git.manifest.escape import printable
from coral_git.pipeline.progress import format_size

Show = Callable[[str], None]
"""Takes a line for the user: a command after ``$``, or a remark after ``#``."""

_SETTINGS = (
    "user.name=coral-git demo",
    "user.email=demo@example.org",
    "init.defaultBranch=main",
    "advice.detachedHead=false",
    f"core.excludesFile={os.devnull}",
    f"core.attributesFile={os.devnull}",
)
_KEPT = frozenset({"GIT_EXEC_PATH", "CORAL_KERNEL", "CORAL_DEBUG"})
_BLAS_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
_COPY_BYTES = 1 << 20
_PLAIN_WORD = re.compile(r"[\w@%+=:,./^-][\w@%+=:,./^~-]*", re.ASCII)


class Source(NamedTuple):
    """One version of the model before it is in git.

    Attributes:
        message: the commit message.
        remark: what happened, as a line for the user.
        write: writes the file to a path.
    """

    message: str
    remark: str
    write: Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Version:
    """What became of one version of the model.

    Attributes:
        message: its commit message.
        raw_bytes: length of the file.
        stored_bytes: by how much the store grew.
        add_seconds: wall time of ``git add``.
        checkout_seconds: wall time of ``git checkout`` in the clone, with the fetch of what it needs.
        sha256: of the file that was added, hexadecimal.
        restored_sha256: of the file that came back.
    """

    message: str
    raw_bytes: int
    stored_bytes: int
    add_seconds: float
    checkout_seconds: float
    sha256: str
    restored_sha256: str

    @property
    def identical(self) -> bool:
        """Whether the file came back byte for byte."""
        return self.sha256 == self.restored_sha256


@dataclass(frozen=True, slots=True)
class DemoReport:
    """The outcome of a demonstration.

    Attributes:
        versions: in the order of their commits.
        server_bytes: everything in the bare repository after the push, git's own files too.
        push_seconds: wall time of ``git push``.
        clone_seconds: wall time of ``git coral clone``.
    """

    versions: tuple[Version, ...]
    server_bytes: int
    push_seconds: float
    clone_seconds: float

    @property
    def raw_bytes(self) -> int:
        """What a plain copy of each version takes."""
        return sum(version.raw_bytes for version in self.versions)

    @property
    def stored_bytes(self) -> int:
        """By how much the store grew in all."""
        return sum(version.stored_bytes for version in self.versions)

    @property
    def identical(self) -> bool:
        """Whether every file came back byte for byte."""
        return all(version.identical for version in self.versions)


@contextlib.contextmanager
def demo_folder(keep: str | None) -> Iterator[str]:
    """A folder to work in: a new one that is removed at the end, or the one that is to be kept.

    Raises:
        UsageError: the folder that is to be kept has something in it already.
    """
    if keep is not None:
        folder = os.path.abspath(keep)
        try:
            fsops.make_directory(folder)
            filled = bool(os.listdir(folder))
        except OSError as error:
            raise from_os_error(error, f"use the folder '{printable(keep)}'") from error
        if filled:
            raise UsageError(f"'{printable(keep)}' is not empty", hint="name a new folder after '--keep'")
        yield folder
        return
    folder = os.path.join(_temporary_place(), fsops.unique_name("coral-demo"))
    try:
        os.mkdir(folder, 0o700)
    except OSError as error:
        raise from_os_error(error, f"make the folder '{printable(folder)}'") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _temporary_place() -> str:
    for name in ("TMPDIR", "TEMP", "TMP"):
        if os.environ.get(name):
            return os.path.abspath(os.environ[name])
    return "/tmp"  # noqa: S108 - what is made in it has a random name and belongs to nobody else


def run_demo(folder: str, models: Sequence[str], show: Show) -> DemoReport:
    """Commit every version, push, clone, and check every version out again.

    Args:
        folder: an empty folder to work in.
        models: weight files that serve as successive versions; without any, a network is trained.
        show: takes every command and remark.

    Raises:
        GitError: a command failed; the message carries what it said.
        StorageFullError: there is no space for a version.
        CoralError: a version cannot be read or written.
    """
    suffix = os.path.splitext(models[0])[1] if models else ".safetensors"
    name = f"model{suffix}"
    shell = _Shell(folder, show)
    shell.git("init", "--quiet", "model")
    shell.enter("model")
    shell.git("coral", "init")
    shell.git("coral", "track", *([f"*{suffix}"] if suffix[1:].isalnum() else ["--filename", name]))
    added: list[Version] = []
    for source in _own(models) if models else _trained():
        added.append(_add(shell, name, source, added[-1] if added else None))
    push_seconds = _push(shell)
    shell.enter(os.pardir)
    clone_seconds = shell.git("coral", "clone", "--quiet", "server.git", "clone")
    shell.enter("clone")
    versions = [_restore(shell, name, version, place) for version, place in _places(added)]
    return DemoReport(
        tuple(versions), _folder_bytes(os.path.join(folder, "server.git")), push_seconds, clone_seconds
    )


class _Shell:
    """Runs git as a user would, without anything of the user's configuration, and shows each command."""

    def __init__(self, folder: str, show: Show) -> None:
        self.directory = folder
        self.show = show
        self._environment = _environment()

    def enter(self, name: str) -> None:
        """Change the directory."""
        self.show(f"$ cd {name}")
        self.directory = os.path.normpath(os.path.join(self.directory, name))

    def git(self, *words: str) -> float:
        """Run a git command; gives the seconds that it took."""
        shown = (_quote(word) for word in words if word != "--quiet")
        self.show(" ".join(("$ git", *shown)))
        options = [option for setting in _SETTINGS for option in ("-c", setting)]
        start = time.perf_counter()
        Git(self.directory, self._environment).run(*options, *words)
        return time.perf_counter() - start

    def path(self, *names: str) -> str:
        """A path below the current directory."""
        return os.path.join(self.directory, *names)


def _quote(word: str) -> str:
    """A word as one types it."""
    return word if _PLAIN_WORD.fullmatch(word) else printable(shlex.quote(word))


def _environment() -> dict[str, str]:
    """The environment of git: ours comes first on the search path, and nothing configures it."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in _KEPT or not (name.startswith(("GIT_", "CORAL_")) or name == "CI")
    }
    kept |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "GIT_ATTR_NOSYSTEM": "1"}
    kept |= {"GIT_TERMINAL_PROMPT": "0"}
    program = drivers.find_program()
    if os.path.isabs(program):
        kept["PATH"] = os.pathsep.join((os.path.dirname(program), os.environ.get("PATH", os.defpath)))
    return kept


def _trained() -> Iterator[Source]:
    """Checkpoints of a network that is trained now, in this process."""
    for name in _BLAS_THREADS:  # the layers are small: threads that wait for each other take longer
        os.environ.setdefault(name, "1")
    from coral_git.repository.demo_training import train

    for checkpoint in train():
        remark = f"{checkpoint.message}: reads {checkpoint.accuracy:.1%} of unseen digits"
        yield Source(checkpoint.message, remark, partial(_write, checkpoint.data))


def _own(models: Iterable[str]) -> Iterator[Source]:
    """The user's own files."""
    for path in models:
        base = printable(os.path.basename(path))
        yield Source(base, f"the next version is {printable(path)}", partial(_copy, os.path.abspath(path)))


def _write(data: bytes, path: str) -> None:
    fsops.replace_file(path, data)


def _copy(source: str, path: str) -> None:
    """Copy a file piece by piece."""
    temporary = f"{path}.{fsops.unique_name('copy')}"
    with open(source, "rb") as file:
        fd = fsops.create_exclusive(temporary)
        try:
            while piece := file.read(_COPY_BYTES):
                fsops.write_all(fd, piece, path)
        finally:
            os.close(fd)
    fsops.rename(temporary, path)


def _add(shell: _Shell, name: str, source: Source, before: Version | None) -> Version:
    """Write, add and commit a version."""
    path = shell.path(name)
    try:
        source.write(path)
    except OSError as error:
        raise from_os_error(error, f"write '{printable(path)}'") from error
    raw_bytes, sha256 = os.path.getsize(path), _sha256(path)
    shell.show(f"# {source.remark} ({format_size(raw_bytes)})")
    store = shell.path(".git", "coral", "objects")
    stored_bytes = -_folder_bytes(store)
    seconds = shell.git("add", *([".gitattributes"] if before is None else []), name)
    stored_bytes += _folder_bytes(store)
    unchanged = before is not None and before.sha256 == sha256
    shell.git("commit", "--quiet", *(["--allow-empty"] if unchanged else []), "-m", source.message)
    return Version(source.message, raw_bytes, stored_bytes, seconds, 0.0, sha256, "")


def _push(shell: _Shell) -> float:
    """Push to a new bare repository; gives the seconds of the push alone."""
    shell.git("init", "--quiet", "--bare", "../server.git")
    shell.git("remote", "add", "origin", "../server.git")
    return shell.git("push", "--quiet", "-u", "origin", "main")


def _places(versions: Sequence[Version]) -> Iterator[tuple[Version, str]]:
    """Each version with the name of its commit in the clone."""
    for back, version in zip(range(len(versions) - 1, -1, -1), versions, strict=True):
        yield version, f"main~{back}" if back else "main"


def _restore(shell: _Shell, name: str, version: Version, place: str) -> Version:
    """Check a version out in the clone, and look at what came."""
    seconds = shell.git("checkout", "--quiet", place)
    restored = _sha256(shell.path(name))
    same = "the same bytes" if restored == version.sha256 else "OTHER BYTES"
    shell.show(f"# {version.message}: {same}, SHA-256 {restored[:16]}...")
    return replace(version, checkout_seconds=seconds, restored_sha256=restored)


def _sha256(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _folder_bytes(folder: str) -> int:
    """Length of all files below a folder."""
    total = 0
    for place, _, names in os.walk(folder):
        total += sum(os.lstat(os.path.join(place, name)).st_size for name in names)
    return total
