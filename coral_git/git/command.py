"""The only module that runs the git binary.

The binary is looked up once, in the absolute entries of the search path, so that a ``git`` in the current
directory is never run. Messages are asked for in English, because some of them are read.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator, Mapping
from functools import cached_property, lru_cache
from typing import IO

from coral_git.errors import GitError

_REPOSITORY_VARIABLES = (
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_CEILING_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_DIR",
    "GIT_GRAFT_FILE",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_INTERNAL_SUPER_PREFIX",
    "GIT_NAMESPACE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_QUARANTINE_PATH",
    "GIT_REPLACE_REF_BASE",
    "GIT_SHALLOW_FILE",
    "GIT_WORK_TREE",
)
"""The variables by which git tells a child about one repository; they must not reach another one."""

_MESSAGE_LINES = 6

Process = subprocess.Popen[bytes]
"""A git that runs beside us."""


@lru_cache(maxsize=1)
def executable() -> str:
    """The path of the git binary.

    Raises:
        GitError: there is none.
    """
    name = "git.exe" if os.name == "nt" else "git"
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        path = os.path.join(folder, name)
        if os.path.isabs(folder) and os.access(path, os.X_OK) and os.path.isfile(path):
            return path
    raise GitError("there is no git on the search path", hint="install git 2.35 or newer")


def clean_environment() -> dict[str, str]:
    """The environment without what git says about the calling repository; the user's settings stay."""
    return {name: value for name, value in os.environ.items() if name not in _REPOSITORY_VARIABLES}


class Git:
    """Runs git in one place.

    Args:
        directory: where git is started; the current directory by default.
        env: the whole environment of git; that of this process by default.
    """

    def __init__(self, directory: str | None = None, env: Mapping[str, str] | None = None) -> None:
        self.directory = directory
        self._env = env

    @classmethod
    def elsewhere(cls, git_dir: str) -> Git:
        """Git for another repository, whatever repository this process was called for."""
        return cls(git_dir, {**clean_environment(), "GIT_DIR": git_dir})

    @cached_property
    def version(self) -> tuple[int, ...]:
        """The version of the git binary, e.g. ``(2, 39, 5)``."""
        words = self.run("version").decode().split()
        numbers = words[2].split(".") if len(words) > 2 else []
        return tuple(int(number) for number in numbers[:3] if number.isdigit())

    def run(
        self, *args: str, input: bytes = b"", check: bool = True, env: Mapping[str, str] | None = None
    ) -> bytes:
        """Standard output of ``git <args>``.

        Args:
            args: the arguments after ``git``.
            input: what git reads on its standard input.
            check: whether a failure is an error; without, what was printed before it is returned.
            env: variables to add to the environment.

        Raises:
            GitError: git failed and ``check`` is set; the message carries what it said.
        """
        done = subprocess.run(
            [executable(), *args],
            input=input,
            capture_output=True,
            cwd=self.directory,
            env=self._environment(env),
            check=False,
        )
        if check and done.returncode:
            raise failure(args, done.returncode, done.stderr)
        return done.stdout

    def succeeds(self, *args: str) -> bool:
        """Whether ``git <args>`` exits with 0; what it prints is dropped."""
        done = subprocess.run(
            [executable(), *args],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self.directory,
            env=self._environment(None),
            check=False,
        )
        return done.returncode == 0

    def call(self, *args: str, env: Mapping[str, str] | None = None) -> int:
        """Run ``git <args>`` for the user, on the terminal of this process, and return its exit code."""
        done = subprocess.run(
            [executable(), *args],
            cwd=self.directory,
            env={**(os.environ if self._env is None else self._env), **(env or {})},
            check=False,
        )
        return done.returncode if done.returncode >= 0 else 128 - done.returncode

    @contextlib.contextmanager
    def stream(self, *args: str) -> Iterator[IO[bytes]]:
        """Standard output of ``git <args>`` as a file, while git writes it.

        Raises:
            GitError: at the end of the block, when git failed.
        """
        with self.start(*args, stderr=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            yield process.stdout
            process.stdout.close()
            message = process.stderr.read()
            if process.wait():
                raise failure(args, process.returncode, message)

    def start(self, *args: str, stderr: int | None = None) -> subprocess.Popen[bytes]:
        """Start a long-lived ``git <args>`` with pipes to its standard input and output."""
        return subprocess.Popen(
            [executable(), *args],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            cwd=self.directory,
            env=self._environment(None),
        )

    def _environment(self, added: Mapping[str, str] | None) -> dict[str, str]:
        base = os.environ if self._env is None else self._env
        return {
            **base,
            "LC_ALL": "C",
            "GIT_TERMINAL_PROMPT": base.get("GIT_TERMINAL_PROMPT", "1"),
            **(added or {}),
        }


def failure(args: tuple[str, ...], status: int, stderr: bytes) -> GitError:
    """The error for a git that failed; control characters in what it said are escaped."""
    text = stderr.decode("utf-8", "replace")
    lines = [line for line in text.splitlines() if line.strip()][-_MESSAGE_LINES:]
    said = "\n".join(
        "".join(char if char.isprintable() else ascii(char)[1:-1] for char in line) for line in lines
    )
    name = next((word for word in args if not word.startswith("-")), "git")
    return GitError(f"git {name} failed ({status}): {said}" if said else f"git {name} failed ({status})")
